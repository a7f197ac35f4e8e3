"""Small promises to a listener: countdowns, counts, directions of text, frames of a few lines, phones."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import listening
from tests.browser.conftest import Open, Served, opened

pytestmark = pytest.mark.browser

_BOX = """(name) => { const box = document.querySelector(name).getBoundingClientRect();
  return [box.left, box.top, box.right, box.bottom, innerWidth, innerHeight]; }"""


@pytest.fixture(scope="module")
def page(served: Served, browser: Browser) -> Iterator[Page]:
    with opened(browser) as open_page:
        page = open_page(served.url)
        listening.play(page)
        yield page


def test_a_countdown_never_goes_up(page: Page) -> None:
    """The first place of a change is an estimate, and the place where it was spliced may be later."""
    shown = page.evaluate(
        """async () => {
          const { player, app } = riffstream;
          const ask = player.steer;
          let rate = 48000, place = player.position + 1.2 * rate;
          player.steer = async (change, scheduled) => {
            scheduled({ rev: 1, audible_at: place, audible_in_ms: 1200 });
            await new Promise((done) => setTimeout(done, 600));
            return { rev: 1, audible_at: player.position + 1.6 * rate };
          };
          const count = document.querySelector("#countdown"), seen = [];
          const look = new MutationObserver(() => seen.push(count.textContent));
          look.observe(count, { childList: true, characterData: true, subtree: true });
          app.steer({ key: 0 }, "a late one");
          await new Promise((done) => setTimeout(done, 3000));
          player.steer = ask;
          return seen.filter(Boolean).map((text) => parseFloat(text.slice(3)));
        }"""
    )
    assert len(shown) > 3
    assert shown == sorted(shown, reverse=True), shown


def test_the_number_of_listeners_is_there_from_the_start(served: Served, page: Page, open_page: Open) -> None:
    second = open_page(served.url)
    expect(second.locator("#listeners")).to_have_text("1 listener")
    second.reload()
    expect(second.locator("#listeners")).to_have_text("1 listener")


def test_history_and_chips_have_their_own_direction(page: Page) -> None:
    listening.steer(page, "موسيقى هادئة, piano")
    expect(page.locator("#now")).to_have_text("موسيقى هادئة, piano")
    page.get_by_role("tab", name="Queue").click()
    line = page.locator("#history li span").first
    assert line.evaluate("(each) => getComputedStyle(each).direction") == "rtl"
    assert page.locator("#ideas button").first.get_attribute("dir") == "auto"


@pytest.mark.parametrize("size", [(640, 200), (480, 120), (300, 80), (300, 220)])
def test_a_low_frame_shows_the_words_and_the_button(served: Served, open_page: Open, size: tuple[int, int]) -> None:
    page = open_page(f"{served.url}/embed/main", viewport={"width": size[0], "height": size[1]})
    expect(page.locator("#now")).not_to_have_text("Endless music, made while you listen")
    for name in ("#now", "#play"):
        left, top, right, bottom, width, height = page.evaluate(_BOX, name)
        assert 0 <= left <= right <= width, name
        assert -1 <= top < bottom <= height + 1, name
    words, button = page.evaluate(_BOX, "#now"), page.evaluate(_BOX, "#play")
    assert words[2] <= button[0] or words[3] <= button[1], "the words lie under the button"
    page.evaluate("() => document.body.classList.add('idle-pointer')")
    assert page.locator(".deck").evaluate("(deck) => getComputedStyle(deck).opacity") == "1"


def test_a_phone_sets_numbers_in_one_line_and_headings_apart(served: Served, open_page: Open) -> None:
    page = open_page(served.url, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    page.get_by_role("tab", name="Mix").click()
    output = page.locator(".mix-row output").first
    output.evaluate("(each) => (each.textContent = '100 %')")
    assert output.evaluate("(each) => each.scrollWidth <= each.clientWidth && each.clientHeight < 30")
    assert page.locator("#mute").evaluate("(each) => each.getBoundingClientRect().width") >= 44
    page.get_by_role("tab", name="Queue").click()
    above = page.locator("#history h3").evaluate("(each) => parseFloat(getComputedStyle(each).marginTop)")
    assert above >= 16
    page.get_by_role("tab", name="Seeds").click()
    expect(page.locator(".seed, .gallery .empty").first).to_be_attached()
    page.evaluate("() => (document.querySelector('.drop').hidden = false)")
    expect(page.locator(".drops")).to_be_hidden()  # nothing is dragged on a touch screen


def test_the_browsers_colours_are_those_of_the_page(page: Page) -> None:
    for theme in ("dark", "light"):
        page.evaluate(
            "(theme) => document.documentElement.dataset.theme === theme || riffstream.picture.toggleTheme()", theme
        )
        shown, meta = page.evaluate(
            """() => { const probe = document.createElement("i"); document.body.append(probe);
              probe.style.color = document.querySelector('meta[name="theme-color"]').content;
              const found = [getComputedStyle(document.body).backgroundColor, getComputedStyle(probe).color];
              probe.remove(); return found; }"""
        )
        assert shown == meta, theme
