"""For those who keep the page open all day: one player at a time, timer, scenes, transitions, stations, the display."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser import listening
from tests.browser.conftest import Open, Served, Start

pytestmark = pytest.mark.browser

_WAKE_LOCK = """window.locks = 0;
  navigator.wakeLock.request = async () => {
    window.locks += 1;
    const lock = new EventTarget();
    lock.release = async () => (window.locks -= 1);
    return lock;
  };"""
_CLOCK = "window.later = 0; const now = Date.now.bind(Date); Date.now = () => now() + window.later;"
_SENT = """() => { window.sent = [];
  const steer = riffstream.player.steer.bind(riffstream.player);
  riffstream.player.steer = (change, scheduled) => (window.sent.push(change), steer(change, scheduled)); }"""


def sent(page: Page) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = page.evaluate("sent")
    return found


def test_one_player_at_a_time(served: Served, open_page: Open) -> None:
    first = open_page(served.url)
    listening.play(first)
    second = first.context.new_page()
    second.goto(served.url)
    listening.play(second)
    expect(first.locator("#status")).to_have_text("playing in another tab or player")
    expect(first.locator("#play")).to_have_attribute("aria-label", "Play")
    assert second.evaluate("riffstream.player.wanted")
    first.locator("#play").click()  # takes it back
    expect(second.locator("#status")).to_have_text("playing in another tab or player")
    expect(first.locator("#status")).to_have_text("playing")
    assert first.evaluate("riffstream.player.output.fade") == 1
    third = first.context.new_page()
    third.goto(f"{served.url}/?several")
    listening.play(third)
    third.wait_for_timeout(1000)
    assert first.evaluate("riffstream.player.wanted")


def test_the_timer_fades_and_ends_the_sound(served: Served, open_page: Open) -> None:
    page = open_page(f"{served.url}/?sleep=45", script=_CLOCK)
    listening.play(page)
    expect(page.locator("#timer")).to_have_attribute("aria-pressed", "true")
    page.evaluate("window.later = 44.75 * 60000")  # 15 s before the end
    page.wait_for_function("riffstream.player.output.fade < 0.55")
    page.wait_for_function("riffstream.player.output.gain.gain.value < 0.6")
    page.keyboard.press("z")
    page.get_by_role("button", name="Timer off").click()
    page.wait_for_function("riffstream.player.output.fade === 1")
    page.keyboard.press("z")
    page.get_by_role("button", name="15 min", exact=True).click()
    page.evaluate("window.later += 15 * 60000 + 500")
    expect(page.locator("#play")).to_have_attribute("aria-label", "Play")
    expect(page.locator(".toast")).to_contain_text("The timer has ended the music")
    assert page.evaluate("riffstream.player.output.fade") == 1
    expect(page.locator("#timer")).to_have_attribute("aria-pressed", "false")


def test_characters_typed_with_option_play_no_scene(served: Served, open_page: Open) -> None:
    page = open_page(served.url, script="Object.defineProperty(navigator, 'platform', { get: () => 'MacIntel' })")
    page.wait_for_function("riffstream.player.maySteer")
    page.locator("#prompt").focus()
    page.keyboard.press("Alt+Shift+Digit1")
    page.wait_for_timeout(500)
    expect(page.locator(".toast")).to_have_count(0)
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Alt+Shift+Digit1")
    expect(page.locator(".toast")).to_contain_text("Scene 1")


def test_scenes_are_stored_fired_saved_and_opened(served: Served, open_page: Open, tmp_path: Path) -> None:
    page = open_page(served.url)
    page.wait_for_function("riffstream.player.maySteer")
    page.evaluate("riffstream.app.steer({prompts: [{text: 'scene one', weight: 1}], bpm: 97}, 'one')")
    expect(page.locator("#now")).to_have_text("scene one")
    page.keyboard.press("Alt+Shift+Digit1")
    expect(page.locator(".toast")).to_contain_text("Scene 1: scene one")
    page.evaluate("riffstream.app.steer({prompts: [{text: 'another', weight: 1}], bpm: 130}, 'two')")
    expect(page.locator("#now")).to_have_text("another")
    page.keyboard.press("Alt+Digit1")
    expect(page.locator("#now")).to_have_text("scene one")
    page.wait_for_function("riffstream.app.state().bpm === 97")
    page.get_by_role("tab", name="Scenes").click()
    expect(page.get_by_role("button", name="Scene 2: empty")).to_be_disabled()
    for name in ("Store what plays as scene 4", "Clear scene 4"):
        page.get_by_role("button", name=name).focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Store what plays as scene 4")).to_be_focused()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save to a file").click()
    saved = json.loads(Path(download.value.path()).read_text())
    assert saved[0]["name"] == "scene one"
    assert saved[0]["change"]["bpm"] == 97
    saved[2] = {"name": "from a file", "change": {"prompts": [{"text": "from a file", "weight": 1}]}}
    file = tmp_path / "scenes.json"
    file.write_text(json.dumps(saved))
    page.locator("#panel-scenes input[type=file]").set_input_files(file)
    page.get_by_role("button", name="Scene 3: from a file").click()
    expect(page.locator("#now")).to_have_text("from a file")
    file.write_text('{"no": "scenes"}')
    page.locator("#panel-scenes input[type=file]").set_input_files(file)
    expect(page.locator(".toast.error")).to_contain_text("scenes.json")
    page.reload()
    page.get_by_role("tab", name="Scenes").click()
    expect(page.get_by_role("button", name="Scene 1: scene one")).to_be_enabled()


def test_transitions_taps_and_words_to_avoid(served: Served, open_page: Open) -> None:
    page = open_page(served.url)
    page.wait_for_function("riffstream.player.maySteer")
    page.evaluate("riffstream.player.steer({prompts: [{text: 'steady', weight: 1}], bpm: 120})")
    page.wait_for_function("riffstream.app.state()?.bpm === 120")
    page.evaluate(_SENT)
    page.keyboard.press("7")  # 8 bars
    page.locator("#prompt").fill("slowly arriving")
    page.keyboard.press("Enter")
    page.wait_for_function("sent.length === 1")
    assert sent(page)[0]["ramp_s"] == pytest.approx(16)  # 32 beats at 120 bpm
    page.evaluate("riffstream.player.steer({beats_per_bar: 3})")
    page.wait_for_function("riffstream.player.now?.state.beats_per_bar === 3")
    page.locator("#prompt").fill("slowly waltzing")
    page.keyboard.press("Enter")
    page.wait_for_function("sent.length === 3")
    assert sent(page)[2]["ramp_s"] == pytest.approx(12)  # bars of three beats
    page.locator("#prompt").blur()
    page.keyboard.press("5")  # cut
    page.locator("#negative").fill("vocals")
    page.locator("#negative").blur()
    page.wait_for_function("riffstream.app.state()?.negative === 'vocals'")
    assert "ramp_s" not in sent(page)[-1]
    times = page.evaluate(
        """async () => {
          const times = [];
          for (let i = 0; i < 5; i++) {
            times.push(performance.now());
            document.querySelector("#tap-tempo").click();
            await new Promise((resolve) => setTimeout(resolve, 600));
          }
          return times;
        }"""
    )
    tapped = page.wait_for_function("sent.findLast((change) => change.bpm)?.bpm").json_value()
    assert tapped == pytest.approx(4 * 60_000 / (times[-1] - times[0]), rel=0.08)  # the page's own lateness
    page.evaluate("riffstream.player.steer({bpm: null, beats_per_bar: null})")


def test_the_address_names_the_station(start_server: Start, open_page: Open, tmp_path: Path) -> None:
    config = tmp_path / "two.toml"
    config.write_text(
        '[stations.main]\ntitle = "Main"\n[stations.night]\ntitle = "Night"\ndescription = "Slow and low"\n'
    )
    served = start_server(config=config)
    page = open_page(served.url)
    expect(page.locator("#station")).to_have_value("main")
    page.keyboard.press("]")
    expect(page.locator("#about")).to_have_text("Slow and low")
    assert page.url.endswith("?station=night")
    page.reload()
    expect(page.locator("#about")).to_have_text("Slow and low")
    page.go_back()
    expect(page.locator("#station")).to_have_value("main")
    expect(page.locator("#about")).to_be_hidden()
    page.evaluate("navigator.mediaSession")
    page.keyboard.press("[")
    page.wait_for_function("riffstream.player.station === 'night'")


def test_the_display_stays_on_in_a_kiosk_that_plays(served: Served, open_page: Open) -> None:
    page = open_page(f"{served.url}/?kiosk&autoplay", script=_WAKE_LOCK)
    page.mouse.click(300, 300)
    page.wait_for_function("window.locks === 1")
    page.evaluate("riffstream.player.pause()")
    page.wait_for_function("window.locks === 0")


def test_the_browser_can_install_it(served: Served, open_page: Open) -> None:
    page = open_page(served.url)
    session = page.context.new_cdp_session(page)
    manifest = session.send("Page.getAppManifest")
    assert manifest["errors"] == []
    assert json.loads(manifest["data"])["display"] == "standalone"
    errors = session.send("Page.getInstallabilityErrors")["installabilityErrors"]
    assert [error["errorId"] for error in errors] in ([], ["in-incognito"]), errors
