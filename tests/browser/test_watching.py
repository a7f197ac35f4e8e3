"""What the page does when the sound stands still although nobody said so: cut streams and frozen audio clocks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser import listening
from tests.browser.conftest import Open, Served
from tests.browser.relay import Relay

pytestmark = pytest.mark.browser

BLOCKED = "click to start the sound"

# Each context can be frozen, interrupted, made deaf to resume() or closed, as systems do.
_CONTEXTS = """{
  const Real = AudioContext;
  window.contexts = [];
  window.AudioContext = class extends Real {
    constructor(options) { super(options); contexts.push(this); }
    get state() { return this.said ?? super.state; }
    get currentTime() { return this.frozenAt ?? super.currentTime; }
    resume() {
      if (this.said === "interrupted") return Promise.reject(new DOMException("interrupted", "InvalidStateError"));
      if (this.said === "suspended") return new Promise(() => {});
      return super.resume();
    }
    say(state) { this.said = state; this.onstatechange?.(new Event("statechange")); }
    freeze() { this.frozenAt = this.currentTime; }
  };
}"""


@pytest.fixture
def relays(served: Served) -> Iterator[tuple[Relay, Relay]]:
    pair = Relay(served.port), Relay(served.port)
    yield pair
    for relay in pair:
        relay.close()


def test_the_mp3_stream_is_loaded_again_from_live(relays: tuple[Relay, Relay], open_page: Open) -> None:
    """A connection that is cut and one that hangs: sound within seconds, however long one had listened."""
    pages = [open_page(f"{relay.url}/?transport=mp3") for relay in relays]
    for page in pages:
        listening.play(page)
        assert page.evaluate("() => riffstream.player.output.element.element.duration === Infinity")
    pages[0].wait_for_timeout(8_000)
    assert relays[0].cut("/stream/") == 1
    assert relays[1].hang("/stream/") == 1
    for page in pages:
        page.wait_for_function("() => riffstream.player.output.element.loads === 2", timeout=12_000)
    for page in pages:
        expect(page.locator("#status")).to_have_text("playing", timeout=12_000)
        listening.tap(page)
        listening.whole_for(page, 1)
    for relay in relays:
        assert sum("/stream/" in request for request in relay.requests) >= 2


def _says(page: Page, state: str) -> None:
    page.evaluate("(state) => contexts.at(-1).say(state)", state)


def _tap(page: Page) -> None:
    page.get_by_role("button", name="Play", exact=True).click()


def _sounds_through_a_new_context(page: Page, made: int) -> None:
    listening.wait_for_sound(page)
    assert page.evaluate("() => contexts.length") == made
    first = page.evaluate("() => contexts.at(-1).currentTime")
    page.wait_for_function("(first) => contexts.at(-1).currentTime > first + 0.5", arg=first)
    page.wait_for_function("() => riffstream.player.output.report.audible")  # reports of a busy machine have gaps


def test_audio_contexts_that_the_system_took_away(served: Served, open_page: Open) -> None:
    """Interrupted and then frozen, suspended without an answer, closed: said, and put right by a tap."""
    call, deaf, closed = (open_page(served.url, script=_CONTEXTS) for _ in range(3))
    for page in (call, deaf, closed):
        listening.play(page)
    _says(call, "interrupted")
    _says(deaf, "suspended")
    closed.evaluate("() => contexts.at(-1).close()")
    for page in (call, deaf, closed):
        expect(page.locator("#status")).to_have_text(BLOCKED)
    _tap(call)  # refused: no failure of a script
    _tap(closed)
    _sounds_through_a_new_context(closed, 2)
    expect(call.locator("#status")).to_have_text(BLOCKED)

    # The call is over; the context says that it runs, and stands.
    call.evaluate("() => { contexts[0].freeze(); contexts[0].say(undefined); }")
    expect(call.locator("#status")).to_have_text("playing")
    expect(call.locator("#status")).to_have_text(BLOCKED)  # within seconds
    _tap(call)
    _sounds_through_a_new_context(call, 2)

    _tap(deaf)
    deaf.wait_for_timeout(4000)
    if deaf.locator("#status").text_content() == BLOCKED:  # resume() was not answered: the next tap asks no more
        _tap(deaf)
    _sounds_through_a_new_context(deaf, 2)


def test_a_frozen_clock_of_each_transport(served: Served, open_page: Open) -> None:
    """Nothing says playing while nothing sounds; where nobody taps, a new context is tried without."""
    pages = [open_page(f"{served.url}/?transport={name}", script=_CONTEXTS) for name in ("buffers", "mp3")]
    for page in pages:
        listening.play(page)
        page.evaluate("() => contexts[0].freeze()")
    for page in pages:
        expect(page.locator("#status")).to_have_text(BLOCKED)
    _tap(pages[1])
    listening.wait_for_sound(pages[1])
    _sounds_through_a_new_context(pages[0], 2)  # after 15 s
