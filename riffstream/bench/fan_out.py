"""CPU cost of a listener: the server in comparison with a bare write of the same bytes, in one run."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from riffstream.bench.sinks import SinkReport, run_sinks

if TYPE_CHECKING:
    from riffstream.config import Config
    from riffstream.server.interfaces import Hub

__all__ = ["FanOut", "bare", "measure_server", "noise_server", "serve_figures", "serve_noise", "started"]

FRAME_BYTES = 8000  # half a second at 128 kbit/s
FRAMES_PER_S = 2.0
START_S = 60.0


@dataclass(frozen=True, slots=True)
class FanOut:
    """One measurement.

    Attributes:
        listeners: number of listeners.
        seconds: duration of the measurement in seconds.
        us_per_listener_s: CPU time of the server's process, in microseconds per listener and second, without the time
            of the same server with a single listener (encoding, timers).
        idle_ms_per_s: CPU time with a single listener, in milliseconds per second.
        kbit_s: payload per listener, in kbit/s.
        lag_p95_ms: 95th percentile of the event loop's lag, in milliseconds.
        lag_max_ms: largest lag of the event loop, in milliseconds.
        report: counts from the listeners' side.
        skips: number of skips of the server's listeners.
        closed: number of connections that the server closed.
    """

    listeners: int
    seconds: float
    us_per_listener_s: float
    idle_ms_per_s: float
    kbit_s: float
    lag_p95_ms: float
    lag_max_ms: float
    report: SinkReport
    skips: int = 0
    closed: int = 0


def serve_noise(listeners: int, seconds: float, *, core: int | None = None) -> FanOut:
    """Measure the real server with noise instead of a model, and ``listeners`` real sockets without steering."""
    return measure_server(noise_server, listeners, seconds, core)


def bare(listeners: int, seconds: float, *, core: int | None = None, frame_bytes: int = FRAME_BYTES) -> FanOut:
    """Measure the lower bound of a server: one prepared frame to each transport, twice a second."""
    return measure_server(partial(_bare_server, frame_bytes=frame_bytes), listeners, seconds, core)


def measure_server(
    server: Callable[[Connection, int | None], None], count: int, seconds: float, core: int | None
) -> FanOut:
    """Measure a process that sends its port, and figures on request, with real sockets without steering."""
    from riffstream.server.app import raise_file_limit

    raise_file_limit(count + 256)
    with started(server, core) as (ours, port):
        marks: list[dict[str, Any]] = []

        def mark() -> None:
            ours.send("mark")
            marks.append(ours.recv())

        run_sinks("127.0.0.1", port, 1, min(seconds, 10.0), mark)
        mark()
        report = run_sinks("127.0.0.1", port, count, seconds, mark)
        mark()
        one, many = _spent(marks[0], marks[1]), _spent(marks[2], marks[3])
        window = marks[3]["at"] - marks[2]["at"]
        return FanOut(
            listeners=count,
            seconds=round(window, 2),
            us_per_listener_s=round(1e6 * (many - one) / max(1, count - 1), 2),
            idle_ms_per_s=round(1000 * one, 2),
            kbit_s=round(8e-3 * (marks[3]["bytes"] - marks[2]["bytes"]) / window / count, 1),
            lag_p95_ms=round(marks[3]["lag_p95"], 2),
            lag_max_ms=round(marks[3]["lag_max"], 2),
            report=report,
            skips=int(marks[3]["skips"]),
            closed=int(marks[3]["closed"]),
        )


@contextmanager
def started(server: Callable[[Connection, int | None], None], core: int | None) -> Iterator[tuple[Connection, int]]:
    """Run a server in a process of its own; the connection to it and its port.

    Raises:
        RuntimeError: the process ended before it sent its port, or did not send it within a minute.
    """
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=server, args=(theirs, core), daemon=True)
    process.start()
    theirs.close()  # so that the end of the process is the end of the connection
    try:
        try:
            if not ours.poll(START_S):
                raise RuntimeError(f"the server of the benchmark did not start within {START_S:.0f} s")
            port = int(ours.recv())
        except EOFError:
            raise RuntimeError("the server of the benchmark ended at its start") from None
        yield ours, port
    finally:
        ours.close()
        process.join(10)
        if process.is_alive():
            process.kill()


def _spent(before: dict[str, Any], after: dict[str, Any]) -> float:
    return float((after["cpu"] - before["cpu"]) / (after["at"] - before["at"]))


def _pin(core: int | None) -> None:
    if core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})


async def _answer(pipe: Connection, figures: Callable[[], dict[str, Any]]) -> None:
    """Report CPU time and figures on request, until the other end closes."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            await loop.run_in_executor(None, pipe.recv)
        except EOFError:
            return
        pipe.send({"cpu": time.process_time(), "at": time.monotonic(), **figures()})


def _encoder_seconds() -> float:
    """CPU time of the encoders' threads so far; 0 where the system does not report it."""
    total = 0.0
    for thread in threading.enumerate():
        if thread.name.startswith("encoder-"):
            try:
                fields = Path(f"/proc/self/task/{thread.native_id}/stat").read_text().rsplit(")", 1)[1].split()
            except OSError:  # it has just ended
                continue
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def noise_server(pipe: Connection, core: int | None) -> None:
    """Process of the server with noise instead of a model: sends its port, then figures on request."""
    from riffstream.bench.noise_station import NoiseHub
    from riffstream.config import Config

    config = Config.from_dict({"server": {"port": 0, "drain_s": 1}, "limits": {"connections_per_address": 1_000_000}})
    serve_figures(pipe, core, config, NoiseHub)


def serve_figures(pipe: Connection, core: int | None, config: Config, hub: Callable[[], Hub]) -> None:
    """Serve a hub's stations: send the port, then figures on request, until the other end closes.

    Args:
        pipe: connection to the benchmark.
        core: core for this process; None: any.
        config: the server's configuration.
        hub: makes the hub, in the running event loop.
    """
    from riffstream.server.app import Server, loop_factory
    from riffstream.server.metrics import resident_bytes

    _pin(core)

    async def main() -> None:
        server = Server(config, hub())
        url = await server.start()
        while not server.hub.ready:
            await asyncio.sleep(0.05)

        def figures() -> dict[str, Any]:
            stats = server.context.broadcast("main").stats()
            lag = server.context.lag
            return {
                "bytes": stats.bytes,
                "skips": stats.skips,
                "closed": stats.closed_slow,
                "lag_p95": lag.p95_ms,
                "lag_max": lag.max_ms,
                "encoders": _encoder_seconds(),
                "kb": resident_bytes() / 1024,
            }

        pipe.send(url.rsplit(":", 1)[1])
        await _answer(pipe, figures)
        await server.stop()

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main())


def _bare_server(pipe: Connection, core: int | None, *, frame_bytes: int) -> None:
    from riffstream.server.app import loop_factory, raise_file_limit
    from riffstream.server.fanout import websocket_frame
    from riffstream.server.loop_lag import LagMeter

    _pin(core)
    raise_file_limit(100_000)
    transports: set[asyncio.Transport] = set()
    written = 0

    class Accept(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast(asyncio.Transport, transport)  # uvloop's transport is not a subclass

        def data_received(self, data: bytes) -> None:
            if self.transport not in transports:
                self.transport.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
                transports.add(self.transport)

        def connection_lost(self, error: Exception | None) -> None:
            transports.discard(self.transport)

    async def main() -> None:
        nonlocal written
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Accept, "127.0.0.1", 0, backlog=1024)
        meter = LagMeter()
        meter.start()

        async def write() -> None:
            nonlocal written
            begin, seq = loop.time(), 0
            while True:
                frame = websocket_frame(2, b"\1\1\1\0" + seq.to_bytes(4, "little") + bytes(frame_bytes - 8))
                seq += 1
                for transport in transports:
                    transport.write(frame)
                written += len(frame) * len(transports)
                await asyncio.sleep(max(0.0, begin + seq / FRAMES_PER_S - loop.time()))

        writer = loop.create_task(write())
        pipe.send(server.sockets[0].getsockname()[1])
        await _answer(
            pipe,
            lambda: {"bytes": written, "skips": 0, "closed": 0, "lag_p95": meter.p95_ms, "lag_max": meter.max_ms},
        )
        writer.cancel()

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main())
