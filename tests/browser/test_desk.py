"""The desk's panel: faders, buttons, double click, keyboard, and the way back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from riffstream.protocol import Mix
from tests.browser import listening
from tests.browser.conftest import Served, opened
from tests.conftest import PATIENCE_S

pytestmark = pytest.mark.browser

NEUTRAL = Mix()


@pytest.fixture(scope="module")
def page(served: Served, browser: Browser) -> Iterator[Page]:
    with opened(browser) as open_page:
        page = open_page(served.url)
        listening.play(page)
        page.get_by_role("tab", name="Desk").click()
        yield page
        # Other tests listen to the same station: a bass that stays muted is a gap in theirs.
        page.evaluate("() => riffstream.app.steer({mix: null}, 'neutral')")
        assert settled(served, lambda mix: mix["mute"] == [])["mute"] == []


def settled(served: Served, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The station's desk once it is as wanted, or after 10 s."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        mix: dict[str, Any] = served.get("/api/stations/main")["state"]["mix"]
        if wanted(mix) or time.monotonic() > deadline:
            return mix
        time.sleep(0.1)


def test_a_fader_moves_the_station_and_a_double_click_makes_it_neutral(page: Page, served: Served) -> None:
    low = page.get_by_role("slider", name="Low")
    low.focus()
    for _ in range(6):
        page.keyboard.press("ArrowLeft")
    assert settled(served, lambda mix: mix["low"] == -6)["low"] == -6
    expect(low).to_have_attribute("aria-valuetext", "−6 dB")
    low.dblclick()
    assert settled(served, lambda mix: mix["low"] == 0)["low"] == 0
    expect(low).to_have_attribute("aria-valuetext", "0 dB")


def test_mute_solo_hold_and_fade_are_switches(page: Page, served: Served) -> None:
    for name, field, on, off in (
        ("Mute drums", "mute", ["drums"], []),
        ("Solo bass", "solo", ["bass"], []),
        ("Hold the last bar", "hold", True, False),
        ("Fade to silence", "fade", True, False),
    ):
        button = page.get_by_role("button", name=name)
        button.click()
        assert settled(served, lambda mix, field=field, on=on: mix[field] == on)[field] == on
        expect(button).to_have_attribute("aria-pressed", "true")
        button.click()
        assert settled(served, lambda mix, field=field, off=off: mix[field] == off)[field] == off
        expect(button).to_have_attribute("aria-pressed", "false")


def test_neutral_and_undo_lead_back(page: Page, served: Served) -> None:
    page.get_by_role("slider", name="Width").fill("0")
    assert settled(served, lambda mix: mix["width"] == 0)["width"] == 0
    page.wait_for_timeout(2500)  # another gesture
    page.get_by_role("button", name="Neutral").click()
    assert settled(served, lambda mix: mix["width"] == 1)["width"] == 1
    expect(page.get_by_role("slider", name="Width")).to_have_value("1")
    page.locator("#undo").click()
    assert settled(served, lambda mix: mix["width"] == 0)["width"] == 0


def test_a_change_of_another_listener_moves_the_faders(page: Page, served: Served) -> None:
    page.evaluate("() => riffstream.app.steer({mix: {tilt: 2, mute: ['bass']}}, 'other')")
    expect(page.get_by_role("slider", name="Tilt")).to_have_value("2")
    expect(page.get_by_role("button", name="Mute bass")).to_have_attribute("aria-pressed", "true")
