"""Benchmark of ``riffstream render --batch``: music by wall clock and by CPU time, for numbers of processes."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from riffstream.bench.common import check_ranges, environment, markdown_table, report, to_json
from riffstream.errors import ParameterError, RiffstreamError

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = """examples:
  riffstream bench batch
  riffstream bench batch --sets 8 --seconds 40 --processes 1,2"""
PROMPTS: Final = ("deep house", "solo piano", "string quartet", "bossa nova", "ambient pads", "techno", "jazz", "funk")


@dataclass(frozen=True, slots=True)
class Row:
    """One batch, with the start of its processes.

    Attributes:
        processes: number of processes.
        music_s: audio of all files, seconds.
        wall_s: time of the command, seconds.
        cpu_s: CPU time of the command and its processes, seconds.
    """

    processes: int
    music_s: float
    wall_s: float
    cpu_s: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``riffstream bench batch``."""
    parser.add_argument("--model", default="mini", help="mini, a folder, a file or a hub id")
    parser.add_argument("--sets", type=int, default=4, metavar="N", help="sets of parameters, 1 to 1000 (4)")
    parser.add_argument("--seconds", type=float, default=20, metavar="S", help="audio of each, 1 to 3600 (20)")
    parser.add_argument("--processes", default="1", metavar="N,N", help="numbers of processes, comma-separated (1)")
    parser.add_argument("--json", action="store_true", help="JSON instead of tables")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    check_ranges(args, sets=(1, 1000), seconds=(1, 3600))
    try:
        numbers = [int(each) for each in args.processes.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(1 <= each <= 64 for each in numbers):
        raise ParameterError("--processes", args.processes, "numbers from 1 to 64, comma-separated")
    rows = []
    for processes in numbers:
        if not args.quiet:
            print(f"batch: {args.sets} sets in {processes} processes ...", file=sys.stderr, flush=True)
        rows.append(_measure(args, processes))
    results = {"environment": environment(("torch", "numpy")), "rows": [asdict(row) for row in rows]}
    print(to_json(results) if args.json else _page(results, args))
    return 0


def _measure(args: argparse.Namespace, processes: int) -> Row:
    with tempfile.TemporaryDirectory(prefix="riffstream-batch-") as name:
        folder = Path(name)
        sets = [{"prompt": PROMPTS[n % len(PROMPTS)], "seed": n} for n in range(args.sets)]
        (folder / "sets.json").write_text(json.dumps(sets))
        command = [sys.executable, "-m", "riffstream", "render", "--batch", str(folder / "sets.json")]
        command += ["--model", args.model, "--seconds", str(args.seconds), "--format", "wav", "--quiet"]
        command += ["--processes", str(processes), "-o", str(folder / "made")]
        began, before = time.monotonic(), _children_s()
        ended = subprocess.run(command, capture_output=True, text=True)
        if ended.returncode:
            raise RiffstreamError(f"riffstream render failed: {ended.stderr.strip()[-500:]}")
        wall_s, cpu_s = time.monotonic() - began, _children_s() - before
    return Row(processes, args.sets * args.seconds, round(wall_s, 2), round(cpu_s, 2))


def _children_s() -> float:
    """CPU time of all ended child processes and of theirs, seconds."""
    spent = os.times()
    return spent.children_user + spent.children_system


def _page(results: dict[str, Any], args: argparse.Namespace) -> str:
    rows = [
        (
            row["processes"],
            row["music_s"],
            row["wall_s"],
            row["music_s"] / row["wall_s"],
            row["cpu_s"],
            row["cpu_s"] / row["music_s"],
        )
        for row in results["rows"]
    ]
    header = ("processes", "music s", "wall s", "times real time", "CPU s", "CPU s for a second of music")
    about = f"{args.sets} sets of {args.seconds:g} s, with the start of the processes"
    return report("Batches", [(about, markdown_table(header, rows))], results["environment"])
