"""Steering under load: its delay with and without thousands of listeners, and their cost to the server."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Self

from riffstream.bench.fan_out import FRAMES_PER_S, bare
from riffstream.bench.live import SteerDelays, serving, steer_delays
from riffstream.bench.sinks import SinkReport, run_sinks

__all__ = ["Load", "load"]

EVERY_S = 5.0
SETTLE_S = 5.0  # wait for the bursts of new listeners
LONGEST_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Load:
    """One measurement.

    Attributes:
        listeners: requested number of listeners.
        joined: number of connected listeners.
        without: delays of steers without the listeners.
        with_load: delays of steers with the listeners.
        us_per_listener_s: CPU time of the server's process, in microseconds per listener and second, without the time
            for one steering and one passive listener.
        kbit_s: payload per listener, in kbit/s.
        bare_us_per_listener_s: the same for a bare write of frames of equal size.
        bare_kbit_s: payload of the bare write per listener, in kbit/s.
        ratio: CPU time per byte of the server, relative to that of the bare write.
        drops: number of missing, flagged and skipped frames and of lost connections.
        lag_p95_ms: 95th percentile of the lag of the server's event loop in the last minute, in milliseconds.
        client_cpu: CPU time of the listeners' process, as a share of one core.
    """

    listeners: int
    joined: int
    without: SteerDelays
    with_load: SteerDelays
    us_per_listener_s: float
    kbit_s: float
    bare_us_per_listener_s: float
    bare_kbit_s: float
    ratio: float
    drops: int
    lag_p95_ms: float
    client_cpu: float


def load(
    arguments: Sequence[str], listeners: int, steers: int, *, seconds: float = 20.0, core: int | None = None
) -> Load:
    """Start a server and steer without load, then add ``listeners`` and steer again.

    Args:
        arguments: arguments of ``riffstream serve``.
        steers: number of steers in each part, one every 5 s.
        seconds: duration of the bare write in seconds.
        core: CPU core of the bare write.
    """
    return asyncio.run(_load(arguments, listeners, steers, seconds, core))


async def _load(arguments: Sequence[str], listeners: int, steers: int, seconds: float, core: int | None) -> Load:
    async with serving(arguments, listeners=listeners) as (url, _):
        port = int(url.rsplit(":", 1)[1])
        await steer_delays(url, 1, 0.0)  # warm up with the first steer
        async with _Crowd(port, 1) as few:
            before = await asyncio.to_thread(_figures, url)
            without = await steer_delays(url, steers, EVERY_S)
            idle = _per_second(before, await asyncio.to_thread(_figures, url))
            await few.leave()
        async with _Crowd(port, listeners) as crowd:
            await asyncio.sleep(SETTLE_S)
            before = await asyncio.to_thread(_figures, url)
            with_load = await steer_delays(url, steers, EVERY_S)
            after = await asyncio.to_thread(_figures, url)
            report, client_cpu = await crowd.leave()
    busy = _per_second(before, after)
    cost = 1e6 * (busy["cpu"] - idle["cpu"]) / max(1, listeners - 1)
    sent = (busy["bytes"] - idle["bytes"]) / max(1, listeners - 1)
    least = await asyncio.to_thread(
        bare, listeners, seconds, core=core, frame_bytes=max(16, round(sent / FRAMES_PER_S))
    )
    ratio = (cost / sent) / (least.us_per_listener_s / (125 * least.kbit_s)) if sent and least.kbit_s else float("nan")
    skipped = after["skips"] - before["skips"] + after["closed"] - before["closed"]
    return Load(
        listeners=listeners,
        joined=report.joined,
        without=without,
        with_load=with_load,
        us_per_listener_s=round(cost, 2),
        kbit_s=round(sent / 125, 1),
        bare_us_per_listener_s=least.us_per_listener_s,
        bare_kbit_s=least.kbit_s,
        ratio=round(ratio, 3),
        drops=int(skipped) + report.gaps + report.flagged + report.lost,
        lag_p95_ms=round(after["lag_ms"], 2),
        client_cpu=round(client_cpu, 3),
    )


class _Crowd:
    """Listeners in a separate process, to keep them from delaying the measured listener. Entry returns after all have
    joined. Exit ends the process in any state."""

    def __init__(self, port: int, count: int) -> None:
        self._ours, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("spawn").Process(
            target=_listen, args=(theirs, port, count), daemon=True
        )
        self._process.start()
        theirs.close()  # reading ends with the process

    async def __aenter__(self) -> Self:
        try:
            await asyncio.to_thread(self._ours.recv)
        except BaseException:
            self._process.kill()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._process.kill()

    async def leave(self) -> tuple[SinkReport, float]:
        """End the listeners: their report, and their CPU time as a share of one core."""
        self._ours.send("leave")
        found: tuple[SinkReport, float] = await asyncio.to_thread(self._ours.recv)
        await asyncio.to_thread(self._process.join, 10)
        return found


def _listen(pipe: Connection, port: int, count: int) -> None:
    from riffstream.server.app import raise_file_limit

    raise_file_limit(count + 256)
    began: list[tuple[float, float]] = []

    def joined() -> None:
        began.append((time.monotonic(), time.process_time()))
        pipe.send("joined")

    stop: Callable[[], bool] = pipe.poll
    report = run_sinks("127.0.0.1", port, count, LONGEST_S, joined, stop=stop)
    when, cpu = began[0]
    pipe.send((report, (time.process_time() - cpu) / max(1e-9, time.monotonic() - when)))


def _figures(url: str) -> dict[str, float]:
    """The current values of the server's metrics."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    told = {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}
    names = {
        "cpu": "riffstream_cpu_seconds_total",
        "bytes": 'riffstream_bytes_total{station="main"}',
        "skips": 'riffstream_skips_total{station="main"}',
        "closed": 'riffstream_closed_slow_total{station="main"}',
        "lag_s": 'riffstream_loop_lag_seconds{stat="p95"}',
    }
    found: dict[str, float] = {key: told.get(name, 0.0) for key, name in names.items()}
    return found | {"at": time.monotonic(), "lag_ms": 1000 * found["lag_s"]}


def _per_second(before: dict[str, Any], after: dict[str, Any]) -> dict[str, float]:
    seconds = after["at"] - before["at"]
    return {key: (after[key] - before[key]) / seconds for key in ("cpu", "bytes")}
