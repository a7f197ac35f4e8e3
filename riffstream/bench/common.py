"""Common parts of all benchmarks: description of the machine, timing, tables in Markdown and JSON."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from riffstream import __version__
from riffstream.errors import ParameterError

__all__ = [
    "Timing",
    "check_ranges",
    "environment",
    "environment_lines",
    "markdown_table",
    "report",
    "time_runs",
    "to_json",
]


def check_ranges(args: argparse.Namespace, **ranges: tuple[float, float]) -> None:
    """Raise ParameterError for an option outside its range, which includes both ends. None is allowed."""
    for name, (low, high) in ranges.items():
        value = getattr(args, name)
        if value is not None and not low <= value <= high:  # also refuses nan
            raise ParameterError(f"--{name.replace('_', '-')}", value, f"{low:.12g} to {high:.12g}")


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of repeated runs of a function."""

    median_s: float
    p95_s: float
    runs: int


def time_runs(
    work: Callable[[], object], *, runs: int = 5, warm_up: int = 1, clock: Callable[[], float] = time.perf_counter
) -> Timing:
    """Time of ``work()``, after ``warm_up`` unmeasured runs.

    The default is wall time. ``time.process_time`` measures CPU seconds of the process, which hardly depend on the load
    of the machine. For one thread on an idle machine the two are equal. On a GPU ``work`` must synchronise.
    """
    for _ in range(warm_up):
        work()
    seconds = []
    for _ in range(runs):
        start = clock()
        work()
        seconds.append(clock() - start)
    seconds.sort()
    return Timing(statistics.median(seconds), seconds[min(len(seconds) - 1, int(0.95 * len(seconds)))], runs)


def environment(packages: Sequence[str] = ("torch", "numpy")) -> dict[str, Any]:
    """Machine, versions and commit, as JSON values."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "riffstream": __version__,
        "commit": _commit(),
        **{name: _version(name) for name in packages},
    }


def environment_lines(facts: Mapping[str, Any]) -> str:
    """The result of ``environment`` as a paragraph of Markdown."""
    load = "" if facts.get("load") is None else f", load {facts['load'][0]:g}"
    shown = {"date", "processor", "cores", "load", "system", "riffstream", "commit"}
    versions = ", ".join(f"{name} {value}" for name, value in facts.items() if name not in shown)
    return (
        f"{facts['date']}, {facts['processor']}, {facts['cores']} cores{load}, {facts['system']}; "
        f"riffstream {facts['riffstream']} ({facts['commit']}), {versions}."
    )


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; numbers keep three significant digits, None is an empty cell."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max([len(title), *(len(row[k]) for row in cells)]) for k, title in enumerate(header)]
    lines = [list(header), ["-" * width for width in widths], *cells]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def report(title: str, sections: Sequence[tuple[str, str]], facts: Mapping[str, Any]) -> str:
    """A Markdown page: title, machine, and heading and body of each section."""
    return "\n\n".join(
        [f"# {title}", environment_lines(facts), *(f"## {heading}\n\n{body}" for heading, body in sections)]
    )


def to_json(value: Any) -> str:
    """Indented JSON. A number that is not finite becomes null, because JSON has none."""
    return json.dumps(_finite(value), indent=1, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value)


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or "unknown processor"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    """The checkout's commit, marked as dirty if files differ from it; "installed" outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return "installed"
    try:
        found = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty"], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return found.stdout.strip() or "unknown"
