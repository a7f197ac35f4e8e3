"""The page as a layer over a video, imitated by pictures without a background; and sets from the archive."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser import listening
from tests.browser.conftest import Open, Served, Start

pytestmark = pytest.mark.browser


def picture(page: Page) -> np.ndarray[Any, Any]:
    """What OBS would lay over a video: [height, width, 4]."""
    return np.asarray(Image.open(io.BytesIO(page.screenshot(omit_background=True))).convert("RGBA"))


@pytest.mark.parametrize("path", ["/embed/main", "/"])
def test_nothing_covers_the_video_but_words_and_sound(served: Served, open_page: Open, path: str) -> None:
    page = open_page(f"{served.url}{path}?bg=transparent", viewport={"width": 1280, "height": 720})
    expect(page.locator("#now-label")).not_to_have_text("")
    page.evaluate("() => riffstream.player.play()")
    page.mouse.click(5, 5)
    page.wait_for_function("() => document.body.dataset.state === 'playing'")
    page.wait_for_timeout(1500)
    for name in ("#play", "#volume", "#prompt", "[role=tablist]", "header"):
        expect(page.locator(name)).to_be_hidden()
    alpha = picture(page)[:, :, 3]
    assert alpha[:40].max() == 0 or alpha[:40].mean() < 128  # no backdrop behind the picture
    assert alpha[2, 2] == 0
    assert alpha[300:700, :640].max() > 200  # words
    assert np.median(alpha) < 200


def test_the_address_names_the_parts_and_the_corner(served: Served, open_page: Open) -> None:
    page = open_page(
        f"{served.url}/embed/main?bg=transparent&show=now&align=tr&size=2", viewport={"width": 1280, "height": 720}
    )
    expect(page.locator("#now")).to_be_visible()
    for name in ("#canvas2d", "#meta", "#now-label"):
        expect(page.locator(name)).to_be_hidden()
    page.wait_for_function(
        """() => {
          const { top, right } = document.querySelector('#now').getBoundingClientRect();
          return top < 200 && right > 1100;
        }"""
    )
    alpha = picture(page)[:, :, 3]
    assert alpha[400:].max() == 0
    assert alpha[:300, 640:].max() > 200


def test_a_set_is_recorded_with_its_list_of_tracks(start_server: Start, open_page: Open, tmp_path: Path) -> None:
    served = start_server(archive_dir=str(tmp_path / "archive"), limits_steer_interval_s=0, limits_steer_burst=1000)
    page = open_page(served.url)
    listening.play(page)
    page.get_by_role("button", name="Share").click()
    page.get_by_role("button", name="Record from now").click()
    page.get_by_role("button", name="Close").click()
    page.evaluate("() => riffstream.app.steer({prompts: [{text: 'second track', weight: 1}]}, 'x')")
    expect(page.locator("#now")).to_have_text("second track")
    page.wait_for_timeout(5000)
    page.get_by_role("button", name="Share").click()
    page.get_by_role("button", name="Stop", exact=True).click()
    page.wait_for_timeout(5000)  # the archive writes every few seconds
    with page.expect_download() as cue:
        page.get_by_role("button", name="Download the set: cue sheet").click()
    assert "second track" in Path(cue.value.path()).read_text()
    with page.expect_download() as audio:
        page.get_by_role("button", name="Download the set: audio").click()
    assert Path(audio.value.path()).stat().st_size > 20_000


def test_share_builds_the_address_of_a_layer(served: Served, open_page: Open) -> None:
    page = open_page(served.url)
    page.get_by_role("button", name="Share").click()
    page.get_by_role("tab", name="OBS").click()
    address = page.get_by_label("For OBS, as a browser source", exact=True)
    expect(address).to_have_value(f"{served.url}/embed/main?bg=transparent&autoplay")
    group = page.get_by_role("group", name="Layer for OBS")
    for name in ("picture", "state", "tempo and key"):
        group.get_by_label(name, exact=True).uncheck()
    group.get_by_label("Corner of the words").select_option(label="top right")
    group.get_by_label("Size of the words").select_option(label="150 %")
    group.get_by_label("no sound").check()
    expect(address).to_have_value(
        f"{served.url}/embed/main?bg=transparent&autoplay&show=now,next&align=tr&size=1.5&muted=1"
    )
    layer = open_page(address.input_value(), viewport={"width": 640, "height": 240})  # a low one as well
    expect(layer.locator("#now")).to_be_visible()
    for name in ("#canvas2d", "#meta", "#now-label"):
        expect(layer.locator(name)).to_be_hidden()
    box = layer.locator("#now").bounding_box()
    assert box is not None
    assert box["y"] < 120
    assert box["x"] + box["width"] > 540
    assert listening.player(layer, "output.volume") == 0


def test_the_length_of_a_set_is_that_of_the_servers_clock(start_server: Start, open_page: Open, tmp_path: Path) -> None:
    served = start_server(archive_dir=str(tmp_path / "archive"))
    # This page's clock is an hour behind.
    page = open_page(served.url, script="{ const now = Date.now; Date.now = () => now() - 3600000; }")
    page.get_by_role("button", name="Share").click()
    page.get_by_role("button", name="Record from now").click()
    says = page.locator("#share-dialog small[role=status]")
    expect(says).to_have_text(re.compile("recording, 0:0[1-9]"))
    page.get_by_role("button", name="Close").click()
    page.reload()
    page.get_by_role("button", name="Share").click()
    expect(says).to_have_text(re.compile("recording, 0:[0-5][0-9]$"))
    expect(says).not_to_have_text("recording, 0:00")


def test_a_server_without_an_archive_says_so(served: Served, open_page: Open) -> None:
    page = open_page(served.url)
    page.get_by_role("button", name="Share").click()
    page.get_by_role("button", name="Record from now").click()
    expect(page.locator("#toasts")).to_contain_text("No set is recorded")
