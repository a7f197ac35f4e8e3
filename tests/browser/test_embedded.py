"""The whole way: the embedded model's music in a browser."""

from __future__ import annotations

import numpy as np
import pytest
from playwright.sync_api import expect

from tests.browser import listening
from tests.browser.conftest import Open, Start
from tests.conftest import PATIENCE_MS, ROOT

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_the_embedded_model_plays_and_follows(start_server: Start, open_page: Open) -> None:
    if not list((ROOT / "riffstream" / "models" / "mini" / "denoiser").glob("*.safetensors")):
        pytest.skip("this checkout has no weights of the embedded model")
    served = start_server(model="mini")
    page = open_page(served.url)
    listening.play(page)
    assert float(str(listening.player(page, "firstSoundMs"))) < PATIENCE_MS  # 0.5 s on a machine that is free
    listening.tap(page)
    shares = []
    for _ in range(6):  # music rests, and a busy machine starves; but it is heard most of the time, and it is no hum
        sound = listening.record(page, 15.0)
        shares.append((listening.levels(sound) > 0.003).mean())
        if shares[-1] > 0.8:
            break
    else:
        pytest.fail(f"shares of each 15 s with sound: {shares}")
    spectrum = np.abs(np.fft.rfft(sound)) ** 2
    assert np.sort(spectrum)[::-1][:100].sum() < 0.9 * spectrum.sum(), "a hum"
    listening.steer(page, "solo piano, gentle and sad")
    expect(page.locator("#next")).to_have_text("Next: solo piano, gentle and sad")
    expect(page.locator("#now")).to_have_text("solo piano, gentle and sad", timeout=PATIENCE_MS)
    expect(page.locator("#canvas2d")).to_be_visible()

    # The seed walks on from clip to clip: one change is one line of the history, and undo leads out of it.
    before = page.evaluate("() => riffstream.app.heard().clip")
    page.wait_for_function("(clip) => riffstream.app.heard().clip >= clip + 2", arg=before, timeout=PATIENCE_MS)
    texts = page.locator("#history li span:nth-of-type(1)").all_text_contents()
    assert texts.count("solo piano, gentle and sad") == 1, texts
    page.locator("#prompt").press("Escape")
    page.keyboard.press("u")
    expect(page.locator("#now")).not_to_have_text("solo piano, gentle and sad", timeout=PATIENCE_MS)
    served.stop()
