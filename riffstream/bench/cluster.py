"""Benchmark of a Ray cluster: the delay of a clip through it, compared with the pipe to a local process. The test tone
takes no time to render, so the figures are those of the way."""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from dataclasses import asdict, dataclass

import numpy as np

from riffstream.bench.common import environment, markdown_table, report, to_json
from riffstream.config import GeneratorSettings
from riffstream.errors import ParameterError
from riffstream.generator.cluster.launch import Cluster
from riffstream.generator.messages import Done, FromGenerator, Info, Job, Pcm, Piece
from riffstream.generator.packages import check_installed
from riffstream.generator.supervisor import Supervisor
from riffstream.journey.journey import Journey

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = """examples:
  riffstream bench cluster                               (on a Ray cluster of this machine, made for it)
  riffstream bench cluster --generator ray://head:10001
  riffstream bench cluster --json > cluster.json
"""
SPEC = Journey.single("bench").clip(0)
PAUSE_S = 0.02  # between clips
LONGEST_S = 30.0


@dataclass(frozen=True, slots=True)
class Row:
    """Milliseconds from sending the job of a clip (4 s, stems) to its first audio and to its end, median and p95."""

    way: str
    first_ms: float
    first_p95_ms: float
    clip_ms: float
    clip_p95_ms: float
    clips: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``riffstream bench cluster``."""
    parser.add_argument("--generator", default="ray:local", metavar="WHERE", help="a Ray cluster (default ray:local)")
    parser.add_argument("--clips", type=int, default=200, metavar="N", help="clips of each way (default 200)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    settings = GeneratorSettings(model="tone", backend=args.generator, cpus=0.5, gpus=0.0)
    if not settings.on_ray:
        raise ParameterError("--generator", args.generator, "ray:auto, ray:local or ray://HOST:PORT")
    if args.clips < 1:
        raise ParameterError("--clips", args.clips, "1 or more")
    check_installed(settings)
    rows = asyncio.run(_measure(settings, args.clips))
    facts = environment(("ray", "numpy"))
    if args.json:
        print(to_json({"environment": facts, "rows": [asdict(row) for row in rows]}))
    else:
        print(report("A clip through a Ray cluster", [("Milliseconds, median (p95)", table(rows))], facts))
    return 0


def table(rows: list[Row]) -> str:
    """A row for each way."""
    lines = [
        (
            row.way,
            f"{row.first_ms:.1f} ({row.first_p95_ms:.1f})",
            f"{row.clip_ms:.1f} ({row.clip_p95_ms:.1f})",
            row.clips,
        )
        for row in rows
    ]
    return markdown_table(("way", "first audio", "whole clip", "clips"), lines)


async def _measure(settings: GeneratorSettings, clips: int) -> list[Row]:
    cluster = Cluster(settings.backend)
    ways = {"pipe": Way(settings, None), settings.backend: Way(settings, cluster)}
    try:
        for way in ways.values():
            await way.begin()
        for number in range(clips + 1):  # alternating, so that both see the same load; the first one warms up
            for way in ways.values():
                await way.clip(number)
                await asyncio.sleep(PAUSE_S)
    finally:
        for way in ways.values():
            await way.end()
        await asyncio.to_thread(cluster.close)
    return [way.row(name) for name, way in ways.items()]


class Way:
    """A generator, and the times of its clips in seconds."""

    def __init__(self, settings: GeneratorSettings, cluster: Cluster | None) -> None:
        self._first: list[float] = []
        self._done: list[float] = []
        self._began = 0.0
        self._heard = False
        self._finished = asyncio.Event()
        self._supervisor = Supervisor(
            settings,
            on_ready=lambda info: None,
            on_lost=lambda reason, blame: None,
            on_report=self._report,
            launch=None if cluster is None else cluster.launcher(settings),
        )
        self._info = Info(model="tone")

    async def begin(self) -> None:
        """Start the generator. Raises GeneratorError."""
        self._supervisor.start()
        await self._supervisor.wait_settled()

    async def clip(self, number: int) -> None:
        """Render a clip."""
        hops = (self._info.hop,) * self._info.beats
        job = Job(station="bench", take=number, number=0, clip=number, spec=SPEC, hops=hops, stems=True, final=True)
        self._finished.clear()
        self._heard = False
        self._began = time.perf_counter()
        self._supervisor.send([job])
        async with asyncio.timeout(LONGEST_S):
            await self._finished.wait()

    def _report(self, message: FromGenerator, pcm: Pcm) -> None:
        now = time.perf_counter() - self._began
        if isinstance(message, Piece) and not self._heard:
            self._heard = True
            self._first.append(now)
        elif isinstance(message, Done):
            self._done.append(now)
            self._finished.set()

    async def end(self) -> None:
        """End the generator."""
        await self._supervisor.close()

    def row(self, name: str) -> Row:
        """The measured times without the first clip's."""
        first, done = [1000 * each for each in self._first[1:]], [1000 * each for each in self._done[1:]]
        return Row(
            way=name,
            first_ms=statistics.median(first),
            first_p95_ms=float(np.percentile(first, 95)),
            clip_ms=statistics.median(done),
            clip_p95_ms=float(np.percentile(done, 95)),
            clips=len(done),
        )
