"""Browsers whose Opus decoder is missing, refuses, fails, says nothing or gives sound in a layout of its own."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

from tests.browser import listening
from tests.browser.conftest import Open, Served

pytestmark = pytest.mark.browser

_DECODER = """
  constructor(init) { this.init = init; this.state = "unconfigured"; this.decodeQueueSize = 0; }
  configure() { this.state = "configured"; }
  decode() { if (this.state !== "configured") throw new DOMException("closed", "InvalidStateError"); }
  reset() { this.state = "unconfigured"; }
  close() { this.state = "closed"; }
  fail() {
    if (this.state === "closed") return;
    this.state = "closed";
    this.init.error(new DOMException("no opus", "EncodingError"));
  }
"""

# What stands in the worker in place of the browser's own class. "Real" is that one.
_YES = "static async isConfigSupported() { return { supported: true }; }"
BROKEN = {
    "says no": f"class {{ {_DECODER} static async isConfigSupported() {{ return {{ supported: false }}; }} }}",
    "has no class in the worker": "undefined",
    "fails on every packet": f"class {{ {_DECODER} {_YES} decode() {{ setTimeout(() => this.fail()); }} }}",
    "gives nothing": f"class {{ {_DECODER} {_YES} }}",
}

WORKING = {
    "one bad packet in fifty": """class extends Real {
        decode(chunk) {
          globalThis.packets = (globalThis.packets ?? 0) + 1;
          const bad = { type: "key", timestamp: chunk.timestamp, data: new Uint8Array() };
          super.decode(packets % 50 ? chunk : new EncodedAudioChunk(bad));
        } }""",
    "gives interleaved s16 and converts nothing": """class extends Real {
        constructor(init) { super({ ...init, output: (data) => {
          const { numberOfFrames, numberOfChannels, sampleRate, timestamp } = data;
          const whole = new Int16Array(2 * numberOfFrames);
          for (const planeIndex of [0, 1]) {
            const plane = new Float32Array(numberOfFrames);
            data.copyTo(plane, { planeIndex, format: "f32-planar" });
            plane.forEach((value, i) => (whole[2 * i + planeIndex] = Math.round(32767 * value)));
          }
          data.close();
          const copyTo = (to, { format }) => {
            if (format && format !== "s16") throw new DOMException("no conversion", "NotSupportedError");
            to.set(whole);
          };
          init.output({ numberOfFrames, numberOfChannels, sampleRate, timestamp, format: "s16", copyTo, close() {} });
        } }); } }""",
}


def _open(open_page: Open, served: Served, code: str) -> Page:
    stub = f"{{ const Real = globalThis.AudioDecoder; globalThis.AudioDecoder = {code}; }}"
    return open_page(served.url, appended={"decoder.js": stub})


def _click(page: Page) -> None:
    """Press play, and note what the sound comes through."""
    page.wait_for_function("() => riffstream.player.state === 'idle'")
    page.evaluate(
        """() => { const { player } = riffstream; window.sounded = [];
          player.addEventListener("report", ({ detail }) => detail.audible && sounded.push(player.transport));
          document.querySelector("#play").click(); }"""
    )


def test_opus_that_cannot_be_decoded_gives_way_to_samples(served: Served, open_page: Open) -> None:
    pages = {name: _open(open_page, served, code) for name, code in BROKEN.items()}
    for name, page in pages.items():
        _click(page)
        # How soon is a matter of counts and times that decoder.test.js holds, and of how busy this machine is.
        page.wait_for_function("() => sounded.length > 10")
        assert page.evaluate("() => sounded[0]") == "pcm", name
        assert listening.player(page, "welcome.codec") == "pcm_s16", name
        assert listening.player(page, "fallback"), name
        page.context.close()


def test_a_decoder_that_works_is_kept(served: Served, open_page: Open) -> None:
    pages = {name: _open(open_page, served, code) for name, code in WORKING.items()}
    for page in pages.values():
        _click(page)
    for name, page in pages.items():
        page.wait_for_function("() => sounded.length > 40")
        assert listening.player(page, "transport") == "opus", name
    page = pages["one bad packet in fifty"]
    page.wait_for_function("() => riffstream.player.link.counters.decodeErrors >= 2")
    assert listening.player(page, "transport") == "opus"
