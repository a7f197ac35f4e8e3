"""The button of the live input, with Chromium's own fake microphone, which beeps once a second."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Served, opened
from tests.conftest import PATIENCE_MS

pytestmark = pytest.mark.browser


@contextlib.contextmanager
def microphone(browser: Browser, need_tool: Callable[[str], str], *more: str) -> Iterator[Browser]:
    """Another browser like ``browser``, with a microphone."""
    arguments = ["--no-sandbox", "--disable-gpu", "--use-fake-device-for-media-stream", *more]
    with contextlib.closing(browser.browser_type.launch(executable_path=need_tool("chromium"), args=arguments)) as own:
        yield own


def test_the_button_shows_the_input_and_stops_it(
    served: Served, browser: Browser, need_tool: Callable[[str], str]
) -> None:
    with microphone(browser, need_tool, "--use-fake-ui-for-media-stream") as own, opened(own) as open_page:
        page: Page = open_page(served.url)
        button = page.locator("#live")
        expect(button).to_have_attribute("aria-label", "Play live")
        page.get_by_role("button", name="Play", exact=True).click()
        button.click()
        expect(button).to_have_attribute("aria-pressed", "true")
        expect(button).to_have_attribute("data-state", "live", timeout=PATIENCE_MS)  # the server says so
        expect(button).to_have_attribute("title", "The station hears you")
        page.wait_for_function("Number(document.querySelector('#live').style.getPropertyValue('--level')) > 0.3")
        page.get_by_role("button", name="Pause", exact=True).click()  # another connection: the input goes along
        expect(button).to_have_attribute("data-state", "live", timeout=PATIENCE_MS)

        other: Page = open_page(served.url)
        other.locator("#live").click()
        expect(other.locator("#toasts")).to_contain_text("Press again to take over")
        expect(other.locator("#live")).to_have_attribute("aria-pressed", "false")
        other.locator("#live").click()
        expect(other.locator("#live")).to_have_attribute("aria-pressed", "true")
        expect(page.locator("#toasts")).to_contain_text("taken over by another client")
        expect(button).to_have_attribute("aria-pressed", "false")
        other.locator("#live").click()
        expect(other.locator("#live")).to_have_attribute("aria-pressed", "false")
        assert served.get("/api/stations/main")["state"]["seed_image"] is None


def test_a_denied_microphone_is_a_clear_word(served: Served, browser: Browser, need_tool: Callable[[str], str]) -> None:
    with microphone(browser, need_tool, "--deny-permission-prompts") as own, opened(own) as open_page:
        page: Page = open_page(served.url)
        page.locator("#live").click()
        expect(page.locator("#toasts")).to_contain_text("Allow the microphone for this site")
        expect(page.locator("#live")).to_have_attribute("aria-pressed", "false")
        expect(page.locator("#live")).to_be_enabled()
