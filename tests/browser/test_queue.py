"""The station's queue on the page: for everybody, by mouse and keyboard, and after the page is gone."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import listening
from tests.browser.conftest import Open, Served, opened
from tests.browser.test_panels import until

pytestmark = pytest.mark.browser


def change(served: Served, **body: Any) -> Any:
    request = urllib.request.Request(
        f"{served.url}/api/stations/main/queue", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


@pytest.fixture
def page(served: Served, browser: Browser) -> Iterator[Page]:
    change(served, op="clear")
    with opened(browser) as open_page:
        page = open_page(served.url)
        listening.play(page)
        page.get_by_role("tab", name="Queue").click()
        yield page
    change(served, op="loop", loop=False)
    change(served, op="clear")


def add(page: Page, text: str, bars: str = "64 bars") -> None:
    page.get_by_label("Prompt to play later").fill(text)
    page.get_by_label("For how long").select_option(label=bars)
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_label("Prompt to play later")).to_have_value("")


def items(served: Served) -> list[str]:
    queue = served.get("/api/stations/main/queue")
    return [item["prompts"][0]["text"] for item in queue["items"]]


def test_the_queue_survives_a_reload_and_the_page(page: Page, served: Served, open_page: Open) -> None:
    for text in ("plays first", "second", "third"):
        add(page, text)
    expect(page.locator("#queue-now")).to_contain_text("Now plays first")
    expect(page.locator("#now")).to_have_text("plays first")
    page.reload()
    page.get_by_role("tab", name="Queue").click()
    expect(page.locator(".queue-items li")).to_have_count(2)
    other = open_page(served.url)
    other.get_by_role("tab", name="Queue").click()
    expect(other.locator(".queue-items li")).to_have_count(2)
    page.get_by_role("button", name="Remove second").click()
    expect(other.locator(".queue-items li")).to_have_count(1)
    page.close()
    change(served, op="next")  # nobody's page plays it
    expect(other.locator("#queue-now")).to_contain_text("Now third")


def test_items_are_moved_and_changed_by_keyboard_and_mouse(page: Page, served: Served) -> None:
    for text in ("now", "a", "b", "c"):
        add(page, text)
    assert until(lambda: items(served), lambda found: found == ["a", "b", "c"]) == ["a", "b", "c"]
    page.get_by_role("button", name="Move c up").focus()
    page.keyboard.press("Enter")
    assert until(lambda: items(served), lambda found: found == ["a", "c", "b"]) == ["a", "c", "b"]
    # The focus went with the item.
    expect(page.get_by_role("button", name="Move c up")).to_be_focused()
    page.keyboard.press("Enter")
    assert until(lambda: items(served), lambda found: found == ["c", "a", "b"]) == ["c", "a", "b"]
    expect(page.locator(".queue-items li").nth(0)).to_contain_text("c")
    page.locator(".queue-items li").nth(2).drag_to(page.locator(".queue-items li").nth(0))
    assert until(lambda: items(served), lambda found: found == ["b", "c", "a"]) == ["b", "c", "a"]
    page.get_by_label("Length of b").select_option(label="4 bars")
    length = until(lambda: served.get("/api/stations/main/queue")["items"][0]["bars"], lambda bars: bars == 4)
    assert length == 4
    page.get_by_role("button", name="Loop").click()
    expect(page.get_by_role("button", name="Loop")).to_have_attribute("aria-pressed", "true")


def test_two_quick_presses_move_by_two(page: Page, served: Served) -> None:
    for text in ("now", "a", "b", "c"):
        add(page, text)
    assert until(lambda: items(served), lambda found: found == ["a", "b", "c"]) == ["a", "b", "c"]
    page.evaluate(
        """() => {
          const up = document.querySelector('[aria-label="Move c up"]');
          up.click();
          up.click();
        }"""
    )
    assert until(lambda: items(served), lambda found: found == ["c", "a", "b"]) == ["c", "a", "b"]


def test_an_item_with_tempo_and_transition_and_a_refusal(page: Page, served: Served) -> None:
    add(page, "now")
    page.get_by_label("Transition of the prompt").select_option(label="over 4 bars")
    page.get_by_label("Tempo of the prompt").fill("90")
    add(page, "slower")
    expect(page.locator(".queue-items li")).to_contain_text("blends in over 4 bars, 90 bpm")
    page.evaluate(
        "() => riffstream.player.changeQueue('remove', {item: 'nope'}).catch((error) => (window.said = error))"
    )
    page.wait_for_function("() => window.said?.field === 'item'")


def test_a_listener_sees_what_follows_and_cannot_change_it(start_server: Any, open_page: Open) -> None:
    served = start_server(access_dj_token="dj-secret")
    page = open_page(f"{served.url}/#token=dj-secret")
    listening.play(page)
    page.get_by_role("tab", name="Queue").click()
    add(page, "now")
    add(page, "for all")
    listener = open_page(served.url)
    listener.get_by_role("tab", name="Queue").click()
    expect(listener.locator(".queue-items li")).to_contain_text("for all")
    expect(listener.get_by_role("button", name="Remove for all")).to_be_disabled()
    expect(listener.get_by_label("Prompt to play later")).to_be_disabled()


def test_a_refused_edit_shows_what_the_station_has(page: Page) -> None:
    for text in ("now", "kept"):
        add(page, text)
    length = page.get_by_label("Length of kept")
    expect(length).to_have_value("64")
    page.evaluate("""() => { riffstream.player.changeQueue = () => Promise.reject(new Error("too many changes")); }""")
    length.select_option(label="4 bars")
    expect(page.locator("#toasts")).to_contain_text("too many changes")
    expect(length).to_have_value("64")


def test_the_focus_stays_in_the_queue(page: Page, served: Served) -> None:
    for text in ("now", "a", "b"):
        add(page, text)
    assert until(lambda: items(served), lambda found: found == ["a", "b"]) == ["a", "b"]
    page.get_by_role("button", name="Move b up").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".queue-items li").nth(0)).to_contain_text("b")
    expect(page.get_by_role("button", name="Move b down")).to_be_focused()  # it cannot go further up
    page.get_by_role("button", name="Remove b").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Remove a")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Prompt to play later")).to_be_focused()
