"""The streams in players that others wrote: ``PLAY_S`` of each format in each of them, all at once.

A real server plays a steady tone, so what a player decoded shows each missing, doubled or damaged piece.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from tests.conftest import PATIENCE_S, PLAY_S
from tests.server import players
from tests.server.players import CODECS, PLAYERS, PROMPT, RATE, Heard, broken, installed, listen
from tests.server.test_process import Process

RESTARTED_S = 10.0
"""How long those play whose server restarts."""

Serve = Callable[..., contextlib.AbstractContextManager[Process]]


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Serve:
    """``with serve("--port", "0") as process``: a server that plays the tone, with sound."""
    settings = tmp_path_factory.mktemp("players") / "tone.toml"
    settings.write_text(f'[stations.main]\nprompts = ["{PROMPT}"]\n')
    environment = {"RIFFSTREAM_LIMITS_CONNECTIONS_PER_ADDRESS": "200", "RIFFSTREAM_TIMELINE_IDLE_S": "0"}

    @contextlib.contextmanager
    def start(*options: str) -> Iterator[Process]:
        process = Process("--config", str(settings), *options, **environment)
        try:
            deadline = time.monotonic() + PATIENCE_S
            while True:
                with contextlib.suppress(OSError), urllib.request.urlopen(f"{process.url}/readyz", timeout=5):
                    break
                assert time.monotonic() < deadline
                time.sleep(0.1)
            time.sleep(2)  # a burst is there
            yield process
        finally:
            process.end()

    return start


@pytest.fixture(scope="module")
def bench(serve: Serve) -> tuple[dict[tuple[str, str], Heard], dict[tuple[str, str], Heard]]:
    """What each player heard, and what those heard that a restart interrupted; both at the same time."""
    interrupted: dict[tuple[str, str], Heard] = {}
    other = threading.Thread(target=restart, args=(serve, interrupted))
    other.start()
    with serve() as process:
        heard = listen(process.url, PLAY_S)
    other.join()
    return heard, interrupted


@pytest.fixture
def heard(bench: tuple[dict[tuple[str, str], Heard], object]) -> dict[tuple[str, str], Heard]:
    return bench[0]


def found(heard: dict[tuple[str, str], Heard], player: str, codec: str) -> Heard:
    if not installed(player):
        pytest.skip(f"{PLAYERS[player][0]} or ffmpeg is not installed (see .ci/system-packages)")
    return heard[player, codec]


@pytest.mark.slow
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("player", PLAYERS)
def test_a_player_plays_on_without_a_gap(heard: dict[tuple[str, str], Heard], player: str, codec: str) -> None:
    one = found(heard, player, codec)
    assert one.complaints == ""
    assert broken(one.wave, PLAY_S) == ""


@pytest.mark.slow
@pytest.mark.parametrize("codec", CODECS)
def test_a_player_is_told_the_title(heard: dict[tuple[str, str], Heard], codec: str) -> None:
    assert found(heard, "pyav", codec).title == PROMPT


def tone(hz: float, seconds: float) -> np.ndarray:
    return (0.2 * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


@pytest.mark.parametrize("lost", [1, 480, 960, 1024, 1152, 4800, 24_000])
def test_the_ear_of_this_bench_hears_what_is_missing(lost: int) -> None:
    whole = tone(players.PITCH, 10.5)
    assert broken(whole[: 10 * RATE], 10) == ""
    for other in (np.delete(whole, slice(200_000, 200_000 + lost)), np.insert(whole, 200_000, whole[200_000:][:lost])):
        assert "jumps" in broken(other[: 10 * RATE], 10), f"{lost} samples"
    silent = whole[: 10 * RATE].copy()
    silent[200_000:203_000] = 0
    assert "level" in broken(silent, 10)
    assert "s of sound" in broken(whole[: 9 * RATE], 10)
    assert "jumps" in broken(tone(440, 10), 10)


RECONNECTING = {
    # What Discord bots give ffmpeg.
    "ffmpeg": ("-reconnect", "1", "-reconnect_streamed", "1", "-reconnect_on_network_error", "1"),
    "mpv": ("--stream-lavf-o=reconnect=1,reconnect_streamed=1,reconnect_on_network_error=1",),
}


def reopened(url: str, seconds: float) -> Heard:
    """A program on PyAV that opens the stream again when it ends."""
    parts: list[np.ndarray] = []
    deadline = time.monotonic() + seconds + PATIENCE_S
    while (missing := seconds - sum(map(len, parts)) / RATE) > 0.01 and time.monotonic() < deadline:
        try:
            parts.append(players.pyav(url, missing).wave)
        except players.Ended as error:
            parts.append(error.wave)
            time.sleep(0.5)
    return Heard(np.concatenate(parts))


def restart(serve: Serve, heard: dict[tuple[str, str], Heard]) -> None:
    """Kill a server to which players listen, and start it again on its port."""

    def one(name: str, codec: str, url: str) -> None:
        if name == "pyav":
            heard[name, codec] = reopened(url, RESTARTED_S)
        else:
            heard[name, codec] = getattr(players, name)(url, RESTARTED_S, *RECONNECTING[name])

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    threads = []
    with serve("--port", port) as process:
        for name in ("pyav", *RECONNECTING):
            for codec in ("mp3", "ogg") if installed(name) else ():
                threads.append(threading.Thread(target=one, args=(name, codec, f"{process.url}/stream/main.{codec}")))
                threads[-1].start()
        time.sleep(3)
        process.popen.send_signal(signal.SIGKILL)
        process.popen.wait()
    with serve("--port", port):
        for thread in threads:
            thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["mp3", "ogg"])
@pytest.mark.parametrize("player", ["pyav", *RECONNECTING])
def test_a_player_comes_back_after_a_restart(
    bench: tuple[object, dict[tuple[str, str], Heard]], player: str, codec: str
) -> None:
    """Those who listen go on without being touched. A piece at the break may be lost."""
    wave = found(bench[1], player, codec).wave
    assert len(wave) > (RESTARTED_S - 1.5) * RATE
    size = RATE // 10
    level = np.sqrt((wave[: len(wave) // size * size].reshape(-1, size) ** 2).mean(1))
    assert (level > 0.5 * np.median(level)).mean() > 0.95  # all of it is sound
