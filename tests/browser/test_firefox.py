"""The player in Firefox: the same page, another engine, another sound system."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser import listening
from tests.browser.conftest import Served
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
    tab.wait_for_timeout(2000)
    passed = (float(str(listening.player(tab, "position"))) - first) / listening.RATE
    assert 1.0 < passed < 4.0, f"{passed} s of music in 2 s"
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
