"""A file of one's own becomes a seed: picked or dropped, with its progress, its refusals, and at work at once."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from playwright.sync_api import Page, expect

from tests.audio.signals import noise
from tests.browser import listening
from tests.browser.conftest import Open, Served, Start
from tests.conftest import PATIENCE_MS

pytestmark = pytest.mark.browser

_DROP = """([coded, name, type]) => {
  const data = new DataTransfer();
  data.items.add(new File([Uint8Array.from(atob(coded), (c) => c.charCodeAt(0))], name, { type }));
  for (const kind of ["dragenter", "dragover", "drop"]) {
    document.body.dispatchEvent(new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true }));
  }
}"""


@pytest.fixture(scope="module")
def taking(start_for_file: Start) -> Served:
    """A server that takes files of up to 3 MB, four of them in a row."""
    return start_for_file(
        limits_steer_interval_s=0,
        limits_steer_burst=1000,
        timeline_idle_s=0,
        limits_upload_mb=3,
        limits_upload_burst=4,
        limits_upload_interval_s=600,
    )


def sound(seconds: float, root_hz: float = 220.0) -> bytes:
    """A WAV file: a chord with a click on every half second."""
    t = np.arange(round(seconds * 48_000)) / 48_000
    wave = sum(0.1 * np.sin(2 * np.pi * hz * t) for hz in (root_hz, 1.26 * root_hz, 1.5 * root_hz)) * np.exp(
        -((t % 0.5) * 6)
    )
    file = io.BytesIO()
    soundfile.write(file, np.stack([wave, wave], 1), 48_000, format="WAV", subtype="PCM_16")
    return file.getvalue()


def seeds(page: Page) -> None:
    page.get_by_role("tab", name="Seeds").click()
    expect(page.locator(".drop")).to_be_visible()


def test_what_the_server_could_not_tell_of_a_file_is_shown(taking: Served, open_page: Open, tmp_path: Path) -> None:
    page = open_page(taking.url)
    listening.play(page)
    seeds(page)
    file = tmp_path / "rain.wav"
    soundfile.write(file, noise(6 * 48_000), 48_000)
    page.locator("#seed-file").set_input_files(file)
    shown = page.locator(".upload")
    expect(shown).to_contain_text("rain is a seed now", timeout=PATIENCE_MS)
    for words in ("tempo unclear: taken as", "key unclear: no clear notes"):
        expect(shown).to_contain_text(words)


def test_a_file_becomes_a_seed_and_plays(taking: Served, open_page: Open, tmp_path: Path) -> None:
    page = open_page(taking.url)
    listening.play(page)
    seeds(page)
    file = tmp_path / "My Chord.wav"
    file.write_bytes(sound(6))
    page.locator("#seed-file").set_input_files(file)
    expect(page.locator(".upload")).to_contain_text("is a seed now", timeout=PATIENCE_MS)
    tile = page.locator(".seed", has_text="My Chord")
    expect(tile).to_be_visible()
    expect(tile).to_have_attribute("aria-pressed", "true")
    shown = page.wait_for_function("() => document.querySelector('.seed[aria-pressed=true] img').naturalWidth")
    assert shown.json_value() > 100
    name = taking.get("/api/stations/main")["state"]["seed_image"]
    assert name in [seed["name"] for seed in taking.get("/api/seeds?tag=upload")["seeds"]]
    tile.click()  # a second click lets go of it
    expect(tile).to_have_attribute("aria-pressed", "false")
    assert taking.get("/api/stations/main")["state"]["seed_image"] is None


def test_a_dropped_file_opens_the_gallery(taking: Served, open_page: Open) -> None:
    page = open_page(taking.url)
    expect(page.locator("#status")).to_have_text("ready")
    page.evaluate("() => document.body.dispatchEvent(new DragEvent('dragenter', {bubbles: true}))")
    page.wait_for_function("() => document.querySelector('.drop:not([hidden])')")
    expect(page.get_by_role("tabpanel", name="Sound")).to_be_visible()
    page.evaluate(_DROP, [base64.b64encode(sound(5, 300)).decode(), "dropped.wav", "audio/wav"])
    expect(page.get_by_role("tabpanel", name="Seeds")).to_be_visible()
    expect(page.locator(".upload")).to_contain_text("dropped is a seed now", timeout=PATIENCE_MS)


def test_refusals_are_told_where_one_looks(taking: Served, open_page: Open) -> None:
    page = open_page(taking.url)
    expect(page.locator("#status")).to_have_text("ready")
    seeds(page)
    note = page.get_by_role("alert")

    def offer(name: str, kind: str, data: bytes) -> None:
        page.locator("#seed-file").set_input_files({"name": name, "mimeType": kind, "buffer": data})

    offer("notes.wav", "audio/wav", b"these are no samples" * 50)
    expect(note).to_contain_text("notes.wav:")
    expect(page.locator(".drop")).to_be_visible()  # and may be tried again
    offer("long.wav", "audio/wav", sound(30))
    expect(note).to_contain_text("long.wav:")
    expect(note).to_contain_text("allowed")
    for more in range(4):  # whether refused ones count is the server's business; the fifth is too many in any case
        offer(f"more-{more}.wav", "audio/wav", sound(5, 400 + more))
        expect(page.locator(".upload")).not_to_contain_text("Cancel", timeout=PATIENCE_MS)
        if note.count():
            break
    expect(note).to_contain_text("try again in")


def test_progress_is_shown_and_may_be_stopped(taking: Served, open_page: Open) -> None:
    page = open_page(taking.url)
    expect(page.locator("#status")).to_have_text("ready")
    seeds(page)
    page.route("**/api/seeds", lambda route: None)  # an answer that never comes
    page.locator("#seed-file").set_input_files({"name": "slow.wav", "mimeType": "audio/wav", "buffer": sound(5)})
    expect(page.get_by_role("progressbar", name="Upload of slow.wav")).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("alert")).to_have_text("slow.wav was not sent.")


def test_no_place_for_files_where_none_are_taken(start_server: Start, open_page: Open) -> None:
    closed = start_server(limits_uploads=0, timeline_idle_s=0)
    page = open_page(closed.url)
    expect(page.locator("#status")).to_have_text("ready")
    page.get_by_role("tab", name="Seeds").click()
    expect(page.locator(".seed").first).to_be_visible()
    expect(page.locator(".drop")).to_be_hidden()
    closed.stop()
