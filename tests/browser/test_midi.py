"""MIDI on the page, with a stub of Web MIDI: learn, soft takeover, pads, and a refusal of the browser."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser import listening
from tests.browser.conftest import Open, Served
from tests.browser.test_panels import until

pytestmark = pytest.mark.browser

# As browsers do, it gives nothing without a user's press.
_STUB = """
  const input = { id: "1", name: "Test Knobs", onmidimessage: null };
  window.midi = (...data) => input.onmidimessage?.({ data: new Uint8Array(data) });
  navigator.requestMIDIAccess = async () => {
    if (!navigator.userActivation.isActive) throw new DOMException("no press", "SecurityError");
    return { inputs: new Map([["1", input]]), outputs: new Map(), onstatechange: null };
  };"""
_REFUSAL = """navigator.requestMIDIAccess = async () => { throw new DOMException("no", "NotAllowedError"); };"""


def opened(open_page: Open, served: Served, script: str) -> Page:
    page = open_page(served.url, script=script)
    listening.play(page)
    page.get_by_role("tab", name="Desk").click()
    page.get_by_role("button", name="Connect MIDI").click()
    return page


def learn(page: Page, control: str, *data: int) -> None:
    page.get_by_role("button", name="Learn").click()
    page.locator(control).click()
    expect(page.locator("#midi-says")).to_contain_text("now move a knob")
    page.evaluate("(data) => midi(...data)", list(data))
    expect(page.locator("#midi-says")).to_contain_text("follows")
    page.get_by_role("button", name="Learn").click()


def test_a_knob_is_learned_takes_over_softly_and_is_kept(served: Served, open_page: Open) -> None:
    page = opened(open_page, served, _STUB)
    expect(page.locator("#midi-devices")).to_have_text("Test Knobs")
    before = page.locator("#desk-low").input_value()
    learn(page, "#desk-low", 0xB0, 20, 0)
    assert page.locator("#desk-low").input_value() == before  # choosing a control does not move it

    def low() -> float:
        value: float = served.get("/api/stations/main")["state"]["mix"]["low"]
        return value

    page.evaluate("() => midi(0xb0, 20, 10)")  # far below the fader, which stands at 0 dB
    expect(page.locator("#midi-says")).to_contain_text("move the knob to 0 dB first")
    page.wait_for_timeout(400)
    assert low() == 0
    for value in (60, 110, 60):  # it passes the fader on its way
        page.evaluate("(value) => midi(0xb0, 20, value)", value)
    assert until(low, lambda level: level == -26) == -26
    page.reload()
    expect(page.locator("#status")).to_have_text("ready")
    page.get_by_role("tab", name="Desk").click()
    page.get_by_role("button", name="Connect MIDI").click()
    expect(page.locator("#midi-map")).to_contain_text("cc 20, channel 1")
    page.get_by_role("button", name="Forget cc 20").click()
    expect(page.locator("#midi-map li")).to_have_count(0)
    page.evaluate("() => riffstream.app.steer({mix: null}, 'neutral')")
    until(low, lambda level: level == 0)


def test_a_pad_presses_buttons_and_fires_scenes(served: Served, open_page: Open) -> None:
    page = opened(open_page, served, _STUB)
    learn(page, "#mute", 0x90, 40, 100)
    expect(page.get_by_role("button", name="Mute", exact=True)).to_have_attribute("aria-pressed", "false")
    page.evaluate("() => midi(0x90, 40, 100)")
    expect(page.get_by_role("button", name="Mute", exact=True)).to_have_attribute("aria-pressed", "true")
    page.evaluate("() => midi(0x80, 40, 0)")  # the release is no press
    expect(page.get_by_role("button", name="Mute", exact=True)).to_have_attribute("aria-pressed", "true")
    page.evaluate("() => riffstream.app.steer({prompts: [{text: 'scene of a pad', weight: 1}]}, 'x')")
    expect(page.locator("#now")).to_have_text("scene of a pad")
    page.get_by_role("tab", name="Scenes").click()
    page.get_by_role("button", name="Store what plays as scene 2").click()
    page.get_by_role("tab", name="Desk").click()
    page.get_by_role("button", name="Learn").click()
    page.get_by_role("tab", name="Scenes").click()
    page.get_by_role("button", name="Scene 2: scene of a pad").click()
    page.evaluate("() => midi(0x90, 41, 100)")
    page.get_by_role("tab", name="Desk").click()
    page.get_by_role("button", name="Learn").click()
    page.evaluate("() => riffstream.app.steer({prompts: [{text: 'something else', weight: 1}]}, 'y')")
    expect(page.locator("#now")).to_have_text("something else")
    page.evaluate("() => midi(0x90, 41, 100)")
    expect(page.locator("#now")).to_have_text("scene of a pad")


def test_a_browser_that_refuses_is_explained(served: Served, open_page: Open) -> None:
    page = opened(open_page, served, _REFUSAL)
    expect(page.locator("#toasts")).to_contain_text("Allow it for this site and press again")
    expect(page.get_by_role("button", name="Connect MIDI")).to_be_visible()


def test_a_second_press_asks_the_browser_no_second_time(served: Served, open_page: Open) -> None:
    page = open_page(served.url, script="""window.asked = 0;
      navigator.requestMIDIAccess = () => (asked++, new Promise((resolve) => (window.allow = () =>
        resolve({ inputs: new Map(), outputs: new Map(), onstatechange: null }))));""")  # fmt: skip
    page.get_by_role("tab", name="Desk").click()
    connect = page.get_by_role("button", name="Connect MIDI")
    connect.click()
    expect(connect).to_be_disabled()
    page.evaluate(
        "() => [...document.querySelectorAll('button')].find((b) => b.textContent === 'Connect MIDI').click()"
    )
    page.wait_for_function("() => window.allow")
    assert page.evaluate("() => asked") == 1
    page.evaluate("() => allow()")
    expect(page.locator("#midi-devices")).to_have_text("no MIDI device is connected")
