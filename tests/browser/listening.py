"""What a listener does, and what a microphone at the loudspeaker would hear."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import Page, expect

from tests.conftest import PATIENCE_MS, PATIENCE_S, ROOT

RATE = 48_000


class Evaluating(Protocol):
    """A page of any browser."""

    def evaluate(self, expression: str, arg: Any = ..., /) -> Any: ...
    def wait_for_timeout(self, timeout: float, /) -> None: ...


_TAP = """async ({ output: { context, gain } }) => {
  const code = `registerProcessor("tap", class extends AudioWorkletProcessor {
    constructor() { super(); this.held = new Float32Array(12032); this.count = 0; }
    process([input]) {
      if (input[0]) this.held.set(input[0], this.count); else this.held.fill(0, this.count, this.count + 128);
      this.count += 128;
      if (this.count === this.held.length) { this.port.postMessage(this.held.slice()); this.count = 0; }
      return true;
    }
  });`;
  await context.audioWorklet.addModule(URL.createObjectURL(new Blob([code], { type: "text/javascript" })));
  const tap = new AudioWorkletNode(context, "tap", { channelCount: 1 });
  const heard = [], whole = [];
  tap.port.onmessage = (event) => (heard.push(event.data), whole.push(event.data));
  gain.connect(tap).connect(context.destination);
  Object.assign(window, { heard, whole });
}"""

# Where there is no worklet, or a page's policy allows none of ours: exact as well, unless the page itself stalls.
_SCRIPT_TAP = """({ output: { context, gain } }) => {
  const heard = [], whole = [];
  const tap = context.createScriptProcessor(16384, 1, 1);
  tap.onaudioprocess = ({ inputBuffer }) => {
    const block = inputBuffer.getChannelData(0).slice();
    heard.push(block), whole.push(block);
  };
  gain.connect(tap).connect(context.destination);
  Object.assign(window, { heard, whole, tap });
}"""

_TAKE = """(name) => {
  const parts = window[name].splice(0);
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.byteLength, 0));
  let at = 0;
  for (const part of parts) bytes.set(new Uint8Array(part.buffer), at), (at += part.byteLength);
  let text = "";
  for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
  return btoa(text);
}"""

CLIENT = ROOT / "client"
PLAYER = "window.riffstream.player"


def play(page: Page) -> None:
    """Press the button and wait for sound."""
    page.get_by_role("button", name="Play", exact=True).click()
    wait_for_sound(page)


def wait_for_sound(page: Page) -> None:
    expect(page.locator("#status")).to_have_text("playing", timeout=PATIENCE_MS)


def player(page: Evaluating, expression: str) -> object:
    """A value of the page's player: ``player(page, "output.report.underruns")``."""
    return page.evaluate(f"() => {PLAYER}.{expression}")


def tap(page: Evaluating, which: str = PLAYER, *, script: bool = False) -> None:
    """Begin to capture what goes to the loudspeaker, mixed to mono.

    Args:
        page: of any browser.
        which: a JavaScript expression for its player.
        script: through the page's own thread, where an audio worklet is not to be had.
    """
    page.evaluate(f"() => ({_SCRIPT_TAP if script else _TAP})({which})")


def take(page: Evaluating, which: str = "heard") -> NDArray[np.float32]:
    """What was captured since the last call, [n] at 48 kHz. ``whole`` is counted apart, for those who take it all."""
    return np.frombuffer(base64.b64decode(page.evaluate(_TAKE, which)), np.float32)


def captured_s(page: Evaluating) -> float:
    """Seconds of ``whole`` that wait to be taken."""
    return float(page.evaluate("() => window.whole.reduce((sum, part) => sum + part.length, 0)")) / RATE


def record(page: Evaluating, seconds: float) -> NDArray[np.float32]:
    """Capture for so long; :func:`tap` comes first."""
    take(page)
    page.wait_for_timeout(seconds * 1000)
    return take(page)


def levels(sound: NDArray[np.float32]) -> NDArray[np.float64]:
    """Root mean square of every 10 ms."""
    blocks = sound[: len(sound) // 480 * 480].reshape(-1, 480).astype(np.float64)
    found: NDArray[np.float64] = np.sqrt((blocks**2).mean(1))
    return found


def longest_run(quiet: NDArray[np.bool_]) -> int:
    """Length of the longest run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], quiet, [False]]).astype(np.int8)))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def whole_for(page: Evaluating, seconds: float, limit_s: float = PATIENCE_S) -> None:
    """Wait for so many seconds of sound without a gap of 10 ms or a run of zeros; :func:`tap` comes first.

    A machine that is busy with something else starves the page now and then; a player that leaves holes by itself never
    gets there.

    Raises:
        AssertionError: none came in time; the message tells the longest.
    """
    take(page)
    heard, longest = np.zeros(480, np.float32), 0
    for _ in range(round(limit_s)):
        page.wait_for_timeout(1000)
        heard = np.concatenate([heard, take(page)])
        edge = np.convolve(heard == 0.0, np.ones(8), "same") >= 8  # eight zeros in a row are no music
        bad = levels(edge.astype(np.float32)) > 0
        if (longest := longest_run((levels(heard) > 0.03) & ~bad)) >= 100 * seconds:
            return
    raise AssertionError(
        f"{len(heard) / RATE:.1f} s were heard, and no more than {longest / 100} s of them in one piece"
    )


def near(page: Evaluating, live: Callable[[], int], most_s: float) -> None:
    """Wait until the player is about where the server is; on a busy machine the server's answer takes a while.

    Args:
        live: the sample that the server calls audible.
        most_s: how far the player may be behind, seconds. It may be ahead by as much, as its position is read later.

    Raises:
        AssertionError: it never was.
    """
    behind_s = []
    for _ in range(30):
        behind_s.append((live() - float(str(player(page, "position")))) / RATE)
        if abs(behind_s[-1]) < most_s:
            return
        page.wait_for_timeout(1000)
    raise AssertionError(f"behind what the server calls audible, seconds: {behind_s}")


def sounds(page: Evaluating, limit_s: float = PATIENCE_S) -> None:
    """Wait until something is heard; :func:`tap` comes first.

    Raises:
        AssertionError: silence.
    """
    for _ in range(round(limit_s)):
        if levels(record(page, 1.0)).max(initial=0.0) > 0.03:
            return
    raise AssertionError(f"nothing was heard for {limit_s:g} s")


def pitch_of(prompt: str) -> float:
    """The tone that the test generator gives a prompt."""
    return 200.0 + zlib.crc32(prompt.encode()) % 601


def pitch(sound: NDArray[np.float32]) -> float:
    """Frequency in Hz of the strongest component."""
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), 4 * RATE))
    return float(spectrum.argmax()) / 4


def follows(page: Evaluating, prompt: str, limit_s: float = PATIENCE_S) -> None:
    """Wait until the pitch of a prompt is heard; :func:`tap` comes first.

    Raises:
        AssertionError: it was not heard in time.
    """
    heard = []
    for _ in range(round(limit_s)):
        take(page)
        page.wait_for_timeout(1000)
        if len(sound := take(page)) > RATE // 4:
            heard.append(pitch(sound))
            # The player may read half a per cent faster or slower, towards the fill that it wants.
            if abs(heard[-1] / pitch_of(prompt) - 1) < 0.007:
                return
    raise AssertionError(f"{prompt!r} has {pitch_of(prompt)} Hz; heard: {heard}")


def steer(page: Page, prompt: str) -> None:
    """Type a prompt and send it."""
    page.locator("#prompt").fill(prompt)
    page.locator("#prompt").press("Enter")
