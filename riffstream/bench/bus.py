"""A tree of relays in comparison with a message bus (NATS): the same frames to as many receivers, on one machine."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import multiprocessing
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, Final

from riffstream import protocol
from riffstream.bench.common import check_ranges, environment, markdown_table, report, to_json
from riffstream.bench.fan_out import noise_server, started
from riffstream.bench.icecast import process_cpu_s
from riffstream.bench.relay_hop import Arrivals, joined, note_frames, relay_server
from riffstream.errors import RiffstreamError

__all__ = ["EXAMPLES", "Bus", "Tree", "add_arguments", "measure_bus", "measure_tree", "run"]

EXAMPLES = """The tree: a server, and relays of it with one listener each. The bus: nats-server between a publisher of
the server's frames and as many subscribers. Times of arrival are compared with those at a client of the server.
The bus needs nats-server and the package nats-py; without them only the tree is measured.

examples:
  riffstream bench bus
  riffstream bench bus --relays 4 --seconds 20"""
SUBJECT: Final = "riffstream.main.opus"
READY_S: Final = 30.0  # of nats-server


@dataclass(frozen=True, slots=True)
class Tree:
    """Relays of one server.

    Attributes:
        relays: number of relays, each with one listener.
        origin_us: CPU of the server for one relay, microseconds per second.
        relay_us: CPU of one relay, microseconds per second.
        added_p50_ms, added_p95_ms: arrival at a relay's listener after that at a client of the server.
        frames: frames compared.
        different: frames whose bytes differ, or that did not arrive.
    """

    relays: int
    origin_us: float
    relay_us: float
    added_p50_ms: float
    added_p95_ms: float
    frames: int
    different: int


@dataclass(frozen=True, slots=True)
class Bus:
    """Subscribers of one nats-server.

    Attributes:
        subscribers: number of subscribers.
        broker_us: CPU of nats-server for one subscriber, microseconds per second.
        broker_idle_us: CPU of nats-server with one subscriber, microseconds per second.
        publisher_us: CPU of the publisher for publishing, microseconds per second.
        added_p50_ms, added_p95_ms: arrival at a subscriber after that at a client of the server.
        frames: frames compared.
        different: frames whose bytes differ, or that did not arrive.
        version: of nats-server.
    """

    subscribers: int
    broker_us: float
    broker_idle_us: float
    publisher_us: float
    added_p50_ms: float
    added_p95_ms: float
    frames: int
    different: int
    version: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``riffstream bench bus``."""
    parser.add_argument("--relays", type=int, default=10, metavar="N", help="relays or subscribers, 2 to 100 (10)")
    parser.add_argument("--seconds", type=float, default=20, metavar="S", help="duration of a measurement (20)")
    parser.add_argument("--json", action="store_true", help="JSON instead of tables")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    check_ranges(args, relays=(2, 100), seconds=(1, 3600))

    def say(what: str) -> None:
        if not args.quiet:
            print(f"bus: {what} ...", file=sys.stderr, flush=True)

    say(f"{args.relays} relays")
    results: dict[str, Any] = {"environment": environment(("aiohttp", "uvloop", "nats-py"))}
    results["tree"] = asdict(measure_tree(args.relays, args.seconds))
    if why := missing():
        results["bus"] = {"left_out": why}
    else:
        say(f"nats-server with {args.relays} subscribers")
        results["bus"] = asdict(measure_bus(args.relays, args.seconds))
    print(to_json(results) if args.json else _page(results))
    return 0


def missing() -> str:
    """What the bus lacks to run here; "" if it can."""
    if shutil.which("nats-server") is None:
        return "nats-server is not installed"
    if importlib.util.find_spec("nats") is None:
        return "the package nats-py is not installed"
    return ""


# -- the tree ---------------------------------------------------------------------------------------------------------


def measure_tree(relays: int, seconds: float) -> Tree:
    """Measure a server with noise instead of a model, with one relay and with ``relays`` of them."""
    with ExitStack() as running:
        port, origin_cpu = running.enter_context(_process(noise_server))
        few: list[tuple[int, Callable[[], float]]] = [
            running.enter_context(_process(partial(relay_server, upstream=port)))
        ]
        one, _ = asyncio.run(_receive(port, [each for each, _ in few], seconds, [origin_cpu]))
        few += [running.enter_context(_process(partial(relay_server, upstream=port))) for _ in range(relays - len(few))]
        meters = [origin_cpu, *(cpu for _, cpu in few)]
        many, arrived = asyncio.run(_receive(port, [each for each, _ in few], seconds, meters))
    added, different = _compared(arrived)
    return Tree(
        relays=relays,
        origin_us=round(1e6 * (many[0] - one[0]) / (relays - 1), 1),
        relay_us=round(1e6 * statistics.mean(many[1:]), 1),
        added_p50_ms=round(statistics.median(added), 2),
        added_p95_ms=round(added[int(0.95 * (len(added) - 1))], 2),
        frames=len(added),
        different=different,
    )


async def _receive(
    origin: int, ports: list[int], seconds: float, meters: list[Callable[[], float]]
) -> tuple[list[float], list[Arrivals]]:
    """Listen to the origin and to every port: CPU of each meter in a second, and the arrivals, the origin's first."""
    sockets = [await joined(port) for port in (origin, *ports)]
    arrived: list[Arrivals] = [{} for _ in sockets]

    readers = [asyncio.create_task(note_frames(*each)) for each in zip(sockets, arrived, strict=True)]
    await asyncio.sleep(2.0)  # the bursts
    for each in arrived:
        each.clear()
    before = [meter() for meter in meters]
    began = time.monotonic()
    await asyncio.sleep(seconds)
    window = time.monotonic() - began
    spent = [(meter() - old) / window for meter, old in zip(meters, before, strict=True)]
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    for connection in sockets:
        await connection.close()
    return spent, arrived


def _compared(arrived: list[Arrivals]) -> tuple[list[float], int]:
    """Sorted delays in ms behind the first receiver, and the frames that differ or are missing elsewhere."""
    first, *others = arrived
    numbers = sorted(first)[2:-10]  # the ends of the window are not the same everywhere
    added, different = [], 0
    for each in others:
        for number in numbers:
            if number not in each or each[number][1] != first[number][1]:
                different += 1
            else:
                added.append(1000 * (each[number][0] - first[number][0]))
    if not added:
        raise RiffstreamError("no frame arrived everywhere; try more --seconds")
    return sorted(added), different


@contextlib.contextmanager
def _process(server: Callable[[Connection, int | None], None]) -> Iterator[tuple[int, Callable[[], float]]]:
    """Run a server in a process: its port, and a function that returns its CPU time."""
    with started(server, None) as (pipe, port):

        def cpu_s() -> float:
            pipe.send("mark")
            return float(pipe.recv()["cpu"])

        yield port, cpu_s


# -- the bus ----------------------------------------------------------------------------------------------------------


def measure_bus(subscribers: int, seconds: float) -> Bus:
    """Measure nats-server with one subscriber and with ``subscribers`` of them, and a publisher with and without it."""
    with ExitStack() as running:
        port, _ = running.enter_context(_process(noise_server))
        url, pid = running.enter_context(_nats_server())
        quiet = asyncio.run(_through_bus(port, "", 0, seconds, pid))
        one = asyncio.run(_through_bus(port, url, 1, seconds, pid))
        many = asyncio.run(_through_bus(port, url, subscribers, seconds, pid))
    added, different = _compared(many.arrived)
    return Bus(
        subscribers=subscribers,
        broker_us=round(1e6 * (many.broker - one.broker) / (subscribers - 1), 1),
        broker_idle_us=round(1e6 * one.broker, 1),
        publisher_us=round(1e6 * (many.publisher - quiet.publisher), 1),
        added_p50_ms=round(statistics.median(added), 2),
        added_p95_ms=round(added[int(0.95 * (len(added) - 1))], 2),
        frames=len(added),
        different=different,
        version=_version(),
    )


@dataclass(frozen=True, slots=True)
class _Run:
    """CPU of the broker and of the publisher in a second, and the arrivals, those of the publisher first."""

    broker: float
    publisher: float
    arrived: list[Arrivals]


async def _through_bus(port: int, url: str, subscribers: int, seconds: float, pid: int) -> _Run:
    """Publish the origin's frames from a process of its own, and receive them here."""
    arrived: list[Arrivals] = [{} for _ in range(subscribers)]
    connections = []
    for into in arrived:
        import nats

        connection = await nats.connect(url)

        async def received(message: Any, into: Arrivals = into) -> None:
            into[protocol.unpack_frame(message.data).seq] = (time.monotonic(), message.data)

        await connection.subscribe(SUBJECT, cb=received)
        await connection.flush()
        connections.append(connection)
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_publisher, args=(theirs, port, url), daemon=True)
    process.start()
    theirs.close()
    try:
        await asyncio.to_thread(ours.recv)
        await asyncio.sleep(2.0)  # the burst
        for each in arrived:
            each.clear()
        ours.send("begin")
        before = await asyncio.to_thread(ours.recv)
        broker, began = process_cpu_s(pid), time.monotonic()
        await asyncio.sleep(seconds)
        window = time.monotonic() - began
        broker = (process_cpu_s(pid) - broker) / window
        ours.send("end")
        after, published = await asyncio.to_thread(ours.recv)
        await asyncio.sleep(0.2)
    finally:
        ours.close()
        process.join(10)
        if process.is_alive():
            process.kill()
        for connection in connections:
            await connection.close()
    return _Run(broker, (after - before) / window, [published, *arrived])


def _publisher(pipe: Connection, port: int, url: str) -> None:
    """Process that takes the origin's frames and publishes them; without a URL it only takes them."""

    async def main() -> None:
        connection: Any = None
        if url:
            import nats

            connection = await nats.connect(url)
        origin = await joined(port)
        taken: Arrivals = {}

        async def pump() -> None:
            async for data in origin:
                if isinstance(data, bytes):
                    taken[protocol.unpack_frame(data).seq] = (time.monotonic(), data)
                    if connection is not None:
                        await connection.publish(SUBJECT, data)

        pumping = asyncio.create_task(pump())
        pipe.send("ready")
        await asyncio.to_thread(pipe.recv)
        taken.clear()
        pipe.send(time.process_time())
        await asyncio.to_thread(pipe.recv)
        pipe.send((time.process_time(), taken))
        pumping.cancel()
        await asyncio.gather(pumping, return_exceptions=True)
        await origin.close()
        if connection is not None:
            await connection.close()

    asyncio.run(main())


@contextlib.contextmanager
def _nats_server() -> Iterator[tuple[str, int]]:
    """A running nats-server: its URL and process number. Raises RiffstreamError."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    with tempfile.TemporaryDirectory(prefix="riffstream-nats-") as folder:
        process = subprocess.Popen(
            ["nats-server", "-a", "127.0.0.1", "-p", str(port)],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            deadline = time.monotonic() + READY_S
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RiffstreamError("nats-server does not start")
                time.sleep(0.05)
            yield f"nats://127.0.0.1:{port}", process.pid
        finally:
            process.terminate()
            process.wait()


def _version() -> str:
    said = subprocess.run(["nats-server", "--version"], capture_output=True, text=True, timeout=10).stdout
    return said.strip().removeprefix("nats-server: ") or "unknown"


def _page(results: dict[str, Any]) -> str:
    tree, bus = results["tree"], results["bus"]
    rows = [
        (
            f"tree of {tree['relays']} relays",
            tree["origin_us"],
            tree["relay_us"],
            tree["added_p50_ms"],
            tree["added_p95_ms"],
            tree["frames"],
            tree["different"],
        )
    ]
    if "left_out" not in bus:
        rows.append(
            (
                f"NATS {bus['version']}, {bus['subscribers']} subscribers",
                bus["broker_us"],
                None,
                bus["added_p50_ms"],
                bus["added_p95_ms"],
                bus["frames"],
                bus["different"],
            )
        )
    header = ("", "sender, us/s for a receiver", "relay, us/s", "added p50 ms", "p95 ms", "frames", "different")
    text = markdown_table(header, rows) + "\n\n"
    if "left_out" in bus:
        text += f"The bus was not measured: {bus['left_out']}."
    else:
        text += (
            f"The sender is the server, or nats-server. nats-server takes {bus['broker_idle_us']:.0f} us/s with one "
            f"subscriber, and the publisher {bus['publisher_us']:.0f} us/s for publishing. The tree's times end at a "
            f"listener of a relay; those of the bus at a subscriber, which has no listeners yet."
        )
    return report("A tree of relays and a bus", [("Opus in frames of 100 ms", text)], results["environment"])
