"""Requests on the page: listeners suggest, vote and react; a DJ takes and dismisses, by mouse and by keyboard."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.axe import violations
from tests.browser.conftest import Open, Served, Start
from tests.browser.test_panels import until

pytestmark = pytest.mark.browser


@pytest.fixture
def station(start_server: Start, tmp_path: Path) -> Served:
    """A server with a DJ's token whose station takes requests."""
    config = tmp_path / "requests.toml"
    config.write_text("[stations.main]\nrequests = true\n[stations.quiet]\ntitle = 'Quiet'\n")
    return start_server(config=config, access_dj_token="dj-secret", limits_request_interval_s=0, timeline_idle_s=0)


def suggest(page: Page, text: str) -> None:
    page.get_by_label("Your request").fill(text)
    page.keyboard.press("Enter")
    expect(page.get_by_label("Your request")).to_have_value("")


def test_listeners_ask_and_a_dj_answers(station: Served, open_page: Open) -> None:
    fan, dj = open_page(station.url), open_page(f"{station.url}/#token=dj-secret")
    # A listener's page opens where a listener has something to do.
    expect(fan.get_by_role("tab", name="Requests")).to_have_attribute("aria-selected", "true")
    expect(dj.get_by_role("tab", name="Sound")).to_have_attribute("aria-selected", "true")
    for text in ("church bells", "deep house", "rain"):
        suggest(fan, text)
    expect(dj.get_by_role("tab", name="Requests (3)")).to_be_visible()
    dj.get_by_role("tab", name="Requests").focus()
    dj.keyboard.press("Enter")
    expect(dj.locator(".requests li")).to_have_count(3)
    fan.get_by_role("button", name="Vote for rain").focus()
    fan.keyboard.press("Enter")
    expect(fan.get_by_role("button", name="Vote for rain")).to_have_attribute("aria-pressed", "true")
    expect(fan.get_by_role("button", name="Vote for rain")).to_be_focused()
    expect(fan.locator(".requests").get_by_role("button", name=re.compile("^(Play|Put|Dismiss) "))).to_have_count(0)
    fan.get_by_role("button", name="I love this").click()
    expect(dj.get_by_role("button", name="I love this, 1 in the last minute")).to_have_text("1")
    expect(fan.get_by_role("button", name="I love this")).to_have_text("")
    curve = "Reactions of the last ten minutes; the most, 1 in 10 s, now"
    expect(dj.get_by_role("img", name=curve)).to_be_visible()
    expect(fan.get_by_role("img", name=curve)).to_have_count(0)
    assert violations(fan) == []
    assert violations(dj) == []

    dj.get_by_role("button", name="Dismiss deep house").focus()
    dj.keyboard.press("Enter")
    expect(dj.locator(".requests li")).to_have_count(2)
    expect(dj.get_by_role("button", name=re.compile("^Dismiss "))).to_have_count(2)
    assert dj.evaluate("() => document.activeElement.dataset.focus").startswith("dismiss")  # the next one's
    dj.get_by_role("button", name="Put church bells into the queue").click()
    queue = until(lambda: station.get("/api/stations/main/queue"), lambda each: bool(each["items"] or each["playing"]))
    playing = queue["playing"] or queue["items"][0]
    assert playing["prompts"][0]["text"] == "church bells"
    dj.get_by_role("button", name="Play rain at the next bar").click()
    expect(dj.locator(".empty")).to_contain_text("Nobody has asked")
    expect(dj.locator("#now")).to_have_text("rain")
    expect(fan.get_by_role("tab", name="Requests")).to_have_text("Requests")


def test_a_station_without_requests_has_no_tab(station: Served, open_page: Open) -> None:
    page = open_page(f"{station.url}/?station=quiet")
    expect(page.locator("#status")).to_have_text("ready")
    expect(page.get_by_role("tab", name="Requests")).to_be_hidden()
    page.get_by_role("tab", name="Kept").focus()
    page.keyboard.press("ArrowRight")  # over the hidden one
    expect(page.get_by_role("tab", name="Queue")).to_be_focused()
    page.locator("#station").select_option("main")
    expect(page.get_by_role("tab", name="Requests")).to_be_visible()
    page.locator("#station").select_option("quiet")
    expect(page.get_by_role("tab", name="Sound")).to_have_attribute("aria-selected", "true")


def test_a_refusal_is_told_and_the_words_stay(station: Served, open_page: Open) -> None:
    page = open_page(station.url)
    box = page.get_by_label("Your request")
    expect(box).to_have_attribute("maxlength", "80")
    page.evaluate(
        """() => riffstream.player.changeRequests('suggest', {text: 'x'.repeat(81)})
             .catch((error) => (window.said = error.message))"""
    )
    page.wait_for_function("() => window.said?.includes('allowed: up to 80')")
    page.evaluate("() => { riffstream.player.changeRequests = () => Promise.reject(new Error('not this')); }")
    box.fill("something")
    page.keyboard.press("Enter")
    expect(page.locator(".toast.error")).to_have_text("not this")
    expect(box).to_have_value("something")
