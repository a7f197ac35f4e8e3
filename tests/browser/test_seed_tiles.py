"""Tiles of the seed gallery: hear one on this page, remove one's own upload, leave an upload."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser import listening
from tests.browser.conftest import Open, Served, Start
from tests.browser.test_uploading import seeds, sound
from tests.conftest import PATIENCE_MS

pytestmark = pytest.mark.browser

_PLAYS = """window.played = [];
  HTMLMediaElement.prototype.play = function () { window.played.push(this); return Promise.resolve(); };"""


@pytest.fixture(scope="module")
def taking(start_for_file: Start) -> Served:
    return start_for_file(limits_steer_interval_s=0, limits_steer_burst=1000, timeline_idle_s=0, limits_upload_burst=4)


def upload(page: Page, folder: Path, name: str, root_hz: float = 220.0) -> None:
    file = folder / f"{name}.wav"
    file.write_bytes(sound(6, root_hz))
    page.locator("#seed-file").set_input_files(file)
    expect(page.locator(".upload")).to_contain_text("is a seed now", timeout=PATIENCE_MS)


def test_an_upload_is_heard_left_and_removed(taking: Served, open_page: Open, tmp_path: Path) -> None:
    page = open_page(taking.url, script=_PLAYS)
    listening.play(page)
    seeds(page)
    expect(page.locator(".drop")).to_contain_text("Everybody here will see it")
    upload(page, tmp_path, "My Loop")
    tile = page.locator(".tile", has_text="My Loop")

    # It is heard on this page alone: the station goes on quietly.
    hear = tile.get_by_role("button", name="Hear My Loop")
    hear.click()
    expect(hear).to_have_attribute("aria-pressed", "true")
    page.wait_for_function("() => window.played.some((each) => each.src.startsWith('blob:'))")
    assert listening.player(page, "output.fade") < 0.5
    hear.click()
    expect(hear).to_have_attribute("aria-pressed", "false")
    assert listening.player(page, "output.fade") == 1

    # The line under the words says where the music comes from, and leads away from there.
    expect(page.locator("#meta")).to_contain_text("from an upload")
    page.get_by_role("button", name="Leave the upload").click()
    expect(page.locator("#meta")).not_to_contain_text("from an upload")
    expect(page.get_by_role("button", name="Leave the upload")).to_be_hidden()
    assert taking.get("/api/stations/main")["state"]["seed_image"] is None

    # Another listener may not remove it; its owner may, also while it plays.
    other = open_page(taking.url)
    seeds(other)
    expect(other.locator(".tile", has_text="My Loop")).to_be_visible()
    owner = other.evaluate("() => riffstream.player.welcome.role") == "owner"
    expect(other.get_by_role("button", name="Remove My Loop")).to_have_count(1 if owner else 0)
    tile.locator(".seed").click()
    expect(tile.locator(".seed")).to_have_attribute("aria-pressed", "true")
    expect(tile.locator(".seed")).to_be_focused()
    tile.get_by_role("button", name="Remove My Loop").click()
    expect(tile).to_have_count(0)
    assert not taking.get("/api/seeds?tag=upload")["seeds"]


def test_a_removal_that_the_server_refuses_is_told(taking: Served, open_page: Open, tmp_path: Path) -> None:
    page = open_page(taking.url)
    listening.play(page)
    seeds(page)
    upload(page, tmp_path, "Kept Loop", 330.0)
    refusal = {"status": 403, "json": {"code": "forbidden", "message": "only its uploader may remove it"}}
    page.route("**/api/seeds/upload-*", lambda route: route.fulfill(**refusal))
    page.get_by_role("button", name="Remove Kept Loop").click()
    expect(page.locator(".toast.error")).to_contain_text("only its uploader may remove it")
    expect(page.locator(".tile", has_text="Kept Loop")).to_be_visible()


def test_a_style_is_one_tile_that_opens_and_filters_leave_what_is_asked(taking: Served, open_page: Open) -> None:
    page = open_page(taking.url)
    listening.play(page)
    seeds(page)
    library = [seed for seed in taking.get("/api/seeds")["seeds"] if seed["style"] != "upload"]
    tiles = page.locator(".tile").filter(has=page.locator("img[src$='.png']:not([src*='upload'])"))
    expect(tiles).to_have_count(len({seed["style"] for seed in library}))
    pictures = page.evaluate(
        "() => [...document.querySelectorAll('.gallery img')].filter((each) => each.complete).length"
    )
    assert pictures < 100, "pictures load when they come into view"

    # A style opens by keyboard too, and closes at the same place.
    find = page.get_by_role("searchbox", name="Find a seed image")
    find.fill("techno")
    more = page.get_by_role("button", name="more like techno", exact=False).first
    siblings = [seed["name"] for seed in library if seed["style"] == "techno"]
    more.focus()
    page.keyboard.press("Enter")
    back = page.get_by_role("button", name="← All styles")
    expect(back).to_be_focused()
    expect(page.locator(".tile")).to_have_count(len(siblings))
    page.locator(".tile .seed").last.click()
    chosen = page.locator(".tile .seed").last
    expect(chosen).to_have_attribute("aria-pressed", "true")
    page.wait_for_function("(names) => names.includes(riffstream.app.state().seed_image)", arg=siblings[1:])
    back.click()
    expect(more).to_be_focused()
    pressed = page.locator(".tile .seed[aria-pressed='true']")
    expect(pressed).to_have_count(1)  # the loop that plays stands for its style

    find.fill("")
    page.get_by_label("Line-up of the seeds").select_option("without drums")
    page.get_by_label("Time signature of the seeds").select_option("6")
    resting = {s["style"] for s in library if s["beats"] == 6 and s["parts"].get("drums", 1) < 0.3}
    expect(page.locator(".tile")).to_have_count(len(resting))
    page.get_by_label("Energy of the seeds").select_option("loud")
    find.fill("nothing like this")
    expect(page.locator(".gallery .empty")).to_have_text("No seed is like that.")
