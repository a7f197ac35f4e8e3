"""Cost of joining: CPU of the server for a new WebSocket with its burst, and its memory for a listener."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any, Final

from riffstream.bench.common import check_ranges, environment, markdown_table, report, to_json
from riffstream.bench.fan_out import noise_server, started
from riffstream.bench.sinks import run_sinks

__all__ = ["EXAMPLES", "Joins", "add_arguments", "measure_joins", "run"]

EXAMPLES = """examples:
  riffstream bench joins
  riffstream bench joins --listeners 4000"""
STEADY_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Joins:
    """One measurement.

    Attributes:
        listeners: passive Opus listeners that joined one after the other, as fast as they could.
        joins_per_s: of them in a second.
        join_us: CPU of the server for one, with the handshake and the burst, without the delivery to those before.
        kb_per_listener: growth of its resident memory for each, kB. Buffers of the kernel are not in it.
    """

    listeners: int
    joins_per_s: float
    join_us: float
    kb_per_listener: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``riffstream bench joins``."""
    parser.add_argument("--listeners", type=int, default=2000, metavar="N", help="listeners, 10 to 18000 (2000)")
    parser.add_argument("--core", type=int, help="pin the server to this core")
    parser.add_argument("--json", action="store_true", help="JSON instead of tables")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    check_ranges(args, listeners=(10, 18_000))
    if not args.quiet:
        print(f"joins: {args.listeners} listeners ...", file=sys.stderr, flush=True)
    found = min((measure_joins(args.listeners, core=args.core) for _ in range(2)), key=lambda one: one.join_us)
    results = {"environment": environment(("aiohttp", "uvloop")), "joins": asdict(found)}
    print(to_json(results) if args.json else _page(results))
    return 0


def measure_joins(listeners: int, *, core: int | None = None) -> Joins:
    """Measure the real server with noise instead of a model."""
    from riffstream.server.app import raise_file_limit

    raise_file_limit(listeners + 256)
    with started(noise_server, core) as (pipe, port):
        marks: list[dict[str, Any]] = []

        def mark() -> None:
            pipe.send("mark")
            marks.append(pipe.recv())

        run_sinks("127.0.0.1", port, 10, 2.0)  # the encoder runs, and code is loaded
        time.sleep(1.0)
        mark()
        run_sinks("127.0.0.1", port, listeners, STEADY_S, mark)
        # The last mark must be before the listeners leave, so the steady load is measured by a second crowd.
        time.sleep(1.0)
        steady: list[dict[str, Any]] = []

        def mark_steady() -> None:
            pipe.send("mark")
            steady.append(pipe.recv())

        run_sinks("127.0.0.1", port, listeners, STEADY_S, mark_steady)
        mark_steady()
        before, after = marks
        window = after["at"] - before["at"]
        rate = (steady[1]["cpu"] - steady[0]["cpu"]) / (steady[1]["at"] - steady[0]["at"])
        spent = after["cpu"] - before["cpu"] - rate * window / 2  # the crowd grows evenly
        return Joins(
            listeners=listeners,
            joins_per_s=round(listeners / window, 1),
            join_us=round(1e6 * spent / listeners, 1),
            kb_per_listener=round((after["kb"] - before["kb"]) / listeners, 1),
        )


def _page(results: dict[str, Any]) -> str:
    joins = results["joins"]
    body = markdown_table(("listeners", "joins/s", "CPU of a join, us", "memory, kB/listener"), [tuple(joins.values())])
    return report("Joins", [("WebSockets with a burst of Opus", body)], results["environment"])
