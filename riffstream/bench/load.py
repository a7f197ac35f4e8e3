"""Steering while thousands listen: its delay with and without them, and what they cost the server."""

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
SETTLE_S = 5.0  # bursts of those who have just joined
LONGEST_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Load:
    """One measurement.

    Attributes:
        listeners, joined: asked for, and there.
        without, with_load: delays of steers.
        us_per_listener_s: CPU of the server's process per listener and second, microseconds, less what it takes with
            one listener who steers and one who does not.
        kbit_s: sent to each.
        bare_us_per_listener_s, bare_kbit_s: the same of a bare write of frames of the same size. ratio: of the two
            costs, each divided by its bytes.
        drops: frames missing, flagged or skipped, and connections lost.
        lag_p95_ms: of the server's event loop in the last minute.
        client_cpu: share of a core that the listeners' process took.
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
    """Serve, steer alone, have ``listeners`` join, and steer again.

    Args:
        arguments: of ``riffstream serve``.
        steers: in each part, one every 5 s.
        seconds: length of the bare write that is measured for comparison.
        core: to pin the bare write to.
    """
    return asyncio.run(_load(arguments, listeners, steers, seconds, core))


async def _load(arguments: Sequence[str], listeners: int, steers: int, seconds: float, core: int | None) -> Load:
    async with serving(arguments, listeners=listeners) as (url, _):
        port = int(url.rsplit(":", 1)[1])
        await steer_delays(url, 1, 0.0)  # the first one warms up
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
    """Listeners in a process of their own: they must not hold up the one whose delays are measured. Entering returns
    when all are in; leaving ends the process, whatever it does."""

    def __init__(self, port: int, count: int) -> None:
        self._ours, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("spawn").Process(
            target=_listen, args=(theirs, port, count), daemon=True
        )
        self._process.start()
        theirs.close()  # so that reading ends when the process does

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
        """End them: what they saw, and the share of a core that they took."""
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
    """What the server has counted so far."""
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
