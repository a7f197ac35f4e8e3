"""A plain ``<audio src=".../stream/main.mp3">`` on anybody's page."""

from __future__ import annotations

import base64
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from riffstream.audio.ogg import OggOpusLinks, page_bodies
from riffstream.audio.opus import OpusEncoder
from tests.browser.conftest import Open, Served
from tests.browser.firefox import Firefox
from tests.browser.test_firefox import fox
from tests.conftest import PATIENCE_MS
from tests.server.players import PITCH, RATE, Relay, broken

__all__ = ["fox"]  # a fixture

pytestmark = pytest.mark.browser

PLAY = """async (url) => {
  const audio = document.body.appendChild(new Audio(url));
  const events = [];
  for (const name of ["playing", "waiting", "stalled", "error", "ended"])
    audio.addEventListener(name, () => events.push(name));
  Object.assign(window, { audio, events });
  await audio.play();
}"""

CAPTURE = """async (url) => {
  const audio = new Audio();
  audio.crossOrigin = "anonymous";
  audio.src = url;
  const context = new AudioContext({ sampleRate: 48000 });
  const tap = context.createScriptProcessor(16384, 1, 1);
  const blocks = [];
  tap.onaudioprocess = ({ inputBuffer }) => blocks.push(inputBuffer.getChannelData(0).slice());
  context.createMediaElementSource(audio).connect(tap).connect(context.destination);
  Object.assign(window, { audio, blocks, tap });
  await context.resume();
  await audio.play();
}"""

CAPTURED = """() => {
  const bytes = new Uint8Array(blocks.reduce((sum, block) => sum + block.byteLength, 0));
  let at = 0, text = "";
  for (const block of blocks) bytes.set(new Uint8Array(block.buffer), at), (at += block.byteLength);
  for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
  return btoa(text);
}"""


def test_a_dropped_connection_is_an_end_or_live_sound_at_once(served: Served, open_page: Open) -> None:
    """No silence for as long as one had listened, as after a stream that claims ranges. Both codecs at once."""
    with Relay(served.url) as relay:
        pages = {codec: open_page(served.url) for codec in ("mp3", "ogg")}
        for codec, page in pages.items():
            page.mouse.click(2, 2)
            page.evaluate(PLAY, f"{relay.url}/stream/main.{codec}")
        for page in pages.values():
            page.wait_for_function("audio.currentTime > 6")
            assert page.evaluate("audio.duration === Infinity")
        relay.cut()
        time.sleep(8)  # what is buffered is played to its end
        for codec, page in pages.items():
            before, when = page.evaluate("audio.currentTime"), time.monotonic()
            page.wait_for_timeout(1500)
            played = (page.evaluate("audio.currentTime") - before) / (time.monotonic() - when)
            events = page.evaluate("events")
            assert {"ended", "error"} & set(events) or played > 0.5, (codec, events, relay.requests)
            page.evaluate("audio.load(), audio.play()")  # what a page does then
            page.wait_for_function("audio.currentTime > 1 && !audio.ended")


@contextlib.contextmanager
def chained() -> Iterator[str]:
    """The address of six seconds of a tone, in three links with titles of their own."""
    wave = (0.2 * np.sin(2 * np.pi * PITCH * np.arange(6 * RATE) / RATE)).astype(np.float32)
    encoder = OpusEncoder()
    packets = [packet.data for packet in encoder.push(np.stack([wave, wave], 1))]
    links = OggOpusLinks(encoder.header)
    data = links.begin({"title": "one"})
    for at in range(0, len(packets), 25):
        if at in (100, 200):
            links.retitle({"title": f"behind {at}"})
        data += b"".join(links.push(body) for body in page_bodies(packets[at : at + 25], 960))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "audio/ogg")
            self.send_header("Access-Control-Allow-Origin", "*")
            self.end_headers()
            with contextlib.suppress(OSError):
                for at in range(0, len(data), 8000):  # faster than it plays, and not at once
                    self.wfile.write(data[at : at + 8000])
                    time.sleep(0.1)

        def log_message(self, *about: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/chained.ogg"
        finally:
            server.shutdown()
            thread.join()


def heard(encoded: str) -> NDArray[np.float32]:
    """What was captured, from the tone's begin to its end."""
    wave = np.frombuffer(base64.b64decode(encoded), np.float32)
    sound = np.flatnonzero(np.abs(wave) > 0.05)
    return wave[sound[0] : sound[-1] + 1] if len(sound) else wave[:0]


SOUND_S = 6 - 0.08  # a pre-skip is not played


def length_fault(wave: NDArray[np.float32]) -> str:
    return "" if abs(len(wave) - SOUND_S * RATE) <= 200 else f"{len(wave)} samples, not {SOUND_S * RATE:.0f}"


def fault_of(capture: Callable[[], NDArray[np.float32]], fault: Callable[[NDArray[np.float32]], str]) -> str:
    """What is wrong with a capture; the last of five where each has a fault.

    The capture runs on the page's main thread, which loses blocks when no core is free for a third of a second. What
    the stream or the browser does to a link is there every time.
    """
    found = ""
    for _ in range(5):
        wave = capture()
        if not (found := length_fault(wave) or fault(wave)):
            break
    return found


def test_a_new_title_in_ogg_is_not_heard_in_chromium(served: Served, open_page: Open) -> None:
    def capture() -> NDArray[np.float32]:
        page = open_page(served.url)
        page.mouse.click(2, 2)
        page.evaluate(CAPTURE, url)
        page.wait_for_function("audio.ended", timeout=PATIENCE_MS)
        page.wait_for_timeout(500)
        return heard(page.evaluate(CAPTURED))

    with chained() as url:
        assert fault_of(capture, lambda wave: broken(wave, SOUND_S)) == ""


def test_a_new_title_in_ogg_costs_firefox_one_packet_at_most(served: Served, fox: Firefox) -> None:
    """Firefox plays 20 ms of silence for the last packet of every link but the first (seen in version 153)."""

    def capture() -> NDArray[np.float32]:
        tab = fox.open(served.url)
        tab.click("document.querySelector('#prompt')")
        tab.evaluate(CAPTURE, url)
        tab.wait_for("() => audio.ended")
        tab.wait_for_timeout(500)
        return heard(tab.evaluate(CAPTURED))

    def fault(wave: NDArray[np.float32]) -> str:
        second = round((225 * 0.02 - 0.08) * RATE)
        return broken(wave[: second - 961], (second - 961) / RATE) or broken(wave[second:], (len(wave) - second) / RATE)

    with chained() as url:
        assert fault_of(capture, fault) == ""
