"""The first screen says what this is, moods play at one tap, and the help explains with sounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser import listening
from tests.browser.conftest import Open, Served, Start
from tests.conftest import PATIENCE_MS

pytestmark = pytest.mark.browser

_SEEDS = [
    {"name": name, "style": name, "audio": f"seeds/{name}/audio", "preview": f"seeds/{name}.png", "bpm": 120}
    for name in ("accordion", "bossa_nova", "choir", "deep_house", "felt_piano", "marimba")
]


def _with_library(page: Page) -> None:
    page.route("**/api/seeds", lambda route: route.fulfill(json={"seeds": _SEEDS, "uploads": False, "default": None}))


@pytest.mark.parametrize("size", [(360, 740), (1280, 800), (2560, 1440)])
def test_a_stranger_reads_what_it_is_without_scrolling(served: Served, open_page: Open, size: tuple[int, int]) -> None:
    page = open_page(served.url, viewport={"width": size[0], "height": size[1]})
    expect(page.locator("#status")).to_have_text("ready")
    intro = page.locator("#intro")
    expect(intro).to_have_text(
        "A model makes this music now, while you listen. Say what it should play, and it turns within seconds."
    )
    expect(page.locator("#now-label")).to_have_text("On air, silent here: press play")
    for each in (intro, page.locator("#play"), page.locator("#now")):
        expect(each).to_be_in_viewport(ratio=1)
    fits = page.evaluate(
        """() => document.querySelector("#intro").getBoundingClientRect().top
              >= document.querySelector(".stage").getBoundingClientRect().top"""
    )
    assert fits, "the sentence is cut off at the top of the stage"
    if size[0] > 600:
        expect(page.locator("#moods")).to_be_in_viewport()
    listening.play(page)
    expect(intro).to_be_hidden()  # from now on the words of the music have the place


def test_a_mood_steers_several_fields_at_one_tap(served: Served, open_page: Open) -> None:
    page = open_page(served.url)
    expect(page.locator("#status")).to_have_text("ready")
    try:
        page.get_by_role("button", name="Sleep").click()
        listening.wait_for_sound(page)
        page.wait_for_function("() => (riffstream.app.state().bpm ?? 999) <= 66", timeout=PATIENCE_MS)
        first = served.get("/api/stations/main")["state"]
        assert 56 <= first["bpm"] <= 66
        page.get_by_role("button", name="Move").click()
        page.wait_for_function("() => riffstream.app.state().bpm >= 122", timeout=PATIENCE_MS)
        assert served.get("/api/stations/main")["state"]["prompts"] != first["prompts"]
        page.get_by_role("button", name="Surprise me").click()
        page.wait_for_function(
            "(rev) => riffstream.player.now.rev > rev", arg=page.evaluate("riffstream.player.now.rev")
        )
    finally:
        page.evaluate("() => riffstream.player.steer({bpm: null})")


def test_a_mood_before_the_welcome_waits_for_it(served: Served, open_page: Open) -> None:
    page = open_page(served.url)
    expect(page.locator("#status")).to_have_text("ready")
    page.evaluate(
        """() => { riffstream.player.welcome = null;
             riffstream.app.steer = (change) => (window.asked = change, Promise.resolve(null)); }"""
    )
    page.get_by_role("button", name="Sleep").click()
    assert 56 <= page.evaluate("() => window.asked?.bpm ?? 0") <= 66


def test_a_listener_without_rights_is_tuned_to_the_station_of_a_mood(
    start_server: Start, open_page: Open, tmp_path: Path
) -> None:
    config = tmp_path / "moods.toml"
    config.write_text(
        '[stations.main]\ntitle = "Main"\n[stations.night]\ntitle = "Night"\ndescription = "Sleep well"\n'
        '[access]\ndj_token = "secret"\n'
    )
    page = open_page(start_server(config=config, timeline_idle_s=0).url)
    expect(page.locator("#intro-how")).to_have_text("Its DJs say what it plays.")
    moods = page.get_by_role("group", name="Moods")
    expect(moods.get_by_role("button", name="Move")).to_be_disabled()
    moods.get_by_role("button", name="Sleep").click()
    listening.wait_for_sound(page)
    assert listening.player(page, "station") == "night"


def test_the_help_begins_with_what_it_is_and_three_sounds(served: Served, open_page: Open) -> None:
    page = open_page(
        served.url, script="HTMLMediaElement.prototype.play = async function () { window.src = this.src; };"
    )
    _with_library(page)
    sound: dict[str, Any] = {"status": 200, "content_type": "audio/mpeg", "body": b"mp3"}
    page.route("**/api/seeds/*/audio", lambda route: route.fulfill(**sound))
    page.get_by_role("button", name="About and keyboard help").click()
    dialog = page.get_by_role("dialog", name="About riffstream")
    expect(dialog).to_contain_text("A model makes it now")
    sounds = dialog.get_by_role("group", name="Three sounds").get_by_role("button")
    expect(sounds).to_have_count(3)
    sounds.nth(1).click()
    expect(sounds.nth(1)).to_have_attribute("aria-pressed", "true")
    page.wait_for_function("() => window.src?.startsWith('blob:')")
    expect(dialog.locator("kbd").first).to_have_text("space")
    page.keyboard.press("Escape")
    page.wait_for_function("() => riffstream.player.output.fade === 1")  # the seed stops with the dialog
