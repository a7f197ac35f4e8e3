"""Pages on plain http, as on a LAN: no worklet, no codecs, and still music that follows within a second."""

from __future__ import annotations

import io
import urllib.request

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from playwright.sync_api import expect

from tests.browser import listening
from tests.browser.conftest import PLAIN_HOST, Open, Served

pytestmark = pytest.mark.browser

# A busy machine's buffer is off its target, and is then read faster or slower; here only the joints matter.
_RATE_1 = """async () => {
  const { Pacer } = await import("/src/pacer.js");
  Pacer.prototype.update = function (fill) { this.open ||= fill >= this.target; return 1; };
}"""


def test_a_page_on_plain_http_plays_without_a_gap(served: Served, open_page: Open) -> None:
    page = open_page(f"http://{PLAIN_HOST}:{served.port}")
    assert page.evaluate("() => isSecureContext") is False
    assert page.evaluate("() => 'audioWorklet' in AudioContext.prototype || 'AudioDecoder' in window") is False
    assert listening.player(page, "transport") == "buffers"
    listening.play(page)
    listening.tap(page, script=True)
    listening.whole_for(page, 6)

    listening.steer(page, "bells over the fence")
    expect(page.locator("#next")).to_have_text("Next: bells over the fence")
    expect(page.locator("#now")).to_have_text("bells over the fence")
    # A machine that is busy now fills the buffer by what it owes; 1.5 s past the target it skips to live.
    listening.near(page, lambda: int(served.get("/api/stations/main")["sample_pos"]), 2.2)
    listening.follows(page, "bells over the fence")

    page.get_by_role("button", name="Pause", exact=True).click()
    expect(page.locator("#status")).to_have_text("paused")
    listening.play(page)


def test_the_rest_of_the_page_works_there(served: Served, open_page: Open) -> None:
    """Nothing of it needs what only secure pages have; what it would like to use, it does without."""
    page = open_page(f"http://{PLAIN_HOST}:{served.port}")
    expect(page.locator("#status")).to_have_text("ready")
    page.get_by_role("button", name="Share").click()
    page.get_by_role("button", name="Copy: link").click()
    assert page.evaluate("() => getSelection().toString() || document.activeElement.value").startswith(
        f"http://{PLAIN_HOST}"
    )
    page.keyboard.press("Escape")
    page.keyboard.press("d")
    expect(page.locator("#debug-panel")).to_contain_text("buffers")


def test_blocks_join_sample_for_sample(served: Served, open_page: Open) -> None:
    """What the scheduler gives to the loudspeaker is what the station made, number by number."""
    page = open_page(f"{served.url}/?transport=buffers&modules")  # the module that is changed is the page's
    page.evaluate(_RATE_1)
    listening.play(page)
    assert listening.player(page, "transport") == "buffers"
    listening.tap(page)
    errors = []
    for _ in range(8):  # the capture loses blocks while a busy machine holds the page up
        heard = listening.record(page, 3.0)[: 2 * listening.RATE]
        with urllib.request.urlopen(f"{served.url}/api/stations/main/recording?seconds=12&format=flac") as answer:
            sent, rate = soundfile.read(io.BytesIO(answer.read()), dtype="float32")
        assert rate == listening.RATE
        errors.append(_difference(heard.astype(np.float64), sent.mean(1).astype(np.float64)))
        if errors[-1] < 1e-4:  # s16 steps are 3e-5
            return
    pytest.fail(f"largest differences: {errors}; {listening.player(page, 'output.report')}")


def _difference(part: NDArray[np.float64], whole: NDArray[np.float64]) -> float:
    """Largest difference between a part and the place of the whole that is nearest to it."""
    size = len(part) + len(whole)
    products = np.fft.irfft(np.fft.rfft(whole, size) * np.conj(np.fft.rfft(part, size)), size)
    energy = np.concatenate([[0.0], np.cumsum(whole**2)])
    places = len(whole) - len(part) + 1
    distance = energy[len(part) :] - energy[:places] - 2 * products[:places]
    at = int(distance.argmin())
    return float(np.abs(whole[at : at + len(part)] - part).max())
