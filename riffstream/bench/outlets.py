"""CPU cost of outlets: MP3 listeners over HTTP, and HLS players of every bit rate."""

from __future__ import annotations

import re
import selectors
import socket
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from riffstream.bench.fan_out import noise_server, started

__all__ = ["Outlets", "measure_outlets", "read_stream"]

PLAYERS = 8  # of each bit rate; each reads the playlist and a segment every two seconds


@dataclass(frozen=True, slots=True)
class Outlets:
    """One measurement.

    Attributes:
        listeners: number of MP3 listeners.
        mp3_us_per_listener_s: CPU time of the server, in microseconds per listener and second, without the time of the
            same server with one listener.
        mp3_kbit_s: received by each listener, kbit/s.
        hls_players: number of HLS players.
        hls_origin_percent: CPU of segments and requests, in percent of a core, without encoders and idle time.
        hls_encoders_percent: CPU of the encoders of all bit rates, in percent of a core.
    """

    listeners: int
    mp3_us_per_listener_s: float
    mp3_kbit_s: float
    hls_players: int
    hls_origin_percent: float
    hls_encoders_percent: float


def measure_outlets(listeners: int, seconds: float, *, core: int | None = None) -> Outlets:
    """Measure the real server with noise instead of a model."""
    from riffstream.server.app import raise_file_limit

    raise_file_limit(listeners + 256)
    with started(noise_server, core) as (ours, port):

        def mark() -> dict[str, Any]:
            ours.send("mark")
            found: dict[str, Any] = ours.recv()
            return found

        idle = _share(mark, lambda: time.sleep(min(seconds, 5.0)))["all"]
        one = _share(mark, lambda: read_stream(port, 1, seconds))["all"]
        got: list[int] = []
        many = _share(mark, lambda: got.append(read_stream(port, listeners, seconds)))["all"]
        _play_hls(port, 4.0)  # the encoders have started
        hls = _share(mark, lambda: _play_hls(port, seconds))
        return Outlets(
            listeners=listeners,
            mp3_us_per_listener_s=round(1e6 * (many - one) / max(1, listeners - 1), 2),
            mp3_kbit_s=round(8e-3 * got[0] / listeners / seconds, 1),
            hls_players=3 * PLAYERS,
            hls_origin_percent=round(100 * (hls["all"] - hls["encoders"] - idle), 2),
            hls_encoders_percent=round(100 * hls["encoders"], 2),
        )


def _share(mark: Callable[[], dict[str, Any]], work: Callable[[], object]) -> dict[str, float]:
    """CPU time of the server during ``work`` per second: of all its threads, and of its encoders."""
    before = mark()
    work()
    after = mark()
    window = after["at"] - before["at"]
    return {
        "all": (after["cpu"] - before["cpu"]) / window,
        "encoders": (after["encoders"] - before["encoders"]) / window,
    }


def read_stream(
    port: int,
    count: int,
    seconds: float,
    path: str = "/stream/main.mp3",
    joined: Callable[[], None] | None = None,
) -> int:
    """Read streams for ``seconds``; return the received bytes. ``joined`` is called once all are connected."""
    waiting = selectors.DefaultSelector()
    for _ in range(count):
        sock = socket.create_connection(("127.0.0.1", port), 10)
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        sock.setblocking(False)
        waiting.register(sock, selectors.EVENT_READ)
    if joined is not None:
        _drain(waiting)  # the bursts
        joined()
    received, begin = 0, time.monotonic()
    while time.monotonic() - begin < seconds:
        for key, _ in waiting.select(0.5):
            assert isinstance(key.fileobj, socket.socket)
            data = key.fileobj.recv(65536)
            received += len(data)
            if not data:
                raise ConnectionError("the server closed a listener")
    for key in tuple(waiting.get_map().values()):
        assert isinstance(key.fileobj, socket.socket)
        key.fileobj.close()
    waiting.close()
    return received


def _drain(waiting: selectors.BaseSelector) -> None:
    """Read for two seconds: the bursts of new listeners."""
    end = time.monotonic() + 2.0
    while time.monotonic() < end:
        for key, _ in waiting.select(0.1):
            assert isinstance(key.fileobj, socket.socket)
            if not key.fileobj.recv(65536):
                raise ConnectionError("the server closed a listener")


def _play_hls(port: int, seconds: float) -> None:
    """Read playlists and newest segments of all bit rates like ``PLAYERS`` players of each."""
    begin = time.monotonic()
    while time.monotonic() - begin < seconds:
        round_at = time.monotonic()
        for kbps in (64, 128, 256):
            for _ in range(PLAYERS):
                root = f"http://127.0.0.1:{port}/hls/main"
                with urllib.request.urlopen(f"{root}/{kbps}.m3u8", timeout=30) as answer:
                    newest = re.findall(r"^[^#].*$", answer.read().decode(), re.MULTILINE)[-1]
                with urllib.request.urlopen(f"{root}/{newest}", timeout=30) as answer:
                    answer.read()
        time.sleep(max(0.0, 2 - (time.monotonic() - round_at)))
