"""A page from a name that the server does not know: it listens, and says what to set."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser import listening
from tests.browser.conftest import DOTTED_HOST, Open, Start

pytestmark = pytest.mark.browser


def test_a_page_from_an_unknown_name_says_what_to_set_and_that_helps(start_server: Start, open_page: Open) -> None:
    served = start_server()
    address = f"http://{DOTTED_HOST}:{served.port}"
    page = open_page(address)
    expect(page.locator("#readonly")).to_contain_text(f'add "{address}" to server.allowed_origins')
    expect(page.locator("#prompt")).not_to_be_editable()
    served.stop()
    assert served.log.read_text().count(address) == 1
    again = start_server(port=served.port, server_allowed_origins=address)
    page.goto(address)
    expect(page.locator("#status")).to_have_text("ready")
    expect(page.locator("#readonly")).to_be_hidden()
    listening.steer(page, "church bells")
    expect(page.locator("#now")).to_have_text("church bells")
    again.stop()
