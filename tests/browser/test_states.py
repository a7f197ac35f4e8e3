"""What the page shows to those who may not steer, may not listen, come too late, or come with an old browser."""

from __future__ import annotations

import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.browser import listening
from tests.browser.conftest import Open, Served, Start
from tests.conftest import PATIENCE_MS

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def guarded(start_for_file: Start) -> Served:
    """A server with a place for one, and a token for whoever steers."""
    return start_for_file(access_dj_token="secret", timeline_idle_s=0, limits_listeners_per_station=1)


def test_a_listener_sees_it_all_and_moves_nothing(guarded: Served, open_page: Open) -> None:
    page = open_page(guarded.url)
    expect(page.locator("#readonly")).to_be_visible()
    expect(page.locator("#now")).not_to_have_text("Endless music, made while you listen")
    enabled = page.evaluate("() => [...document.querySelectorAll('.steers')].filter((e) => !e.disabled).length")
    assert enabled == 0
    expect(page.get_by_label("What should it play?")).not_to_be_editable()
    page.keyboard.press("/")
    page.keyboard.type("a b")  # no shortcuts: a space would press play
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_have_text("ready")
    page.keyboard.press("Escape")
    expect(page.get_by_label("Volume")).to_be_enabled()
    page.locator("body").press("Shift+ArrowUp")
    page.keyboard.press("+")
    page.keyboard.press("u")
    assert guarded.get("/api/stations/main")["rev"] == 0


def test_a_token_in_the_fragment_lets_a_dj_steer(guarded: Served, open_page: Open) -> None:
    page = open_page(f"{guarded.url}/#token=secret")
    expect(page.locator("#status")).to_have_text("ready")
    expect(page.get_by_label("What should it play?")).to_be_editable()
    expect(page.locator("#readonly")).to_be_hidden()
    assert "secret" not in page.url
    page.evaluate("() => riffstream.player.steer({bpm: 91})")
    expect(page.locator("#meta")).to_contain_text("91 bpm")


def test_a_wrong_token_is_told(guarded: Served, open_page: Open) -> None:
    page = open_page(f"{guarded.url}/#token=wrong")
    expect(page.locator("#status")).to_contain_text("not allowed")


def test_a_full_station_lets_in_whoever_waits(guarded: Served, open_page: Open) -> None:
    first = open_page(guarded.url)
    listening.play(first)
    second = open_page(guarded.url)
    second.get_by_role("button", name="Play", exact=True).click()
    expect(second.locator("#status")).to_contain_text("full")
    expect(second.locator("#now-label")).to_contain_text("The station is full")
    first.close()
    listening.wait_for_sound(second)


def test_sound_that_the_browser_holds_back_waits_for_a_click(served: Served, need_tool: Callable[[str], str]) -> None:
    flags = ["--no-sandbox", "--disable-gpu", "--autoplay-policy=document-user-activation-required"]
    # One playwright runs at a time in a thread: the strict browser has its own.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(_held_back, need_tool("chromium"), flags, served.url).result()


# A kiosk says in the middle of the screen that it needs a tap.
_TAPS = """addEventListener('DOMContentLoaded', () => { const tap = document.querySelector('#tap');
  const tell = () => getComputedStyle(tap).display !== 'none' && console.log(tap.textContent);
  tell();
  new MutationObserver(tell).observe(tap, { attributes: true }); });"""


# Somebody's page with an element that starts by itself.
_HOST = """<p>Words</p><riff-stream autoplay controls></riff-stream>
<script type="module" src="/v1/riff-stream.js"></script>
<script>
  document.querySelector("riff-stream").addEventListener("statechange", ({ detail }) => console.log(detail.state));
</script>"""


def _held_back(chromium: str, flags: list[str], url: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        page = browser.new_page()
        page.goto(url)
        button = page.get_by_role("button", name="Play", exact=True).bounding_box()
        assert button is not None
        page = browser.new_page()
        # The page tells: whatever playwright asks it counts as a user's gesture, which lets the sound out.
        page.add_init_script(
            "addEventListener('DOMContentLoaded', () => { const status = document.querySelector('#status');"
            " const tell = () => console.log(status.textContent.trim()); tell();"
            " new MutationObserver(tell).observe(status, { childList: true, characterData: true, subtree: true }); });"
        )
        with page.expect_console_message(
            lambda message: message.text == "click to start the sound", timeout=PATIENCE_MS
        ):
            page.goto(f"{url}/?autoplay")
        page.mouse.click(button["x"] + button["width"] / 2, button["y"] + button["height"] / 2)
        listening.wait_for_sound(page)

        wall = browser.new_page()
        wall.add_init_script(_TAPS)
        with wall.expect_console_message(lambda message: message.text == "Tap anywhere for sound", timeout=PATIENCE_MS):
            wall.goto(f"{url}/?kiosk")
        wall.mouse.click(300, 200)
        expect(wall.locator("#now-label")).to_have_text("Now playing")
        expect(wall.locator("#tap")).to_be_hidden()

        # A click before the page says that the sound is held back: its clock stands, so it cannot know that yet.
        early = browser.new_page()
        early.clock.install(time=0)
        early.clock.pause_at(1000)
        early.goto(f"{url}/?kiosk")
        early.wait_for_function("() => riffstream.player.wanted && riffstream.player.output.held")
        early.mouse.click(300, 200)
        early.wait_for_function("() => !riffstream.player.output.held")  # nothing but the click can have done it
        early.clock.resume()
        listening.wait_for_sound(early)

        # An element hears nothing of the clicks beside it.
        host = browser.new_page()
        host.route("**/host.html", lambda route: route.fulfill(body=_HOST, content_type="text/html"))
        with host.expect_console_message(lambda message: message.text == "blocked", timeout=PATIENCE_MS):
            host.goto(f"{url}/host.html")
        host.mouse.click(300, 200)
        host.wait_for_function("() => document.querySelector('riff-stream').state === 'playing'", timeout=PATIENCE_MS)
        browser.close()


def test_a_frozen_server_is_told_and_forgiven(start_server: Start, open_page: Open) -> None:
    """Connecting, buffering, playing; behind as the buffer is used up, then buffering again; and playing again."""
    served = start_server(timeline_idle_s=0)
    page = open_page(served.url)
    expect(page.locator("#status")).to_have_text("ready")
    page.evaluate(
        "() => { const { player } = riffstream; window.states = [player.state]; "
        "player.addEventListener('state', (event) => states.push(event.detail.state)); }"
    )
    listening.play(page)
    page.wait_for_timeout(2000)
    served.process.send_signal(signal.SIGSTOP)
    try:
        page.wait_for_function("() => riffstream.player.state === 'buffering'")
        expect(page.locator("#status")).not_to_have_text("playing")
    finally:
        served.process.send_signal(signal.SIGCONT)
    listening.wait_for_sound(page)
    states = page.evaluate("() => states")
    assert states[:2] == ["idle", "connecting"]
    playing = states.index("playing")
    assert "buffering" in states[:playing]
    assert "buffering" in states[playing:]
    starved = states.index("buffering", playing)
    assert "behind" in states[playing:starved], states
    assert "playing" in states[starved:], states
    served.stop()


def test_old_browsers(served: Served, open_page: Open) -> None:
    """Without WebCodecs samples come as they are, without worklets the page plans them; without anything it says so."""
    page = open_page(served.url, script="delete globalThis.AudioDecoder")
    assert listening.player(page, "transport") == "pcm"
    page = open_page(served.url, script="delete BaseAudioContext.prototype.audioWorklet")
    assert listening.player(page, "transport") == "buffers"
    page = open_page(served.url, script="delete globalThis.AudioContext")
    expect(page.locator("#status")).to_contain_text("cannot play")
    expect(page.get_by_role("button", name="Play", exact=True)).to_be_disabled()


def test_page_weight_before_audio(served: Served, open_page: Open) -> None:
    page = open_page(served.url)
    expect(page.locator("#status")).to_have_text("ready")
    sizes = page.evaluate(
        """() => Object.fromEntries(["resource", "navigation"].flatMap((type) => performance.getEntriesByType(type))
          .filter((e) => !e.name.includes("/api/")).map((e) => [e.name, e.transferSize]))"""
    )
    # Compressed, with headers. What follows on demand (panels, dialogs, the 3D view) does not count.
    assert {name.rpartition("/")[2] for name in sizes} >= {"app.js", "stream-worker.js", "worklet.js", "style.css"}
    assert sum(sizes.values()) < 60_000, sizes
