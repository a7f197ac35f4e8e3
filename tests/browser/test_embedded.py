"""The whole way: the embedded model's music in a browser."""

from __future__ import annotations

import numpy as np
import pytest
from playwright.sync_api import expect

from tests.browser import listening
from tests.browser.conftest import Open, Start
from tests.conftest import ROOT

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_the_embedded_model_plays_and_follows(start_server: Start, open_page: Open) -> None:
    if not list((ROOT / "riffstream" / "models" / "mini" / "denoiser").glob("*.safetensors")):
        pytest.skip("this checkout has no weights of the embedded model")
    served = start_server(model="mini")
    page = open_page(served.url)
    listening.play(page)
    assert float(str(listening.player(page, "firstSoundMs"))) < 15_000  # 0.5 s on a machine that is free
    listening.tap(page)
    sound = listening.record(page, 15.0)
    levels = listening.levels(sound)
    # Music rests, and a busy machine starves; but it is heard most of the time, and it is no hum.
    assert (levels > 0.003).mean() > 0.8
    spectrum = np.abs(np.fft.rfft(sound)) ** 2
    assert np.sort(spectrum)[::-1][:100].sum() < 0.9 * spectrum.sum(), "a hum"
    listening.steer(page, "solo piano, gentle and sad")
    expect(page.locator("#next")).to_have_text("Next: solo piano, gentle and sad")
    expect(page.locator("#now")).to_have_text("solo piano, gentle and sad", timeout=60_000)
    expect(page.locator("#canvas2d")).to_be_visible()
    served.stop()
