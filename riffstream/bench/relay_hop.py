"""Cost of a relay in comparison with the server itself, in one run: added latency, and CPU of its listeners."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, Final

from riffstream import protocol
from riffstream.bench.fan_out import FanOut, measure_server, noise_server, serve_figures, serve_noise, started
from riffstream.client import RadioError
from riffstream.client.greeting import greet
from riffstream.errors import RiffstreamError

__all__ = ["Arrivals", "RelayHop", "joined", "measure_relay", "note_frames", "relay_server"]

LATENCY_S: Final = 20.0
READY_S: Final = 30.0

Arrivals = dict[int, tuple[float, bytes]]  # number -> time, bytes


@dataclass(frozen=True, slots=True)
class RelayHop:
    """One measurement.

    Attributes:
        direct: the server with all listeners.
        relay: a relay of it with as many.
        added_p50_ms: time of a frame's arrival from an otherwise idle relay after that from the server, median.
        added_p95_ms: the same, 95th percentile.
        added_worst_ms: the same, longest.
        frames: frames compared.
        different: frames whose bytes differ.
    """

    direct: FanOut
    relay: FanOut
    added_p50_ms: float
    added_p95_ms: float
    added_worst_ms: float
    frames: int
    different: int

    @property
    def cpu_ratio(self) -> float:
        """CPU of a process with 1,000 listeners: relay over server, with receiving and encoding."""
        return _of_thousand(self.relay) / _of_thousand(self.direct)


def _of_thousand(found: FanOut) -> float:
    """CPU of 1,000 listeners in ms a second."""
    return found.idle_ms_per_s + found.us_per_listener_s


def measure_relay(listeners: int, seconds: float, *, core: int | None = None) -> RelayHop:
    """Measure a server with noise instead of a model, and a relay of it, alternately."""
    direct, relayed = [], []
    with started(noise_server, core) as (_, port):
        times = asyncio.run(_latency(port, core))
        for _ in range(2):
            direct.append(serve_noise(listeners, seconds, core=core))
            relayed.append(measure_server(partial(relay_server, upstream=port), listeners, seconds, core))
    added = sorted(times.added_ms)
    return RelayHop(
        direct=min(direct, key=lambda one: one.us_per_listener_s),
        relay=min(relayed, key=lambda one: one.us_per_listener_s),
        added_p50_ms=round(statistics.median(added), 2),
        added_p95_ms=round(added[int(0.95 * (len(added) - 1))], 2),
        added_worst_ms=round(added[-1], 2),
        frames=len(added),
        different=times.different,
    )


def relay_server(pipe: Connection, core: int | None, *, upstream: int) -> None:
    """Process of a relay: sends its port, then figures on request."""
    from riffstream.config import Config
    from riffstream.relay.hub import RelayHub

    config = Config.from_dict(
        {
            "server": {"port": 0, "drain_s": 1},
            "limits": {"connections_per_address": 1_000_000},
            "relay": {"upstreams": [f"ws://127.0.0.1:{upstream}"]},
        }
    )
    serve_figures(pipe, core, config, lambda: RelayHub(config))


@dataclass
class _Times:
    added_ms: list[float]
    different: int


async def _latency(port: int, core: int | None) -> _Times:
    """Receive every frame from the server and from a relay of it, and compare the times of arrival."""
    with started(partial(relay_server, upstream=port), core) as (_, relay):
        arrived = await asyncio.gather(_arrivals(port), _arrivals(relay))
    shared = sorted(arrived[0].keys() & arrived[1].keys())[20:]  # without the bursts
    added = [1000 * (arrived[1][seq][0] - arrived[0][seq][0]) for seq in shared]
    return _Times(added, sum(arrived[0][seq][1] != arrived[1][seq][1] for seq in shared))


async def _arrivals(port: int) -> Arrivals:
    """Time and bytes of each frame, by its number."""
    socket = await joined(port)
    found: Arrivals = {}
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LATENCY_S):
            await note_frames(socket, found)
    await socket.close()
    return found


async def joined(port: int) -> Any:
    """A connection to a server or relay with frames as relays have them. Raises RiffstreamError."""
    hello = protocol.Hello(v=protocol.VERSION, steer=True)
    deadline = time.monotonic() + READY_S
    while True:
        try:
            connection, _ = await greet(f"ws://127.0.0.1:{port}/ws/main", hello, 10.0)
            return connection
        except RadioError:  # a relay begins without stations
            if time.monotonic() > deadline:
                raise RiffstreamError(f"the server on port {port} does not answer") from None
            await asyncio.sleep(0.1)


async def note_frames(connection: Any, into: Arrivals) -> None:
    """Note each frame until the connection ends."""
    async for data in connection:
        if isinstance(data, bytes):
            into[protocol.unpack_frame(data).seq] = (time.monotonic(), data)
