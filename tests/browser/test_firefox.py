"""The player in Firefox: the same page, another engine, another sound system."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser import listening
from tests.browser.conftest import Served, Start
from tests.browser.firefox import Firefox, Tab, firefox, sound_device

pytestmark = pytest.mark.browser
STATUS = "() => document.querySelector('#status').textContent"
NEXT, NOW = "document.querySelector('#next').textContent", "document.querySelector('#now').textContent"


@pytest.fixture(scope="module")
def fox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    program, server = shutil.which("firefox-esr") or shutil.which("firefox"), shutil.which("pulseaudio")
    if program is None or server is None:
        pytest.skip("Firefox or pulseaudio is not installed (see .ci/system-packages)")
    try:
        device = sound_device(server, tmp_path_factory.mktemp("sound"))
        environment = device.__enter__()
    except RuntimeError as error:
        pytest.skip(f"no sound device: {error}")
    try:
        with firefox(program, tmp_path_factory.mktemp("firefox"), environment) as browser:
            yield browser
    finally:
        device.__exit__(None, None, None)


def play(tab: Tab) -> None:
    """Press the button, as a hand does, and wait for sound."""
    tab.wait_for(f"{STATUS} === 'ready'")
    tab.click("document.querySelector('#play')")
    tab.wait_for(f"{STATUS} === 'playing'", seconds=60)


def test_press_play_and_steer(fox: Firefox, served: Served) -> None:
    """With the best transport that Firefox has: Opus through WebCodecs and an audio worklet."""
    tab = fox.open(served.url)
    assert listening.player(tab, "transport") == "opus"
    play(tab)
    # The page's own policy refuses the capture's worklet, rightly.
    listening.tap(tab, script=True)
    listening.whole_for(tab, 5)
    assert listening.player(tab, "link.counters.decodeErrors") == 0

    first = float(str(listening.player(tab, "position")))
    tab.click("document.querySelector('#prompt')")
    tab.type("fox trot\n")
    tab.wait_for(f"() => {NEXT} === 'Next: fox trot'")
    tab.wait_for(f"() => {NEXT} === 'Now playing: fox trot' && {NOW} === 'fox trot'")
    marker = tab.evaluate("() => riffstream.app.markers.find((each) => each.label === 'fox trot')")
    assert not marker["pending"]
    assert first < marker["samplePos"] <= float(str(listening.player(tab, "position")))
    listening.follows(tab, "fox trot")

    tab.click("document.querySelector('#view')")  # 3D, where this Firefox has WebGL 2; else a word about it
    tab.wait_for("() => document.querySelector('#view').ariaPressed === 'true' || !!document.querySelector('.toast')")
    tab.click("document.querySelector('#play')")
    tab.wait_for(f"{STATUS} === 'paused'")
    fox.close(tab)
    assert not fox.failures


@pytest.mark.parametrize("transport", ["pcm", "buffers", "mp3"])
def test_other_transports(fox: Firefox, served: Served, transport: str) -> None:
    tab = fox.open(f"{served.url}/?transport={transport}")
    play(tab)
    listening.tap(tab, script=True)
    listening.whole_for(tab, 3)
    first = tab.wait_for("() => riffstream.player.position")
    began = time.monotonic()
    tab.wait_for_timeout(2000)
    played = (float(str(listening.player(tab, "position"))) - first) / listening.RATE
    passed = time.monotonic() - began
    assert 0.5 < played / passed < 2, f"{played} s of music in {passed} s"
    fox.close(tab)
    assert not fox.failures


def test_the_element_plays_on_another_site(fox: Firefox, served: Served, other_origin: tuple[Path, str]) -> None:
    folder, origin = other_origin
    (folder / "index.html").write_text(
        f"""<!doctype html><title>a blog</title>
        <script type="module" src="{served.url}/riff-stream.js"></script>
        <riff-stream station="main" controls visual></riff-stream>"""
    )
    element = "document.querySelector('riff-stream')"
    tab = fox.open(origin)
    tab.wait_for(f"() => !!{element}.now")
    tab.click(f"{element}.shadowRoot.querySelector('button')")
    tab.wait_for(f"() => {element}.state === 'playing'", seconds=60)
    listening.tap(tab, f"{element}.player")
    listening.whole_for(tab, 3)
    assert tab.evaluate(f"() => {element}.ring.latest") > 0
    fox.close(tab)
    assert not fox.failures


def beside(level: str) -> str:
    """Whether another sound of the page plays, so that the station goes on quietly."""
    return f"() => (riffstream.player.output.fades.get('beside') ?? 1) {level}"


def test_requests_a_cue_heard_ahead_and_a_kept_moment(fox: Firefox, start_server: Start, tmp_path: Path) -> None:
    config = tmp_path / "requests.toml"
    config.write_text("[stations.main]\nrequests = true\n")
    served = start_server(config=config, limits_request_interval_s=0, limits_steer_interval_s=0, timeline_idle_s=0)
    tab = fox.open(served.url)
    play(tab)
    tab.click("document.querySelector('#tab-requests')")
    tab.wait_for("() => !!document.querySelector('#panel-requests input')")
    tab.click("document.querySelector('#panel-requests input')")
    tab.type("fox bells\n")
    tab.wait_for("() => document.querySelectorAll('.requests li').length === 1")
    tab.click("document.querySelector('.reactions button')")
    tab.wait_for("() => document.querySelector('.reaction-curve')?.getAttribute('aria-label')?.includes('1 in 10 s')")

    tab.click("document.querySelector('#prompt')")
    tab.type("fox drop")
    tab.press("shift", "\n")
    tab.wait_for("() => document.querySelector('#cue-text')?.textContent === 'fox drop'")
    tab.click("document.querySelector('#hear-cue')")
    tab.wait_for(beside("< 1"))
    tab.wait_for(beside("=== 1"))  # to its end
    tab.evaluate("() => { document.querySelector('#cue-bars').value = '1'; }")
    tab.click("document.querySelector('#drop')")
    tab.wait_for(f"() => {NOW} === 'fox drop'", seconds=60)

    tab.evaluate("() => document.activeElement.blur()")
    tab.press("k")
    tab.wait_for("() => document.querySelector('#toasts').textContent.includes('Kept: fox drop')")
    tab.click("document.querySelector('#tab-kept')")
    tab.wait_for("() => !!document.querySelector('.kept .hear')")
    tab.click("document.querySelector('.kept .hear')")
    tab.wait_for(beside("< 1"))
    tab.click("document.querySelector('.kept .hear')")
    tab.wait_for(beside("=== 1"))
    fox.close(tab)
    assert not fox.failures


def test_a_private_station(fox: Firefox, served: Served) -> None:
    tab = fox.open(f"{served.url}/?p=lone+fox&bpm=90")
    alone = "[...document.querySelectorAll('button')].find((each) => each.textContent.includes('for me alone'))"
    tab.wait_for(f"() => !!{alone}")
    tab.click(alone)
    tab.wait_for(f"() => {NOW} === 'lone fox' && riffstream.player.station !== 'main'", seconds=60)
    tab.wait_for(f"{STATUS} === 'playing'", seconds=60)
    tab.click("document.querySelector('#prompt')")
    tab.type("two foxes\n")
    tab.wait_for(f"() => {NOW} === 'two foxes'", seconds=60)
    assert served.get("/api/stations/main")["playing"] != "two foxes"
    fox.close(tab)
    assert not fox.failures
