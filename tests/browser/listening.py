"""What a listener does, and what a microphone at the loudspeaker would hear."""

from __future__ import annotations

import base64
import zlib

import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import Page, expect

from tests.conftest import ROOT

RATE = 48_000

_TAP = """async (player) => {
  const code = `registerProcessor("tap", class extends AudioWorkletProcessor {
    constructor() { super(); this.held = new Float32Array(12032); this.count = 0; }
    process([input]) {
      if (input[0]) this.held.set(input[0], this.count); else this.held.fill(0, this.count, this.count + 128);
      this.count += 128;
      if (this.count === this.held.length) { this.port.postMessage(this.held.slice()); this.count = 0; }
      return true;
    }
  });`;
  await player.context.audioWorklet.addModule(URL.createObjectURL(new Blob([code], { type: "text/javascript" })));
  const tap = new AudioWorkletNode(player.context, "tap", { channelCount: 1 });
  const heard = [], whole = [];
  tap.port.onmessage = (event) => (heard.push(event.data), whole.push(event.data));
  player.analyser.connect(tap).connect(player.context.destination);
  Object.assign(window, { heard, whole });
}"""

_TAKE = """(name) => {
  const parts = window[name].splice(0);
  const bytes = new Uint8Array(parts.length * 12032 * 4);
  parts.forEach((part, i) => bytes.set(new Uint8Array(part.buffer), i * part.byteLength));
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
    expect(page.locator("#status")).to_have_text("playing", timeout=30_000)


def player(page: Page, expression: str) -> object:
    """A value of the page's player: ``player(page, "report.underruns")``."""
    return page.evaluate(f"() => {PLAYER}.{expression}")


def tap(page: Page, which: str = PLAYER) -> None:
    """Begin to capture what goes to the loudspeaker, mixed to mono."""
    page.evaluate(f"() => ({_TAP})({which})")


def take(page: Page, which: str = "heard") -> NDArray[np.float32]:
    """What was captured since the last call, [n] at 48 kHz. ``whole`` is counted apart, for those who take it all."""
    return np.frombuffer(base64.b64decode(page.evaluate(_TAKE, which)), np.float32)


def captured_s(page: Page) -> float:
    """Seconds of ``whole`` that wait to be taken."""
    return float(page.evaluate("() => window.whole.length")) * 12032 / RATE


def record(page: Page, seconds: float) -> NDArray[np.float32]:
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


def pitch_of(prompt: str) -> float:
    """The tone that the test generator gives a prompt."""
    return 200.0 + zlib.crc32(prompt.encode()) % 601


def pitch(sound: NDArray[np.float32]) -> float:
    """Frequency in Hz of the strongest component."""
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), 4 * RATE))
    return float(spectrum.argmax()) / 4


def steer(page: Page, prompt: str) -> None:
    """Type a prompt and send it."""
    page.locator("#prompt").fill(prompt)
    page.locator("#prompt").press("Enter")
