"""``<riff-stream station="new">``: a private station for each visitor."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open, Served, Start
from tests.conftest import PATIENCE_MS

pytestmark = pytest.mark.browser
ELEMENT = "document.querySelector('riff-stream')"
Site = tuple[Path, str]


def write(served: Served, site: Site, body: str) -> str:
    """A page of another site with the element; its address."""
    folder, origin = site
    script = f'<script type="module" src="{served.url}/riff-stream.js"></script>'
    (folder / "index.html").write_text(f"<!doctype html><meta charset=utf-8><title>a shop</title>{body}{script}")
    return f"{origin}/index.html"


def ended(served: Served, station: str) -> bool:
    try:
        served.get(f"/api/stations/{station}")
    except urllib.error.HTTPError as error:
        return error.code == 404
    return False


def wait_ended(page: Page, served: Served, station: str) -> None:
    for _ in range(300):
        if ended(served, station):
            return
        page.wait_for_timeout(100)
    pytest.fail("the private station was left behind")


@pytest.fixture
def invited(start_server: Start, other_origin: Site) -> Any:
    """A server with a DJ's token that knows the other site."""
    settings = {"sessions_interval_s": 0, "sessions_per_address": 2, "limits_steer_interval_s": 0, "timeline_idle_s": 0}
    made = start_server(access_dj_token="dj-secret", server_allowed_origins=other_origin[1], **settings)
    yield made
    made.stop()


def test_each_visitor_has_a_stream_that_the_page_steers(invited: Served, open_page: Open, other_origin: Site) -> None:
    page = open_page(
        write(invited, other_origin, "<riff-stream station=new prompt='calm piano' bpm=72 controls></riff-stream>")
    )
    page.wait_for_function(f"() => {ELEMENT}.play")
    expect(page.locator("riff-stream #now")).to_have_text("calm piano")
    assert len(invited.get("/api/stations")["stations"]) == 1
    assert invited.get("/api/sessions")["free"] == invited.get("/api/sessions")["most"]  # nothing before the first play
    page.get_by_role("button", name="Play").click()
    page.wait_for_function(f"() => {ELEMENT}.hasAttribute('playing')", timeout=PATIENCE_MS)
    station = page.evaluate(f"() => {ELEMENT}.player.station")
    state = invited.get(f"/api/stations/{station}")["state"]
    assert state["prompts"][0]["text"] == "calm piano"
    assert state["bpm"] == 72
    page.evaluate(f"() => {ELEMENT}.steer({{prompts: [{{text: 'rain', weight: 1}}]}})")
    expect(page.locator("riff-stream #now")).to_have_text("rain")
    page.evaluate(f"() => {ELEMENT}.setAttribute('prompt', 'church bells')")
    expect(page.locator("riff-stream #now")).to_have_text("church bells")
    assert invited.get("/api/stations/main")["playing"] not in ("rain", "church bells")

    other = open_page(page.url)
    other.wait_for_function(f"() => {ELEMENT}.play")
    other.get_by_role("button", name="Play").click()
    other.wait_for_function(f"() => {ELEMENT}.hasAttribute('playing')", timeout=PATIENCE_MS)
    second = other.evaluate(f"() => {ELEMENT}.player.station")
    assert second != station
    # A third one has no place: it is told, and comes once there is one.
    third = open_page(page.url)
    third.wait_for_function(f"() => {ELEMENT}.play")
    third.evaluate(
        f"() => {{ window.seen = []; {ELEMENT}.addEventListener('error', ({{detail}}) => seen.push(detail)); }}"
    )
    third.get_by_role("button", name="Play").click()
    expect(third.locator("riff-stream #state")).to_contain_text("allowed: 2")
    third.wait_for_function("() => seen.length")
    assert third.evaluate("() => [seen[0].code, seen[0].fatal]") == ["busy", False]
    other.evaluate(f"() => {ELEMENT}.remove()")
    wait_ended(other, invited, second)
    page.goto("about:blank")
    wait_ended(page, invited, station)


def test_a_station_that_ended_is_made_again_with_its_music(
    invited: Served, open_page: Open, other_origin: Site
) -> None:
    page = open_page(
        write(invited, other_origin, "<riff-stream station=new prompt='calm piano' controls></riff-stream>")
    )
    page.wait_for_function(f"() => {ELEMENT}.play")
    page.get_by_role("button", name="Play").click()
    page.wait_for_function(f"() => {ELEMENT}.hasAttribute('playing')", timeout=PATIENCE_MS)
    page.evaluate(f"() => {ELEMENT}.steer({{prompts: [{{text: 'rain', weight: 1}}]}})")
    expect(page.locator("riff-stream #now")).to_have_text("rain")
    page.wait_for_timeout(5000)  # one that ends sooner is not made again
    made = page.evaluate(f"() => {ELEMENT}.player.own.made")
    request = urllib.request.Request(
        f"{invited.url}/api/sessions/{made['station']}",
        headers={"Authorization": f"Bearer {made['token']}"},
        method="DELETE",
    )
    with urllib.request.urlopen(request, timeout=30):
        pass
    page.wait_for_function(
        f"(name) => {ELEMENT}.player.station !== name && {ELEMENT}.hasAttribute('playing')", arg=made["station"]
    )
    station = page.evaluate(f"() => {ELEMENT}.player.station")
    assert invited.get(f"/api/stations/{station}")["playing"] == "rain"
    # Tuning elsewhere ends it.
    page.evaluate(f"() => {ELEMENT}.tune('main')")
    page.wait_for_function(f"() => {ELEMENT}.hasAttribute('playing') && {ELEMENT}.player.station === 'main'")
    wait_ended(page, invited, station)


def test_a_prompt_that_changes_while_the_station_is_made_is_played(
    invited: Served, open_page: Open, other_origin: Site
) -> None:
    page = open_page(
        write(invited, other_origin, "<riff-stream station=new prompt='calm piano' controls></riff-stream>")
    )
    page.wait_for_function(f"() => {ELEMENT}.play")
    page.evaluate(
        """() => { const ask = window.fetch;
             window.fetch = async (...asked) => {
               const answer = await ask(...asked);
               await new Promise((later) => setTimeout(later, 1000));
               return answer;
             }; }"""
    )
    page.get_by_role("button", name="Play").click()
    page.evaluate(f"() => {ELEMENT}.setAttribute('prompt', 'church bells')")
    page.wait_for_function(f"() => {ELEMENT}.player.now?.state.prompts[0].text === 'church bells'")


def test_a_strangers_page_says_what_is_missing(served: Served, open_page: Open, other_origin: Site) -> None:
    page = open_page(write(served, other_origin, "<riff-stream station=new controls></riff-stream>"))
    page.wait_for_function(f"() => {ELEMENT}.play")
    page.evaluate(
        f"() => {{ window.seen = []; {ELEMENT}.addEventListener('error', ({{detail}}) => seen.push(detail)); }}"
    )
    page.get_by_role("button", name="Play").click()
    expect(page.locator("riff-stream #state")).to_contain_text("server.allowed_origins")
    expect(page.get_by_role("button", name="Play")).to_have_attribute("aria-pressed", "false")
    fault = page.evaluate("() => seen[0]")
    assert fault["code"] == "unauthorised"
    assert fault["fatal"]
    assert json.dumps(other_origin[1]) in fault["message"]
