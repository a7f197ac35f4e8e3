"""HLS in players that others wrote: ``PLAY_S`` in each of them, all at once, of a real server with a steady tone."""

from __future__ import annotations

import shutil
import threading

import pytest

from tests.conftest import PATIENCE_S, PLAY_S
from tests.server import players
from tests.server.players import Heard, broken
from tests.server.test_players import Serve, serve  # noqa: F401  (a fixture)


def gstreamer(url: str, seconds: float) -> Heard:
    """GStreamer with its whole player: it links the new branch when hlsdemux changes the bit rate."""
    sink = "audioconvert ! audioresample ! audio/x-raw,format=F32LE,rate=48000,channels=1 ! fdsink fd=1"
    command = ["gst-launch-1.0", "-q", "playbin", f"uri={url}", "flags=2", f"audio-sink={sink}"]
    return players._piped(command, seconds, seconds + PATIENCE_S)


PLAYERS = {
    "ffmpeg": (players.ffmpeg, "ffmpeg"),
    "gstreamer": (gstreamer, "gst-launch-1.0"),
    "mpv": (players.mpv, "mpv"),
    "pyav": (players.pyav, ""),
    "vlc": (players.vlc, "cvlc"),
}


def listen(url: str, seconds: float) -> dict[str, Heard]:
    heard: dict[str, Heard] = {}

    def one(name: str) -> None:
        heard[name] = PLAYERS[name][0](f"{url}/hls/main/master.m3u8", seconds)

    there = [name for name, (_, program) in PLAYERS.items() if not program or shutil.which(program)]
    threads = [threading.Thread(target=one, args=(name,)) for name in there]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return heard


@pytest.fixture(scope="module")
def heard(serve: Serve) -> dict[str, Heard]:  # noqa: F811
    with serve() as process:
        return listen(process.url, PLAY_S)


@pytest.mark.slow
@pytest.mark.parametrize("player", PLAYERS)
def test_a_player_plays_segment_after_segment(heard: dict[str, Heard], player: str) -> None:
    if player not in heard:
        pytest.skip(f"{PLAYERS[player][1]} is not installed (see .ci/system-packages)")
    assert heard[player].complaints == ""
    assert broken(heard[player].wave, PLAY_S) == ""
