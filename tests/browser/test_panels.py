"""The panels, used as a hand uses them; the system's media keys; kiosk and full screen."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mutagen
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.browser import listening
from tests.browser.conftest import Open, Served, opened
from tests.conftest import PATIENCE_MS, PATIENCE_S

pytestmark = pytest.mark.browser

# What the page tells the system's media keys, kept where the test can press them.
_MEDIA_KEYS = """window.mediaKeys = {};
  const set = MediaSession.prototype.setActionHandler;
  MediaSession.prototype.setActionHandler = function (name, act) {
    window.mediaKeys[name] = act;
    return set.call(this, name, act);
  };"""


@pytest.fixture(scope="module")
def page(served: Served, browser: Browser) -> Iterator[Page]:
    with opened(browser) as open_page:
        page = open_page(served.url, script=_MEDIA_KEYS, permissions=["clipboard-read", "clipboard-write"])
        listening.play(page)
        yield page


def until(read: Callable[[], Any], wanted: Callable[[Any], bool], seconds: float = PATIENCE_S) -> Any:
    """Read until it is as wanted; what it was at last where it never is."""
    deadline = time.monotonic() + seconds
    while not wanted(value := read()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return value


def weights(served: Served) -> dict[str, float]:
    return {part["text"]: part["weight"] for part in served.get("/api/stations/main")["state"]["prompts"]}


def test_a_refused_variation_is_told(served: Served, open_page: Open) -> None:
    page = open_page(served.url)
    page.wait_for_function("() => riffstream.player.maySteer")
    page.evaluate("() => (riffstream.player.operate = () => Promise.reject(new Error('a DJ has it paused')))")
    page.get_by_role("button", name="Variation").click()
    expect(page.locator("#toasts")).to_contain_text("a DJ has it paused")


def test_mixer_blends_while_one_drags(page: Page, served: Served) -> None:
    page.evaluate(
        "() => riffstream.app.steer({prompts: [{text: 'left', weight: 0.5}, {text: 'right', weight: 0.5}]}, 'both')"
    )
    expect(page.locator("#now")).to_have_text("left + right")
    page.get_by_role("tab", name="Mix").click()
    bar = page.locator(".blend")
    expect(bar.locator("span")).to_have_count(2)
    box = bar.bounding_box()
    assert box is not None
    middle, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(middle, y)
    page.mouse.down()
    page.mouse.move(middle + box["width"] / 4, y, steps=5)
    # Heard while the hand is still down.
    found = until(lambda: weights(served), lambda w: w.get("left", 0) > 2.5 * w.get("right", 1))
    page.mouse.up()
    assert found["left"] / found["right"] == pytest.approx(3, rel=0.1), found
    fader = page.get_by_label("Weight of prompt 2")
    fader.fill("0.75")
    found = until(lambda: weights(served), lambda w: abs(w["left"] - w["right"]) < 0.05)
    assert found["left"] == pytest.approx(found["right"], rel=0.05), found
    page.get_by_role("button", name="Add a prompt").click()
    page.keyboard.type("third")
    page.keyboard.press("Tab")
    until(lambda: weights(served), lambda w: "third" in w)
    page.get_by_role("button", name="Remove prompt 1").click()
    found = until(lambda: weights(served), lambda w: "left" not in w)
    assert set(found) == {"right", "third"}


def test_mixer_is_ahead_of_older_news(page: Page, served: Served) -> None:
    page.get_by_role("tab", name="Mix").click()
    kept = page.evaluate(
        """() => {
          const { app } = riffstream, fader = document.querySelector("#panel-mix input[type=range]");
          fader.value = "0.11";
          fader.dispatchEvent(new Event("input"));
          document.activeElement?.blur();
          app.heard().state.prompts[0].weight = 0.87;
          app.changed();
          return document.querySelector("#panel-mix input[type=range]").value;
        }"""
    )
    assert kept == "0.11"
    first = page.locator("#panel-mix input[type=range]").first
    until(lambda: min(weights(served).values()), lambda least: least < 0.2)
    # Once it is heard, what plays is shown again, whoever changed it.
    page.evaluate(
        "() => riffstream.player.steer({prompts: [{text: 'left', weight: 0.6}, {text: 'right', weight: 0.4}]})"
    )
    expect(first).to_have_value("0.6", timeout=PATIENCE_MS)


def test_pad_blends_four_prompts(page: Page, served: Served) -> None:
    page.get_by_role("tab", name="Pad").click()
    page.get_by_label("Prompt at the top left").fill("north west")
    pad = page.get_by_role("application")
    box = pad.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 0.1 * box["width"], box["y"] + 0.1 * box["height"])
    found = until(lambda: weights(served), lambda w: w.get("north west", 0) > 0.7)
    assert found["north west"] / sum(found.values()) == pytest.approx(0.81, abs=0.03)
    pad.focus()
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    found = until(lambda: weights(served), lambda w: "north west" not in w)
    assert "north west" not in found


def test_suggestions_play_at_a_click(page: Page) -> None:
    idea = page.locator("#ideas button").first
    text = idea.inner_text()
    idea.click()
    expect(page.locator("#now")).to_have_text(text)


def test_music_starts_from_the_nearest_seed_or_from_noise(page: Page, served: Served) -> None:
    page.get_by_role("tab", name="Seeds").click()
    group = page.get_by_role("group", name="What the music starts from")
    usual = served.get("/api/seeds")["default"] or "none"  # the test signal has no library to choose from
    ways = {"auto": "Nearest seed", "none": "Noise alone"}
    expect(group.get_by_role("button", name=ways[usual])).to_have_attribute("aria-pressed", "true")
    for name in ("auto", "none"):
        group.get_by_role("button", name=ways[name]).click()
        until(lambda: served.get("/api/stations/main")["state"]["seed_image"], lambda seen, name=name: seen == name)
        assert served.get("/api/stations/main")["state"]["seed_image"] == name
        expect(group.get_by_role("button", name=ways[name])).to_have_attribute("aria-pressed", "true")


def test_faders_that_nobody_moved_stand_where_the_model_is(page: Page, served: Served) -> None:
    page.get_by_role("tab", name="Sound").click()
    caps = served.get("/api/stations/main")["caps"]
    for name, label in (("denoising", "Denoising"), ("guidance", "Guidance")):
        assert caps[name] is not None
        expect(page.get_by_label(label, exact=True)).to_have_value(f"{caps[name]:g}")
        expect(page.locator(f"output[for={name}]")).to_have_text("auto")


def test_denoising_is_locked_while_the_music_starts_from_noise(page: Page, served: Served) -> None:
    page.get_by_role("tab", name="Sound").click()
    fader, why = page.get_by_label("Denoising", exact=True), page.locator("#denoising-help")
    for name, locked in (
        ("none", True),
        ("auto", False),
        (None, served.get("/api/seeds")["default"] in (None, "none")),
    ):
        page.evaluate("(name) => riffstream.app.steer({seed_image: name}, 'x')", name)
        page.wait_for_function("(name) => riffstream.app.state().seed_image === name", arg=name)
        (expect(fader).to_be_disabled if locked else expect(fader).to_be_enabled)()
        expect(why).to_contain_text("starts from noise" if locked else "leave its seed image")


def test_a_choice_that_is_refused_shows_what_the_station_has(page: Page) -> None:
    page.get_by_role("tab", name="Sound").click()
    metre = page.get_by_label("Metre")
    before = metre.input_value()
    page.evaluate(
        """() => { const { player } = riffstream, { steer } = player;
             player.steer = () => { player.steer = steer; return Promise.reject(new Error("not now")); }; }"""
    )
    metre.select_option("3")
    expect(page.locator("#toasts")).to_contain_text("not now")
    expect(metre).to_have_value(before)


def test_volume_and_mute(page: Page) -> None:
    listening.tap(page)
    page.keyboard.press("Escape")
    page.evaluate("() => document.activeElement.blur()")
    page.keyboard.press("m")
    expect(page.get_by_role("button", name="Mute")).to_have_attribute("aria-pressed", "true")
    assert listening.player(page, "output.volume") == 0
    page.get_by_role("button", name="Mute").click()
    page.get_by_label("Volume").fill("0.5")
    assert listening.player(page, "output.volume") == 0.5
    page.get_by_label("Volume").fill("1")


def test_debug_panel_shows_clips_and_copies(page: Page) -> None:
    page.evaluate("() => document.activeElement.blur()")
    page.keyboard.press("d")
    panel = page.get_by_role("region", name="Debug", exact=True)
    expect(panel.locator("dt", has_text="buffer ms")).to_be_visible()
    # The first clip that began and ended while we listened has its picture: 10 ms a column.
    page.evaluate("() => riffstream.player.steer({bpm: 160})")
    save = panel.get_by_role("button", name="Save the picture of clip").first
    expect(save).to_be_visible(timeout=PATIENCE_MS)
    with page.expect_download() as download:
        save.click()
    picture = Image.open(io.BytesIO(Path(download.value.path()).read_bytes())).convert("RGB")
    assert picture.height == 256
    assert picture.width >= 5  # a change may cut a clip short
    assert len(picture.resize((32, 32)).getcolors(1024) or []) > 10, "an empty picture"
    panel.get_by_role("button", name="Copy as JSON").click()
    copied = json.loads(page.evaluate("() => navigator.clipboard.readText()"))
    assert copied["transport"] == "opus"
    assert copied["clips"][0]["prompts"]
    page.keyboard.press("d")
    expect(panel).to_be_hidden()


def test_history_keeps_a_hundred(page: Page) -> None:
    page.get_by_role("tab", name="Queue").click()
    page.evaluate("""() => {
      const { player, app } = riffstream;
      const { state, ...rest } = app.heard();
      for (let i = 0; i < 130; i++) {
        const prompts = [{ text: `past ${i}`, weight: 1 }];
        const detail = { ...rest, sample_pos: 0, state: { ...state, steered: true, prompts } };
        player.dispatchEvent(new CustomEvent("now", { detail }));
      }
    }""")
    expect(page.locator("#history li")).to_have_count(100)
    expect(page.locator("#history")).to_contain_text("past 129")
    expect(page.locator("#history")).not_to_contain_text("past 29")


def test_media_keys_and_their_title(page: Page) -> None:
    listening.steer(page, "a title for the lock screen")
    expect(page.locator("#now")).to_have_text("a title for the lock screen")
    shown = page.evaluate(
        "() => ({title: navigator.mediaSession.metadata.title, art: navigator.mediaSession.metadata.artwork.length})"
    )
    assert shown == {"title": "a title for the lock screen", "art": 1}
    page.evaluate("() => window.mediaKeys.pause()")
    expect(page.locator("#status")).to_have_text("paused")
    assert page.evaluate("() => navigator.mediaSession.playbackState") == "paused"
    page.evaluate("() => window.mediaKeys.play()")
    listening.wait_for_sound(page)
    assert page.evaluate("() => navigator.mediaSession.playbackState") == "playing"


def test_downloads_are_named_and_tagged(page: Page, tmp_path: Path) -> None:
    title = page.locator("#now").inner_text()
    page.get_by_role("button", name="Share").click()
    page.get_by_label("Format").select_option("flac")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the last 30 s").click()
    assert "a-title-for-the-lock-screen" in download.value.suggested_filename
    file = tmp_path / "kept.flac"
    file.write_bytes(Path(download.value.path()).read_bytes())
    tags = mutagen.File(file)
    assert tags["title"] == [title]
    assert tags["artist"][0].startswith("riffstream")
    assert tags.info.length > 5
    page.keyboard.press("Escape")


def test_kiosk_hides_everything_but_the_picture(served: Served, open_page: Open) -> None:
    page = open_page(f"{served.url}/?kiosk")
    page.mouse.click(300, 300)  # where the browser holds the sound back
    listening.wait_for_sound(page)
    for hidden in ("#prompt", ".tools", ".tabs", "#panel-sound"):
        expect(page.locator(hidden)).to_be_hidden()
    box = page.locator(".stage").bounding_box()
    assert box is not None
    assert (box["width"], box["height"]) == (1000, 700)
    expect(page.locator("body")).to_have_class("kiosk idle-pointer")
    page.keyboard.press("Space")
    expect(page.locator("body")).to_have_attribute("data-state", "paused")


def test_full_screen_is_a_kiosk(page: Page) -> None:
    page.keyboard.press("Escape")
    page.evaluate("() => document.activeElement.blur()")
    page.keyboard.press("f")
    expect(page.locator("body")).to_have_class("kiosk")
    page.keyboard.press("f")
    expect(page.locator("#prompt")).to_be_visible()


def test_the_metre_is_a_choice_and_shows_its_reason(page: Page, served: Served) -> None:
    page.get_by_role("tab", name="Sound").click()
    metre = page.get_by_label("Metre")
    read = lambda: served.get("/api/stations/main")["state"]  # noqa: E731
    metre.select_option("3")
    assert until(lambda: read()["beats_per_bar_reason"], lambda reason: reason is None) is None
    assert read()["beats_per_bar"] == 3
    metre.select_option("auto")
    until(lambda: read()["beats_per_bar_reason"], lambda reason: reason is not None)
    page.evaluate("() => document.activeElement.blur()")
    expect(metre).to_have_value("auto")
