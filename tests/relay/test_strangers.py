"""Players that others wrote, at a relay whose upstream is killed while they listen: the tone goes on unbroken.

A server plays a steady tone to two relays, which feed the last relay, as processes. Players listen there.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PATIENCE_S
from tests.server.players import PLAYERS, PROMPT, Heard, broken, installed
from tests.server.test_process import Process

SECONDS = 10.0
KILLED_AFTER_S = 4.0
PAIRS = [("ffmpeg", "mp3"), ("ffmpeg", "ogg"), ("mpv", "ogg"), ("mpv", "wav"), ("pyav", "aac"), ("gstreamer", "mp3")]


class Relay:
    """``riffstream relay`` in a process of its own."""

    def __init__(self, *upstreams: str) -> None:
        options = [part for url in upstreams for part in ("--upstream", url)]
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "riffstream", "relay", "--port", "0", "--json", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"RIFFSTREAM_LIMITS_CONNECTIONS_PER_ADDRESS": "200"},
        )
        assert self.popen.stdout is not None
        self.url = str(json.loads(self.popen.stdout.readline())["url"])

    def end(self) -> None:
        self.popen.kill()
        self.popen.communicate(timeout=30)

    def wait_ready(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/readyz", timeout=5):
                return
            time.sleep(0.1)
        raise AssertionError("the relay is not ready")


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[tuple[str, str], Heard]]:
    """What each player heard; one of the two relays in the middle was killed with -9 meanwhile."""
    settings = tmp_path_factory.mktemp("relay") / "tone.toml"
    settings.write_text(f'[stations.main]\nprompts = ["{PROMPT}"]\n')
    environment = {"RIFFSTREAM_LIMITS_CONNECTIONS_PER_ADDRESS": "200", "RIFFSTREAM_TIMELINE_IDLE_S": "0"}
    found: dict[tuple[str, str], Heard] = {}
    with contextlib.ExitStack() as ending:
        origin = Process("--config", str(Path(settings)), **environment)
        ending.callback(origin.end)
        middle = []
        for _ in range(2):
            middle.append(Relay(origin.url))
            ending.callback(middle[-1].end)
            middle[-1].wait_ready()
        last = Relay(middle[0].url, middle[1].url)
        ending.callback(last.end)
        last.wait_ready()
        time.sleep(3)  # there is audio for a burst

        def listen(player: str, codec: str) -> None:
            try:
                found[player, codec] = PLAYERS[player][1](f"{last.url}/stream/main.{codec}", SECONDS)
            except Exception as error:
                found[player, codec] = Heard(complaints=f"{type(error).__name__}: {error}")

        threads = [threading.Thread(target=listen, args=pair) for pair in PAIRS if installed(pair[0])]
        for thread in threads:
            thread.start()
        time.sleep(KILLED_AFTER_S)
        middle[0].popen.kill()
        for thread in threads:
            thread.join()
        yield found


@pytest.mark.parametrize(("player", "codec"), PAIRS)
def test_a_player_hears_an_unbroken_tone_although_an_upstream_is_killed(
    heard: dict[tuple[str, str], Heard], player: str, codec: str
) -> None:
    if not installed(player):
        pytest.skip(f"{PLAYERS[player][0]} or ffmpeg is not installed (see .ci/system-packages)")
    one = heard[player, codec]
    assert one.complaints == ""
    assert broken(one.wave, SECONDS) == ""
