"""Moments that a listener keeps: with their sound, in this browser, and what can be done with them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import soundfile
from playwright.sync_api import Page, expect

from tests.browser import listening
from tests.browser.conftest import Open, Served
from tests.browser.test_panels import until

pytestmark = pytest.mark.browser

_COUNT = """() => new Promise((resolve) => { const asked = indexedDB.open("riffstream", 1);
  asked.onsuccess = () => { const all = asked.result.transaction("moments").objectStore("moments").getAll();
    all.onsuccess = () => (asked.result.close(), resolve(all.result.map(({ title }) => title))); }; })"""


def keep(page: Page, prompt: str) -> None:
    listening.steer(page, prompt)
    expect(page.locator("#now")).to_have_text(prompt)
    page.evaluate("() => document.activeElement.blur()")
    page.keyboard.press("k")
    expect(page.locator("#toasts")).to_contain_text(f"Kept: {prompt}")


def test_a_moment_is_heard_again_named_saved_and_played_on(served: Served, open_page: Open) -> None:
    page = open_page(served.url, permissions=["clipboard-read", "clipboard-write"])
    listening.play(page)
    keep(page, "a kept harp")
    assert page.evaluate("() => riffstream.app.markers.some(({ label }) => label === '♥')")
    page.reload()
    page.get_by_role("tab", name="Kept").click()
    line = page.locator(".kept li")
    expect(line).to_have_count(1)
    expect(line.locator("img")).to_have_attribute("src", re.compile("^data:image/jpeg"))

    with page.expect_download() as download:
        page.get_by_role("button", name="Download a kept harp").click()
    assert download.value.suggested_filename == "a-kept-harp.ogg"
    sound, rate = soundfile.read(str(Path(download.value.path())))
    assert len(sound) > 1.5 * rate
    assert abs(sound).max() > 0.01

    listening.play(page)
    hear = page.get_by_role("button", name="Hear a kept harp")
    hear.click()
    expect(hear).to_have_attribute("aria-pressed", "true")
    page.wait_for_function("() => riffstream.player.output.fade < 1")  # the station goes on quietly
    hear.click()
    page.wait_for_function("() => riffstream.player.output.fade === 1")

    page.get_by_label("Name of a kept harp").fill("Harp for Ada")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Name of Harp for Ada")).to_be_visible()
    expect(page.get_by_role("button", name="Hear Harp for Ada")).to_be_focused()  # where Tab led
    page.get_by_role("button", name="Copy the link of Harp for Ada").click()
    expect(page.locator("#toasts")).to_contain_text("copied")
    link = page.evaluate("() => navigator.clipboard.readText()")
    assert link.startswith(f"{served.url}/?station=main&p=a+kept+harp")

    page.evaluate("() => riffstream.player.steer({prompts: [{text: 'something else', weight: 1}]})")
    page.wait_for_function("() => riffstream.app.state().prompts[0].text === 'something else'")
    page.get_by_role("button", name="Play on from Harp for Ada").click()
    assert until(lambda: served.get("/api/stations/main")["playing"], lambda name: name == "a kept harp")

    with page.expect_download() as exported:
        page.get_by_role("button", name="Export as JSON").click()
    (moment,) = json.loads(Path(exported.value.path()).read_text())
    assert (moment["title"], moment["station"], moment["link"]) == ("Harp for Ada", "main", link)
    assert moment["state"]["prompts"] == [{"text": "a kept harp", "weight": 1}]

    page.get_by_role("button", name="Remove Harp for Ada").click()
    expect(page.get_by_text("Nothing is kept yet")).to_be_visible()
    expect(page.get_by_role("tab", name="Kept")).to_be_focused()


def test_a_moment_without_a_recording_says_why(served: Served, open_page: Open) -> None:
    page = open_page(served.url)
    listening.play(page)
    refusal = {"code": "forbidden", "message": "recordings are for DJs"}
    page.route("**/recording?**", lambda route: route.fulfill(status=403, json=refusal))
    page.get_by_role("button", name="Keep this moment").click()
    expect(page.locator("#toasts")).to_contain_text("Kept without its sound (recordings are for DJs)")
    page.get_by_role("tab", name="Kept").click()
    expect(page.locator(".kept li")).to_have_count(1)
    expect(page.locator(".kept .hear")).to_have_count(0)


def test_a_proxys_page_and_strange_storage_stop_nothing(served: Served, open_page: Open) -> None:
    strange = "for (const s of [localStorage, sessionStorage]) for (const n of ['set:main', 'seed-keys', 'stage'])"
    page = open_page(served.url, script=f"{strange} s.setItem(n, '{{no json');")
    listening.play(page)
    page.route("**/recording?**", lambda route: route.fulfill(status=502, body="<h1>Bad gateway</h1>"))
    page.get_by_role("button", name="Keep this moment").click()
    expect(page.locator("#toasts")).to_contain_text("Kept without its sound (the server answered 502)")
    page.get_by_role("button", name="Share").click()
    expect(page.get_by_role("button", name="Record from now")).to_be_visible()
    page.get_by_role("button", name="Download the last 30 s").click()
    expect(page.locator("#toasts")).to_contain_text("No recording: the server answered 502")


def test_the_oldest_of_too_many_goes(served: Served, open_page: Open) -> None:
    page = open_page(served.url)
    listening.play(page)
    page.get_by_role("tab", name="Kept").click()
    expect(page.get_by_text("Nothing is kept yet")).to_be_visible()
    page.evaluate(
        """() => new Promise((resolve) => { const asked = indexedDB.open("riffstream", 1);
             asked.onsuccess = () => { const work = asked.result.transaction("moments", "readwrite");
               const state = { prompts: [{ text: "x", weight: 1 }] };
               for (let i = 0; i < 200; i++) work.objectStore("moments").add(
                 { at: i, station: "main", title: `old ${i}`, state, picture: null, audio: null });
               work.oncomplete = () => (asked.result.close(), resolve()); }; })"""
    )
    keep(page, "one more")
    titles = page.evaluate(_COUNT)
    assert (len(titles), titles[0], titles[-1]) == (200, "old 1", "one more")


def test_a_browser_without_storage_says_so(served: Served, open_page: Open) -> None:
    page = open_page(
        served.url, script="indexedDB.open = () => { throw new DOMException('no storage here', 'SecurityError'); };"
    )
    listening.play(page)
    page.get_by_role("button", name="Keep this moment").click()
    expect(page.locator("#toasts")).to_contain_text("This browser keeps nothing here: no storage here")
