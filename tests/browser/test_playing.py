"""Press play: sound comes, goes on without a gap, follows a steer, and comes back after a crash."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator

import psutil
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import listening
from tests.browser.conftest import Open, Served, Start, opened
from tests.conftest import PATIENCE_S, PLAY_S

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page(served: Served, browser: Browser) -> Iterator[Page]:
    """A page that plays, for the tests that only look and steer."""
    with opened(browser) as open_page:
        page = open_page(served.url)
        listening.play(page)
        listening.tap(page)
        yield page


def test_spectrogram_moves_with_the_sound(page: Page) -> None:
    """The picture holds what is heard, and knows a little of what is buffered, but nothing of the far future."""
    ahead = page.evaluate("() => riffstream.picture.columnsAhead()")
    assert -10 < ahead < 700, f"{ahead} columns of 10 ms"
    lit = page.evaluate(
        """() => { const c = document.querySelector("#canvas2d"); const g = c.getContext("2d");
          const at = (x) => { const d = g.getImageData(Math.round(c.width * x), 0, 1, c.height).data; let n = 0;
            for (let i = 0; i < d.length; i += 4) if (d[i] + d[i + 1] + d[i + 2] > 120) n++; return n; };
          return [at(0.7), at(0.98)]; }"""
    )
    assert lit[0] > 3, "nothing is drawn before the playhead"


def test_steer_is_acknowledged_marked_and_heard(page: Page, served: Served) -> None:
    prompt = "church bells & “quotes” at dawn"
    listening.steer(page, prompt)
    expect(page.locator("#next")).to_have_text(f"Next: {prompt}")
    expect(page.locator("#next")).to_have_text(f"Now playing: {prompt}")
    expect(page.locator("#now")).to_have_text(prompt)
    marker = page.evaluate("() => riffstream.app.markers.at(-1)")
    assert marker["label"] == prompt
    assert not marker["pending"]
    assert marker["samplePos"] <= float(str(listening.player(page, "position")))
    page.wait_for_timeout(500)
    listening.follows(page, prompt)
    assert served.get("/api/stations/main")["state"]["prompts"] == [{"text": prompt, "weight": 1.0}]


def test_undo_tempo_and_key(page: Page) -> None:
    listening.steer(page, "another prompt")
    expect(page.locator("#now")).to_have_text("another prompt")
    page.locator("#prompt").press("Escape")
    page.keyboard.press("u")
    expect(page.locator("#now")).to_have_text("church bells & “quotes” at dawn")
    page.get_by_label("Key", exact=True).focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#meta")).to_contain_text("key +1")
    page.get_by_label("Tempo", exact=True).fill("77")
    expect(page.locator("#meta")).to_contain_text("77 bpm")


def test_queue_plays_what_comes_next(page: Page) -> None:
    page.get_by_role("tab", name="Queue").click()
    page.get_by_label("Prompt to play later").fill("queued waltz")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.locator("#now")).to_have_text("queued waltz")
    expect(page.locator("#queue li")).to_have_count(0)
    page.get_by_role("button", name="Play again: another prompt").click()
    expect(page.locator("#now")).to_have_text("another prompt")


def test_the_sound_is_whole(page: Page) -> None:
    """``PLAY_S`` at the loudspeaker, with the changes of the tests before and some more: no gap, and no run of zeros.

    A machine that is busy with something else may starve the audio thread itself; then a later capture must be whole.
    """
    seen = []
    for capture in range(3):
        while (passed := listening.captured_s(page)) < PLAY_S:
            listening.steer(page, f"capture {capture}, from second {passed:.0f}")
            page.wait_for_timeout(1000 * max(1.0, min(8.0, PLAY_S + 0.5 - passed)))
        sound = listening.take(page, "whole")
        assert len(sound) >= PLAY_S * listening.RATE
        levels = listening.levels(sound)
        assert levels.max() > 0.03, "silence"
        gaps, zeros = int((levels < 0.03).sum()), listening.longest_run(sound == 0.0)
        seen.append({"gaps_10ms": gaps, "zeros": zeros, "report": listening.player(page, "output.report")})
        if gaps == 0 and zeros < 8:
            break
    else:
        pytest.fail(f"not whole, capture by capture: {seen}")
    assert listening.player(page, "transport") == "opus"
    assert listening.player(page, "link.counters.decodeErrors") == 0
    assert listening.player(page, "link.counters.lost") == 0


def test_a_refusal_is_told(page: Page) -> None:
    page.evaluate("() => riffstream.app.steer({ if_rev: 999999, seed: 5 }, 'a stale wish')")
    expect(page.locator(".toast.error")).to_contain_text("the station is at rev")


def test_pause_is_silent_and_no_listener(page: Page, served: Served) -> None:
    page.get_by_role("button", name="Pause", exact=True).click()
    expect(page.locator("#status")).to_have_text("paused")
    page.wait_for_timeout(400)
    assert listening.levels(listening.record(page, 1.0)).max(initial=0.0) < 0.001
    deadline = time.monotonic() + PATIENCE_S  # a page of an earlier test may just be leaving
    while served.get("/api/stations/main")["listeners"]:
        assert time.monotonic() < deadline
        page.wait_for_timeout(100)
    # It still shows and steers the station.
    page.evaluate("() => riffstream.player.steer({bpm: 101})")
    expect(page.locator("#meta")).to_contain_text("101 bpm")


@pytest.mark.parametrize("transport", ["pcm", "buffers", "mp3"])
def test_fallback_plays_and_knows_its_place(served: Served, open_page: Open, transport: str) -> None:
    page = open_page(f"{served.url}/?transport={transport}")
    listening.play(page)
    assert listening.player(page, "transport") == transport
    listening.tap(page)
    listening.sounds(page)
    first = float(str(listening.player(page, "position")))
    began = time.monotonic()
    page.wait_for_timeout(2000)
    now = float(str(listening.player(page, "position")))
    passed = time.monotonic() - began
    assert 0.5 < (now - first) / listening.RATE / passed < 2, f"{(now - first) / listening.RATE} s in {passed} s"
    listening.near(page, lambda: int(served.get("/api/stations/main")["sample_pos"]), 8.0)


def test_music_comes_back_after_a_crash(start_server: Start, open_page: Open) -> None:
    served = start_server()
    page = open_page(served.url)
    listening.play(page)
    served.stop(signal.SIGKILL)
    expect(page.locator("#status")).to_have_text("reconnecting")
    again = start_server(port=served.port)
    listening.wait_for_sound(page)
    listening.tap(page)
    listening.sounds(page)
    listening.steer(page, "after the crash")
    expect(page.locator("#now")).to_have_text("after the crash")
    again.stop()
    expect(page.locator("#status")).to_have_text("the server is restarting")


def browsers() -> set[psutil.Process]:
    """The processes of every browser that this test run started."""
    found: set[psutil.Process] = set()
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "chrom" in process.name():
                found.add(process)
    return found


def test_music_comes_back_after_a_sleep(start_server: Start, browser: Browser, need_tool: Callable[[str], str]) -> None:
    """A phone in a pocket, a closed lid: every process of the browser stands still for longer than the server waits."""
    served = start_server(limits_silence_s=3)
    before = browsers()
    sleeper = browser.browser_type.launch(executable_path=need_tool("chromium"), args=["--no-sandbox", "--disable-gpu"])
    try:
        with opened(sleeper) as open_page:
            page = open_page(served.url)
            listening.play(page)
            processes = browsers() - before
            assert processes
            for process in processes:
                process.suspend()
            try:
                deadline = time.monotonic() + PATIENCE_S
                while served.get("/api/stations/main")["listeners"] and time.monotonic() < deadline:
                    time.sleep(0.1)
                assert served.get("/api/stations/main")["listeners"] == 0
            finally:
                for process in processes:
                    process.resume()
            listening.tap(page)
            listening.wait_for_sound(page)
            listening.sounds(page)
            assert served.get("/api/stations/main")["listeners"] == 1
            listening.steer(page, "after the sleep")
            expect(page.locator("#now")).to_have_text("after the sleep")
    finally:
        sleeper.close()
