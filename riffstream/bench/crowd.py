"""Thousands of listeners at a server with workers and at relays of it, at the same time: CPU of each process."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from riffstream.bench.common import check_ranges, environment, markdown_table, report, to_json
from riffstream.bench.icecast import process_cpu_s
from riffstream.bench.live import joined, serving
from riffstream.bench.sinks import SinkReport, run_sinks
from riffstream.errors import RiffstreamError

__all__ = ["EXAMPLES", "Crowd", "Process", "add_arguments", "children", "measure_crowd", "run"]

EXAMPLES = """The server, its workers and the relays are the real commands, with the test tone as music. The listeners
are spread evenly over server and relays, and the kernel spreads those of the server over its processes. The CPU of a
process is measured twice: with one listener, and with all.

examples:
  riffstream bench crowd
  riffstream bench crowd --listeners 2000 --workers 1 --relays 1"""
SETTLE_S: Final = 3.0  # the bursts of the last listeners
LATE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Process:
    """CPU of one process.

    Attributes:
        name: its place in the installation.
        idle_ms_per_s: CPU time before the listeners, in milliseconds per second.
        ms_per_s: the same with all of them.
    """

    name: str
    idle_ms_per_s: float
    ms_per_s: float


@dataclass(frozen=True, slots=True)
class Crowd:
    """One measurement.

    Attributes:
        listeners: passive Opus listeners.
        processes: the server's own, its workers, and the relays.
        us_per_listener_s: CPU time of all of them for a listener, in microseconds per second.
        listeners_of_a_core: listeners for whom a whole core would be enough, by calculation.
        kbit_s: received by each listener, kbit/s.
        report: counts from the listeners' side.
    """

    listeners: int
    processes: list[Process]
    us_per_listener_s: float
    listeners_of_a_core: int
    kbit_s: float
    report: SinkReport


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``riffstream bench crowd``."""
    parser.add_argument("--listeners", type=int, default=10_000, metavar="N", help="listeners, 10 to 18000 (10000)")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes of the server, 1 to 8 (2)")
    parser.add_argument("--relays", type=int, default=2, metavar="N", help="relays, 0 to 8 (2)")
    parser.add_argument("--seconds", type=float, default=20, metavar="S", help="duration of a measurement (20)")
    parser.add_argument("--json", action="store_true", help="JSON instead of tables")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    check_ranges(args, listeners=(10, 18_000), workers=(1, 8), relays=(0, 8), seconds=(1, 3600))
    if not Path("/proc/self/task").is_dir():
        raise RiffstreamError("the CPU time of other processes is read from /proc, which this system does not have")
    if not args.quiet:
        print(f"crowd: {args.listeners} listeners ...", file=sys.stderr, flush=True)
    found = asyncio.run(measure_crowd(args.listeners, args.seconds, workers=args.workers, relays=args.relays))
    results = {"environment": environment(("aiohttp", "uvloop")), "crowd": asdict(found)}
    print(to_json(results) if args.json else _page(results))
    return 0


async def measure_crowd(listeners: int, seconds: float, *, workers: int, relays: int) -> Crowd:
    """Measure ``listeners`` at a server with ``workers`` processes and ``relays`` relays of it."""
    from riffstream.server.app import raise_file_limit

    raise_file_limit(listeners + 256)
    async with AsyncExitStack() as running:

        async def start(command: str, *arguments: str) -> tuple[str, int]:
            url, process = await running.enter_async_context(serving(arguments, listeners=listeners, command=command))
            await (await joined(url)).close()
            return url, process.pid

        served, first = await start("serve", "--model", "tone", "--workers", str(workers))
        relayed = [await start("relay", "--upstream", served.replace("http", "ws", 1)) for _ in range(relays)]
        meters = {"server": first}
        meters |= {f"worker {number}": pid for number, pid in enumerate(_workers(first), 1)}
        meters |= {f"relay {number}": pid for number, (_, pid) in enumerate(relayed, 1)}
        ports = [int(url.rsplit(":", 1)[1]) for url in (served, *(url for url, _ in relayed))]
        idle, _, _ = await asyncio.to_thread(_measured, ports, len(ports), seconds, meters)
        busy, counts, kbit_s = await asyncio.to_thread(_measured, ports, listeners, seconds, meters)
    processes = [Process(name, round(idle[name], 2), round(busy[name], 2)) for name in meters]
    each_us = 1e3 * sum(one.ms_per_s - one.idle_ms_per_s for one in processes) / listeners
    return Crowd(
        listeners=listeners,
        processes=processes,
        us_per_listener_s=round(each_us, 2),
        listeners_of_a_core=int(1e6 / each_us) if each_us > 0 else 0,
        kbit_s=round(kbit_s, 1),
        report=counts,
    )


def _measured(
    ports: list[int], listeners: int, seconds: float, meters: dict[str, int]
) -> tuple[dict[str, float], SinkReport, float]:
    """CPU of each process in ms a second, counts of the listeners, and kbit/s of a listener.

    Raises:
        RiffstreamError: not all listeners were admitted.
    """
    counts = SinkReport()
    marks: list[tuple[float, int, dict[str, float]]] = []
    began: list[float] = []

    def due() -> bool:
        """Mark the begin and the end of the measurement, both while all are connected."""
        now = time.monotonic()
        if now >= began[0] + SETTLE_S + (seconds if marks else 0.0):
            marks.append((now, counts.bytes, {name: process_cpu_s(pid) for name, pid in meters.items()}))
        return len(marks) == 2

    longest = SETTLE_S + seconds + LATE_S
    run_sinks("127.0.0.1", ports, listeners, longest, lambda: began.append(time.monotonic()), stop=due, report=counts)
    if counts.joined < listeners or len(marks) < 2:
        raise RiffstreamError(f"{counts.joined} of {listeners} listeners were admitted; this machine is too busy")
    (then, had, before), (now, have, after) = marks
    spent = {name: 1e3 * (after[name] - before[name]) / (now - then) for name in meters}
    return spent, counts, 8e-3 * (have - had) / (now - then) / listeners


def _workers(pid: int) -> list[int]:
    """Further processes of a server that accept connections; its generator is not one of them."""
    return [child for child, command in children(pid).items() if "riffstream.commands._worker" in command]


def children(pid: int) -> dict[int, str]:
    """Processes that this one has started, with their command lines; empty without /proc."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if parent == pid:
                found[int(folder.name)] = (
                    (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
        except (OSError, ValueError, IndexError):  # it has just ended
            continue
    return found


def _page(results: dict[str, Any]) -> str:
    found = results["crowd"]
    rows = [tuple(one.values()) for one in found["processes"]]
    counts = found["report"]
    table = markdown_table(("process", "idle ms/s", f"ms/s with {found['listeners']:,} listeners"), rows)
    text = (
        f"{found['us_per_listener_s']} us a listener and second over all processes, {found['kbit_s']} kbit/s each: a "
        f"whole core would be enough for {found['listeners_of_a_core']:,} listeners by calculation. "
        f"{counts['joined']:,} joined, {counts['lost']} lost; {counts['gaps']} frames missing of {counts['frames']:,}."
    )
    return report("A crowd", [("Server, workers and relays", f"{table}\n\n{text}")], results["environment"])
