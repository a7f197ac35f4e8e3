"""Contrast of the words that lie on the picture, measured on the pixels behind them, with dense music (WCAG 2, AA)."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.browser import listening
from tests.browser.conftest import Open, Served, opened

pytestmark = pytest.mark.browser

# Dense music over the whole picture: loud lows, and highs that leave no gap. It stands still while it is measured.
_DENSE = """() => {
  const { player, picture, app } = riffstream, ring = picture.ring;
  const first = Math.max(0, Math.floor((player.onAir ?? 0) / 480) - 1500), levels = new Uint8Array(256 * 2000);
  let seed = 1;
  for (let i = 0; i < levels.length; i++) {
    seed = (seed * 16807) % 2147483647;
    levels[i] = Math.min(235, 110 + 90 * (1 - (i % 256) / 256) + (seed % 70));
  }
  ring.reset();
  ring.put(first, levels);
  ring.put = () => {};
  document.querySelector(".stage").classList.add("lit");
}"""

_TEXTS = """() => {
  const found = [];
  for (const element of document.querySelectorAll(".now > p, .now h2")) {
    if (!element.checkVisibility() || !element.textContent.trim()) continue;
    const range = document.createRange();
    range.selectNodeContents(element);
    const style = getComputedStyle(element), size = parseFloat(style.fontSize);
    const clip = element.getBoundingClientRect();
    for (const box of range.getClientRects()) {
      if (!box.width || box.bottom > clip.bottom + 2) continue;
      const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
      found.push([element.id || element.className, style.color, large, box.left, box.top, box.right, box.bottom]);
    }
  }
  return found;
}"""

_STAGE = """() => { const box = document.querySelector(".stage").getBoundingClientRect();
  return [box.left, box.top, box.right, box.bottom]; }"""

_THEME = "(theme) => document.documentElement.dataset.theme === theme || riffstream.picture.toggleTheme()"


def luminance(colours: NDArray[np.float64]) -> NDArray[np.float64]:
    """Relative luminance of sRGB colours, [..., 3] in 0 to 255."""
    share = colours / 255
    linear = np.where(share <= 0.03928, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    found: NDArray[np.float64] = linear @ np.array([0.2126, 0.7152, 0.0722])
    return found


@pytest.fixture(scope="module")
def page(served: Served, browser: Browser) -> Iterator[Page]:
    with opened(browser) as open_page:
        page = open_page(served.url)
        listening.play(page)
        listening.steer(page, "dense guitars and cymbals")
        expect(page.locator("#now")).to_have_text("dense guitars and cymbals")
        page.evaluate(_DENSE)
        yield page


def measure(page: Page, size: tuple[int, int]) -> None:
    page.wait_for_timeout(700)
    for _ in range(5):
        texts = page.evaluate(_TEXTS)
        style = page.add_style_tag(content=".now * { color: transparent !important; text-shadow: none !important; }")
        picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        style.evaluate("(each) => each.remove()")
        if page.evaluate(_TEXTS) == texts:
            break  # no line came or went meanwhile
    assert {"now-label", "now"} <= {name for name, *_ in texts}
    pixels = np.asarray(picture, np.float64)
    left, top, right, bottom = (int(each) for each in page.evaluate(_STAGE))
    free = luminance(pixels[top + 4 : top + (bottom - top) // 5, left:right])
    assert free.std() > 0.01, "there is no picture behind the words"
    for name, colour, large, *box in texts:
        left, top, right, bottom = (int(each) for each in box)
        behind = luminance(pixels[max(0, top) : bottom + 1, max(0, left) : right + 1]).ravel()
        ink = luminance(np.array([float(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]))
        ratio = (np.maximum(behind, ink) + 0.05) / (np.minimum(behind, ink) + 0.05)
        least = np.quantile(ratio, 0.005)  # a pixel of a marker may lie behind a word
        assert least >= (3 if large else 4.5), f"{size}: {name} has {least:.2f}"


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("size", [(360, 740), (1280, 800), (2560, 1440)])
def test_words_have_contrast_with_dense_music_behind_them(page: Page, theme: str, size: tuple[int, int]) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.evaluate(_THEME, theme)
    page.evaluate("() => (document.querySelector('#next').textContent = 'Next: church bells')")
    measure(page, size)


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_first_sentence_has_contrast_as_well(served: Served, open_page: Open, theme: str) -> None:
    page = open_page(served.url)
    expect(page.locator("#status")).to_have_text("ready")
    page.evaluate(_DENSE)
    page.evaluate(_THEME, theme)
    measure(page, (1000, 700))
