"""The line of the measurements from far away, and the round trips that the start of the page takes on it."""

from __future__ import annotations

import time
import urllib.request

import pytest
from playwright.sync_api import expect

from tests.browser import listening
from tests.browser.conftest import Open, Served
from tests.browser.far import Far

pytestmark = pytest.mark.browser


def test_an_answer_takes_two_round_trips_and_is_whole(served: Served) -> None:
    with Far(served.port, 0.2) as far:
        begin = time.monotonic()
        with urllib.request.urlopen(f"{far.url}/style.css", timeout=30) as answer:
            text = answer.read()
        assert time.monotonic() - begin >= 0.4
        with urllib.request.urlopen(f"{served.url}/style.css", timeout=30) as answer:
            assert answer.read() == text
        assert far.received >= len(text)


def test_the_page_plays_from_far_away_and_loads_few_files(served: Served, open_page: Open) -> None:
    asked: list[str] = []
    with Far(served.port, 0.4) as far:
        page = open_page("about:blank")
        page.on("request", lambda request: asked.append(request.url))
        page.goto(far.url)
        expect(page.locator("#status")).to_have_text("ready")
        listening.play(page)
    scripts = [url.rsplit("/", 1)[1] for url in asked if url.endswith(".js")]
    assert set(scripts) == {"app.js", "stream-worker.js", "worklet.js"}
