"""The page at a relay: it plays, its steers reach the origin, and the origin's seed images are listed."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, expect

from tests.browser import listening
from tests.browser.conftest import Served, opened
from tests.relay.test_strangers import Relay

pytestmark = pytest.mark.browser


def test_a_page_at_a_relay_plays_and_steers(served: Served, browser: Browser) -> None:
    relay = Relay(served.url)
    try:
        relay.wait_ready()
        with opened(browser) as open_page:
            page = open_page(relay.url)
            listening.play(page)
            listening.tap(page)
            listening.steer(page, "tone at a relay")
            expect(page.locator("#now")).to_have_text("tone at a relay")
            listening.follows(page, "tone at a relay")
            count = page.evaluate("async () => (await (await fetch('api/seeds')).json()).seeds.length")
        assert count == len(served.get("/api/seeds")["seeds"])
        assert served.get("/api/stations/main")["playing"] == "tone at a relay"
    finally:
        relay.end()
