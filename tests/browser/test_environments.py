"""The page where a browser is told to be quiet, thrifty or strict: hidden tabs, sandboxes, blocked storage, proxies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import listening
from tests.browser.conftest import Open, Served, Start, opened
from tests.conftest import PATIENCE_MS

pytestmark = pytest.mark.browser

# A tab that can be put into the background: no pictures are asked for any more, and the page is told.
_HIDES = """{
  const ask = window.requestAnimationFrame.bind(window);
  let put = false;
  const waiting = [];
  window.requestAnimationFrame = (draw) => (put ? waiting.push(draw) : ask(draw));
  Object.defineProperty(Document.prototype, "hidden", { get: () => put });
  window.hide = (on) => {
    put = on;
    document.dispatchEvent(new Event("visibilitychange"));
    if (!on) waiting.splice(0).forEach((draw) => ask(draw));
  };
}"""

_NO_STORAGE = """for (const name of ["localStorage", "sessionStorage"]) {
  Object.defineProperty(window, name, { get() { throw new DOMException("denied", "SecurityError"); } });
}"""

_NO_SOCKETS = """globalThis.WebSocket = class {
  constructor() { setTimeout(() => this.onclose?.({ code: 1006, reason: "" }), 5); }
  send() {}
  close() {}
};"""


@pytest.fixture(scope="module")
def page(served: Served, browser: Browser) -> Iterator[Page]:
    with opened(browser) as open_page:
        page = open_page(served.url, script=_HIDES)
        listening.play(page)
        yield page


def test_a_hidden_tab_follows_the_music(page: Page) -> None:
    """The title, the system's media controls and the history, without a single picture."""
    page.evaluate("() => hide(true)")
    page.evaluate("() => riffstream.player.steer({prompts: [{text: 'behind the curtain', weight: 1}]})")
    expect(page).to_have_title("behind the curtain · riffstream")
    assert page.evaluate("() => navigator.mediaSession.metadata.title") == "behind the curtain"
    assert page.evaluate("() => riffstream.app.heard().state.prompts[0].text") == "behind the curtain"
    page.evaluate("() => hide(false)")


def test_two_hours_behind_are_caught_up_in_one_go(page: Page) -> None:
    changes = page.evaluate(
        """async () => {
          const { app, player } = riffstream;
          const now = structuredClone(player.now);
          let changes = -1; // one as it is added
          app.onChange(() => changes++);
          for (let i = 0; i < 2000; i++) {
            const prompts = [{ text: `hour ${i >> 3}`, weight: 1 }];
            player.onMessage({ ...now, clip: 10000 + i, state: { ...now.state, prompts, seed: i, steered: false } });
          }
          await new Promise((done) => setTimeout(done, 500));
          return changes;
        }"""
    )
    assert changes < 10, f"the page was built {changes} times"
    assert page.evaluate("() => document.querySelectorAll('#history li').length") == 100
    expect(page.locator("#now")).to_have_text("hour 249")


def test_a_random_prompt_by_key_leaves_the_keyboard_alone(page: Page) -> None:
    page.locator("body").press("r")
    page.wait_for_function("() => document.querySelector('#prompt').value")
    first = page.locator("#prompt").input_value()
    page.keyboard.press("m")
    expect(page.get_by_role("button", name="Mute")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("m")
    assert page.locator("#prompt").input_value() == first
    page.keyboard.press("Enter")
    expect(page.locator("#now")).to_have_text(first)


def test_arrows_scroll_and_fast_presses_add_up(page: Page) -> None:
    page.evaluate("() => riffstream.player.steer({bpm: 100})")
    page.wait_for_function("() => riffstream.app.state().bpm === 100")
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    page.wait_for_function("() => scrollY > 0")
    for _ in range(12):
        page.keyboard.press("+")
    page.wait_for_function("() => riffstream.app.state().bpm === 124")
    for _ in range(4):  # slower than what is heard comes back
        page.keyboard.press("Shift+ArrowDown")
        page.wait_for_timeout(400)
    page.wait_for_function("() => riffstream.app.state().bpm === 116")


def test_undo_goes_back_step_by_step(page: Page) -> None:
    for prompt in ("first step", "second step", "third step"):
        listening.steer(page, prompt)
        expect(page.locator("#now")).to_have_text(prompt)
    page.locator("#prompt").press("Escape")
    page.keyboard.press("u")
    expect(page.locator("#now")).to_have_text("second step")
    page.keyboard.press("u")
    expect(page.locator("#now")).to_have_text("first step")


@pytest.mark.parametrize("size", [(1000, 700), (360, 740), (320, 256)])
def test_a_long_prompt_stays_on_the_stage(page: Page, size: tuple[int, int]) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.evaluate(
        "() => riffstream.player.steer({prompts: [{text: 'a long walk through many words '.repeat(9), weight: 1}]})"
    )
    expect(page.locator("#now")).to_contain_text("many words")
    above = page.evaluate(
        """() => document.querySelector("#now-label").getBoundingClientRect().top
              - document.querySelector(".stage").getBoundingClientRect().top"""
    )
    assert above >= 0
    assert "many words" in (page.locator("#now").get_attribute("title") or "")


def test_the_3d_view_survives_its_graphics_card(page: Page) -> None:
    page.set_viewport_size({"width": 1000, "height": 700})
    page.get_by_role("button", name="3D").click()
    deep, flat = page.locator("#canvas3d"), page.locator("#canvas2d")
    expect(deep).to_be_visible()
    page.evaluate(
        """() => { const gl = document.querySelector("#canvas3d").getContext("webgl2");
          window.card = gl.getExtension("WEBGL_lose_context"); card.loseContext(); }"""
    )
    expect(flat).to_be_visible()
    expect(deep).to_be_hidden()
    page.get_by_role("button", name="3D").click()
    page.get_by_role("button", name="3D").click()  # asked for while there is no card
    expect(flat).to_be_visible()
    page.evaluate("() => card.restoreContext()")
    expect(deep).to_be_visible()
    lit = page.evaluate(
        """() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => {
          const gl = document.querySelector("#canvas3d").getContext("webgl2");
          gl.getError();
          const ended = performance.now() + 5000;
          const look = () => {
            const { width, height } = gl.canvas, pixels = new Uint8Array(4 * width * height);
            gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
            const lit = pixels.reduce((sum, value, i) => sum + (i % 4 < 3 && value > 120), 0);
            if (lit > 500 || performance.now() > ended) done(lit); else requestAnimationFrame(look);
          };
          look();
        })))"""
    )
    assert lit > 500, "nothing is drawn after the card came back"
    page.get_by_role("button", name="3D").click()
    expect(flat).to_be_visible()


def test_a_station_that_is_not_there(start_server: Start, open_page: Open) -> None:
    """A link to a station that never was, or is over, says so and offers those that there are."""
    served = start_server(access_dj_token="secret", timeline_idle_s=0)
    page = open_page(f"{served.url}/?station=nope")
    expect(page.locator("#status")).to_contain_text("no such station")
    expect(page.locator("#now-label")).to_contain_text("No such station")
    page.get_by_role("group", name="This station").get_by_role("button").first.click()
    expect(page.locator("#status")).to_have_text("ready")
    expect(page.locator("#notice")).to_have_count(0)
    expect(page.locator("#now")).not_to_have_text("Endless music, made while you listen")

    # A token that is refused is no dead end.
    page.goto("about:blank")
    page.goto(f"{served.url}/#token=wrong")
    expect(page.locator("#status")).to_contain_text("not allowed")
    page.get_by_role("button", name="Play", exact=True).click()
    expect(page.locator("#status")).to_contain_text("not allowed")
    expect(page.get_by_role("button", name="Play", exact=True)).to_be_visible()
    page.get_by_label("Token", exact=True).fill("secret")
    page.get_by_role("button", name="Try this token").click()
    listening.wait_for_sound(page)  # it had been asked for
    expect(page.locator("#readonly")).to_be_hidden()
    page.goto("about:blank")
    page.goto(f"{served.url}/#token=wrong")
    page.get_by_role("button", name="Listen without it").click()
    expect(page.locator("#readonly")).to_be_visible()
    expect(page.locator("#status")).to_have_text("ready")
    page.reload()  # the bad one is forgotten
    expect(page.locator("#readonly")).to_be_visible()

    # A link with music in it tells a listener what he may not do.
    page.goto(f"{served.url}/?p=deep+house&seed=5")
    offer = page.get_by_role("group", name="Music of this link")
    expect(offer).to_contain_text("deep house")
    expect(offer).to_contain_text("Only a DJ")
    offer.get_by_role("button", name="Understood").click()
    expect(offer).to_have_count(0)

    served.stop()
    expect(page.locator("#now-label")).to_have_text("The server is restarting")


def test_a_link_of_ones_own_station_leads_to_the_one_that_stays(served: Served, open_page: Open) -> None:
    page = open_page(f"{served.url}/?p=my+own+link")
    page.get_by_role("button", name="Play it for me alone").click()
    expect(page.locator("#now")).to_have_text("my own link")
    page.keyboard.press("s")
    assert "station=main" in page.get_by_label("Link", exact=True).input_value()


def test_a_network_without_sockets_still_plays(served: Served, open_page: Open) -> None:
    page = open_page(served.url, appended={"connection.js": _NO_SOCKETS})
    expect(page.locator("#status")).to_contain_text("lets no WebSocket through")
    page.get_by_role("button", name="Play", exact=True).click()
    listening.wait_for_sound(page)
    assert listening.player(page, "transport") == "mp3"


def test_strict_browsers(served: Served, open_page: Open, other_origin: tuple[Path, str]) -> None:
    """Storage that throws, a browser without media keys, and a frame that is nobody's origin."""
    page = open_page(served.url, script=_NO_STORAGE + "delete Navigator.prototype.mediaSession;")
    listening.play(page)
    page.keyboard.press("t")
    page.get_by_label("Volume").fill("0.5")

    folder, origin = other_origin
    (folder / "index.html").write_text(
        f"<!doctype html><title>a blog</title><iframe src='{served.url}/embed/main' width=480 height=270"
        " sandbox='allow-scripts' allow=autoplay></iframe>"
    )
    page = open_page(origin)
    frame = page.frame_locator("iframe")
    frame.get_by_role("button", name="Play", exact=True).click()
    expect(frame.locator("body")).to_have_attribute("data-state", "playing", timeout=PATIENCE_MS)
    frame.locator("body").press("b")  # its second screen cannot be reached
    expect(frame.locator("#stage-status")).to_have_count(1)
    expect(frame.locator(".toast")).to_have_count(0)


def test_an_audio_thread_that_takes_no_code_is_done_without(served: Served, open_page: Open) -> None:
    page = open_page(served.url, script="Worklet.prototype.addModule = async () => { throw new Error('refused'); };")
    listening.play(page)
    assert listening.player(page, "transport") == "buffers"
    assert listening.player(page, "fallback") == "refused"
