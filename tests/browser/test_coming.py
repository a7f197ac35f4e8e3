"""The page says what comes next: the journey's next stop, and the changes of others before they are audible."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser import listening
from tests.browser.conftest import Open, Served, Start
from tests.conftest import PATIENCE_MS

pytestmark = pytest.mark.browser


def test_the_next_stop_of_the_journey_is_named(start_server: Start, open_page: Open, tmp_path: Path) -> None:
    journey = tmp_path / "journey.toml"
    journey.write_text(
        '[[keyframe]]\nprompt = "first stop"\nstay = 4\ntravel = 0\n'
        '[[keyframe]]\nprompt = "second stop"\nstay = 4\ntravel = 0\n'
    )
    config = tmp_path / "stops.toml"
    config.write_text(f'[stations.main]\njourney = "{journey}"\n')
    served = start_server(config=config, timeline_idle_s=0)
    page = open_page(served.url)
    line = page.locator("#then")
    expect(line).to_have_text(re.compile(r"then (first|second) stop (in \d+ s|now)"))  # before any sound
    listening.play(page)
    expect(line).to_have_text(re.compile(r"then (first|second) stop (in \d+ s|now)"))
    heard = str(page.locator("#now").text_content())
    assert heard not in str(line.text_content())
    named = str(page.locator("#then-name").text_content())
    expect(page.locator("#now")).to_have_text(named, timeout=PATIENCE_MS)
    expect(page.locator("#then-name")).to_have_text(heard)


def test_a_change_of_somebody_else_is_announced(served: Served, open_page: Open) -> None:
    first, second = open_page(served.url), open_page(f"{served.url}/?several")
    listening.play(first)
    first.evaluate(
        """() => { window.said = [];
          const next = document.querySelector("#next");
          new MutationObserver(() => window.said.push(next.textContent)).observe(next, { childList: true }); }"""
    )
    listening.steer(second, "their church bells")
    expect(first.locator("#now")).to_have_text("their church bells")
    said = first.evaluate("said")
    assert "Next: their church bells" in said, said
    assert (
        first.evaluate("() => riffstream.app.markers.filter((each) => each.label === 'their church bells').length") == 1
    )
    # One's own change is announced once, in the words of the one who asked.
    own = second.evaluate("() => riffstream.app.markers.filter((each) => each.label === 'their church bells').length")
    assert own == 1
