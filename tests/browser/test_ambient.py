"""The looks of the picture, its colours, and the full screen that nobody touches."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser import listening
from tests.browser.conftest import Open, Served

pytestmark = pytest.mark.browser

_PATIENCE = "{ const now = performance.now.bind(performance); let ahead = 0; window.later = (ms) => (ahead += ms); "
_PATIENCE += "performance.now = () => now() + ahead; }"
"""``later(ms)`` moves the page's clock on."""


def stage(page: Page) -> np.ndarray[Any, Any]:
    """The visible picture, [height, width, 3], as 0 to 255."""
    shot = page.locator(".stage canvas:visible").screenshot()
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).astype(float)


def silence(picture: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The usual colour of the highest rows, where the tone has nothing; beats cross them."""
    return np.median(picture[:6].reshape(-1, 3), axis=0)


def test_v_and_p_change_look_and_colours_and_are_kept(served: Served, open_page: Open) -> None:
    page = open_page(served.url)
    listening.play(page)
    page.wait_for_function("() => riffstream.picture.ring.latest > 400")
    looks = [page.evaluate("() => riffstream.picture.look()")]
    while len(looks) < 6:
        page.keyboard.press("v")
        page.wait_for_function("(before) => riffstream.picture.look() !== before", arg=looks[-1])
        looks.append(page.evaluate("() => riffstream.picture.look()"))
    order = ["spectrogram", "landscape", "radial", "bars"]
    if "landscape" not in looks:  # no WebGL 2 here
        order.remove("landscape")
    assert looks == (order * 2)[:6]
    while page.evaluate("() => riffstream.picture.look()") != "radial":
        page.keyboard.press("v")
        page.wait_for_timeout(300)
    names = []
    for _ in range(6):
        page.keyboard.press("p")
        names.append(page.evaluate("() => riffstream.picture.palette()"))
    assert names == ["ember", "ocean", "forest", "mono", "paper", None]
    page.keyboard.press("p")
    page.keyboard.press("p")
    page.reload()
    page.wait_for_function("() => riffstream.picture.look() === 'radial'")
    assert page.evaluate("() => riffstream.picture.palette()") == "ocean"


@pytest.mark.parametrize("look", ["spectrogram", "radial", "bars"])
def test_a_look_draws_the_sound_in_its_colours(served: Served, open_page: Open, look: str) -> None:
    page = open_page(f"{served.url}/?kiosk&look={look}&palette=ocean")
    page.mouse.click(300, 300)
    listening.wait_for_sound(page)
    page.wait_for_function("() => riffstream.picture.ring.latest > 300")
    page.wait_for_function("() => getComputedStyle(document.querySelector('#canvas2d')).opacity === '1'")
    page.evaluate(
        "() => (document.querySelector('.now').style.display = document.querySelector('.deck').style.display = 'none')"
    )
    seen = stage(page)
    assert np.abs(silence(seen) - [4, 8, 15]).max() < 6
    lit = seen.reshape(-1, 3)[seen.max(2).ravel() > 90]
    assert len(lit) > 300, "nothing is drawn"
    assert (lit[:, 1] >= lit[:, 0] - 40).mean() > 0.9  # blue and green, not the theme's purple and orange
    page.evaluate("() => riffstream.picture.setPalette('paper')")
    page.wait_for_timeout(700)
    assert silence(stage(page)).min() > 235
    # Words on light paper are dark, whatever the theme is.
    ink = page.evaluate("() => getComputedStyle(document.querySelector('#now')).color")
    assert max(int(each) for each in re.findall(r"\d+", ink)[:3]) < 80


def test_the_look_changes_by_itself_on_a_bar_line(served: Served, open_page: Open) -> None:
    page = open_page(f"{served.url}/?look=radial", script=_PATIENCE)
    listening.play(page)
    page.keyboard.press("a")
    expect(page.locator("#toasts")).to_contain_text("every 3 minutes")
    page.wait_for_timeout(2500)
    assert page.evaluate("() => [riffstream.picture.look(), riffstream.picture.palette()]") == ["radial", None]
    page.evaluate("() => later(181000)")
    page.wait_for_function("() => riffstream.picture.look() === 'bars' && riffstream.picture.palette() === 'ember'")
    page.keyboard.press("a")
    expect(page.locator("#toasts")).to_contain_text("stays")
    assert page.evaluate("() => localStorage.getItem('look')") is None  # chosen by nobody


def test_an_untouched_full_screen_gets_smaller_words_that_wander(served: Served, open_page: Open) -> None:
    page = open_page(f"{served.url}/?kiosk&clock", script=_PATIENCE)
    page.mouse.click(300, 300)
    listening.wait_for_sound(page)
    body, words = page.locator("body"), page.locator("#now")
    expect(body).not_to_have_class(re.compile("ambient"))
    expect(page.locator("#clock")).to_have_text(re.compile(r"\d\d:\d\d"))
    before = words.bounding_box()
    page.evaluate("() => later(20000)")
    expect(body).to_have_class(re.compile("ambient"))
    page.wait_for_timeout(1500)
    page.evaluate("() => later(30000)")
    page.wait_for_timeout(2500)
    after = words.bounding_box()
    assert before is not None
    assert after is not None
    assert after["height"] == pytest.approx(0.7 * before["height"], rel=0.05)
    moved = page.evaluate("() => document.querySelector('.now').style.translate")
    right, down = (float(each) for each in re.findall(r"(-?[\d.]+)px", moved))
    assert right > 20  # of some 31 s
    assert down < -12
    assert after["x"] > before["x"] + 8
    expect(words).to_be_in_viewport(ratio=1)
    page.mouse.move(400, 400)
    expect(body).not_to_have_class(re.compile("ambient"))
    assert page.evaluate("() => document.querySelector('.now').style.translate") == ""
    # At night it is dimmed; a clock is shown or not.
    page.evaluate("() => { Date.prototype.getHours = () => 23; later(20000); }")
    expect(body).to_have_class(re.compile("ambient.*night|night.*ambient"))
    page.keyboard.press("c")
    expect(page.locator("#clock")).to_be_hidden()
    expect(body).not_to_have_class(re.compile("night"))


def test_full_screen_has_buttons_for_the_picture_and_frames_have_none(served: Served, open_page: Open) -> None:
    page = open_page(f"{served.url}/?kiosk")
    page.get_by_role("button", name="Other colours").click()
    assert page.evaluate("() => riffstream.picture.palette()") == "ember"
    page.get_by_role("button", name="Another look").click()
    page.wait_for_function("() => riffstream.picture.look() !== 'spectrogram'")
    for path in ("/", "/embed/main", "/embed/main?bg=transparent"):
        expect(open_page(f"{served.url}{path}").get_by_role("button", name="Other colours")).to_be_hidden()
