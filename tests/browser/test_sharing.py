"""Links that reopen the music, stations of one's own, and players on other people's pages."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

import pytest
from playwright.sync_api import Route, expect

from tests.browser import listening
from tests.browser.conftest import Open, Served
from tests.conftest import PATIENCE_MS

pytestmark = pytest.mark.browser


def test_share_link_round_trip(served: Served, open_page: Open) -> None:
    page = open_page(served.url)
    wanted = "bells & “50 %” of techno/acid?"
    page.evaluate(
        """(text) => riffstream.player.steer(
             {prompts: [{text, weight: 1}, {text: 'rain', weight: 0.25}], bpm: 98.5, key: -3})""",
        wanted,
    )
    page.wait_for_function("() => riffstream.app.state().bpm === 98.5")
    page.keyboard.press("s")
    link = page.get_by_label("Link", exact=True).input_value()
    assert link.startswith(served.url)
    page.keyboard.press("Escape")
    page.evaluate("() => riffstream.player.steer({prompts: [{text: 'something else', weight: 1}], bpm: 120, key: 0})")
    page.wait_for_function("() => riffstream.app.state().bpm === 120")

    other = open_page(link)
    # Opening a link changes nothing for those who listen already.
    expect(other.get_by_role("group", name="Music of this link")).to_contain_text(wanted)
    assert served.get("/api/stations/main")["state"]["bpm"] == 120
    other.get_by_role("button", name="Play it for everybody here").click()
    expect(other.locator("#now")).to_contain_text(wanted)
    state = served.get("/api/stations/main")["state"]
    assert state["bpm"] == 98.5
    assert state["key"] == -3
    mix = {part["text"]: part["weight"] for part in state["prompts"]}
    assert mix[wanted] / mix["rain"] == pytest.approx(4)


def test_a_link_may_open_a_station_of_ones_own(served: Served, open_page: Open) -> None:
    page = open_page(f"{served.url}/?p=my+own+tune&bpm=88")
    page.get_by_role("button", name="Play it for me alone").click()
    expect(page.locator("#now")).to_have_text("my own tune")
    listening.wait_for_sound(page)
    own = f"/api/stations/{listening.player(page, 'station')}"
    assert served.get(own)["playing"] == "my own tune"
    assert served.get("/api/stations/main")["playing"] != "my own tune"
    page.goto("about:blank")  # leaving ends it
    for _ in range(150):
        try:
            served.get(own)
        except urllib.error.HTTPError:
            return
        page.wait_for_timeout(200)
    pytest.fail("the private station was left behind")


def test_last_minutes_are_downloaded(served: Served, open_page: Open) -> None:
    page = open_page(served.url)
    page.get_by_role("button", name="Share").click()
    page.get_by_label("Format").select_option("mp3")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the last 30 s").click()
    assert download.value.suggested_filename.startswith("main-")
    assert download.value.suggested_filename.endswith(".mp3")
    assert Path(download.value.path()).stat().st_size > 10_000


def test_the_panel_has_addresses_of_streams_that_play(served: Served, open_page: Open) -> None:
    page = open_page(served.url)
    page.get_by_role("button", name="Share").click()
    playlist = page.get_by_label("For phones and HLS players", exact=True).input_value()
    assert playlist == f"{served.url}/hls/main/master.m3u8"
    with urllib.request.urlopen(playlist, timeout=30) as answer:
        assert answer.read().startswith(b"#EXTM3U")
    stream = page.get_by_label("For any audio player", exact=True).input_value()
    with urllib.request.urlopen(stream, timeout=30) as answer:
        assert answer.headers["Content-Type"] == "audio/mpeg"


def test_the_panel_has_no_playlist_of_a_server_without_hls(served: Served, open_page: Open) -> None:
    page = open_page(served.url)

    def without(route: Route) -> None:
        answer = route.fetch()
        about = answer.json()
        del about["links"]["hls"]
        route.fulfill(response=answer, json=about)

    page.route("**/api/stations/main", without)
    with page.expect_response("**/api/stations/main"):
        page.get_by_role("button", name="Share").click()
    expect(page.get_by_label("For a web page", exact=True)).to_be_visible()
    expect(page.get_by_label("For phones and HLS players", exact=True)).to_have_count(0)


def test_the_element_plays_on_another_site(served: Served, open_page: Open, other_origin: tuple[Path, str]) -> None:
    folder, origin = other_origin
    (folder / "index.html").write_text(
        f"""<!doctype html><title>a blog</title>
        <meta http-equiv="Content-Security-Policy" content="script-src {served.url} 'unsafe-eval';
            worker-src {served.url} blob:">
        <script type="module" src="{served.url}/riff-stream.js"></script>
        <riff-stream station="main" controls visual></riff-stream>"""
    )
    page = open_page(origin, bypass_csp=False)
    page.wait_for_function("() => document.querySelector('riff-stream').now")
    page.get_by_role("button", name="Play").click()
    page.wait_for_function("() => document.querySelector('riff-stream').state === 'playing'", timeout=PATIENCE_MS)
    element = "document.querySelector('riff-stream')"
    page.wait_for_function(f"() => {element}.ring.latest > 0")
    assert page.evaluate(f"() => {element}.player.output.report.audible")
    # A page of another site listens; it steers only where the server's owner has listed it.
    code = page.evaluate(f"() => {element}.steer({{bpm: 99}}).then(() => 'applied', (error) => error.code)")
    assert code == "forbidden"
    page.evaluate(f"() => {element}.remove()")


def test_the_embed_page_in_a_frame(served: Served, open_page: Open, other_origin: tuple[Path, str]) -> None:
    folder, origin = other_origin
    (folder / "index.html").write_text(
        f"<!doctype html><title>a blog</title>"
        f"<iframe src='{served.url}/embed/main' width=480 height=270 allow=autoplay></iframe>"
    )
    page = open_page(origin)
    frame = page.frame_locator("iframe")
    expect(frame.locator("body")).to_contain_class("kiosk")
    frame.get_by_role("button", name="Play", exact=True).click()
    expect(frame.locator("body")).to_have_attribute("data-state", "playing", timeout=PATIENCE_MS)
