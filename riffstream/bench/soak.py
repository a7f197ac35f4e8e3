"""A long run of a real server with a steer every few seconds: underruns, gaps, delays, and memory per minute."""

from __future__ import annotations

import asyncio
import math
import os
import statistics
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from riffstream.bench.common import to_json
from riffstream.bench.live import SteerDelays, known, steer_delays

__all__ = ["Sample", "Soak", "resident_mb", "soak", "write_json"]

SETTLED_S: Final = 300.0  # memory must be flat from this time on
EVERY_S: Final = 5.0  # interval between memory samples
AROUND_S: Final = 30.0  # window of the median of memory: buffers in transit fluctuate


@dataclass(frozen=True, slots=True)
class Sample:
    """Resident memory in megabytes (10**6 bytes) at a time after the start."""

    at_s: float
    server_mb: float
    generator_mb: float

    @property
    def total_mb(self) -> float:
        """Sum of both processes."""
        return self.server_mb + self.generator_mb


@dataclass(slots=True)
class Soak:
    """A long run.

    Attributes:
        seconds: planned duration in seconds.
        delays: delays of the steers, with underruns and gaps at the listener.
        station_underruns: underruns in the server's metrics.
        repeats: repeats in the server's metrics.
        late: clips with fewer steps in the server's metrics.
        restarts: restarts in the server's metrics.
        blind: number of failed requests for the server's metrics.
        samples: memory over time.
        complete: whether the run reached its end.
        error: reason for an early end; otherwise empty.
    """

    seconds: float
    delays: SteerDelays = field(default_factory=SteerDelays)
    station_underruns: int = 0
    repeats: int = 0
    late: int = 0
    restarts: int = 0
    blind: int = 0
    samples: list[Sample] = field(default_factory=list)
    complete: bool = False
    error: str = ""

    @property
    def settled_s(self) -> float:
        """Start of the memory check in seconds: minute 5, or half of a run of less than ten minutes."""
        return min(SETTLED_S, self.seconds / 2)

    def around(self, at_s: float) -> Sample | None:
        """Median memory around a time; None without samples."""
        near = [each for each in self.samples if abs(each.at_s - at_s) <= AROUND_S / 2 and each.generator_mb]
        if not near:
            return None
        server, generator = (statistics.median(getattr(each, name) for each in near) for name in _PROCESSES)
        return Sample(at_s, server, generator)

    @property
    def minutes(self) -> list[Sample]:
        """Memory at every minute."""
        last = self.samples[-1].at_s if self.samples else 0.0
        found = [self.around(60.0 * minute) for minute in range(1, int(last // 60) + 1)]
        return [each for each in found if each is not None]

    @property
    def growth_percent(self) -> float:
        """Growth of memory from the start of the check to the end; nan before the check."""
        end = self.samples[-1].at_s - AROUND_S / 2 if self.samples else 0.0
        first, last = self.around(self.settled_s), self.around(end)
        if first is None or last is None or last.at_s <= first.at_s:
            return math.nan
        return 100 * (last.total_mb / first.total_mb - 1)

    @property
    def slope_mb_per_hour(self) -> float:
        """Least-squares slope of both processes together since the start of the check; nan before it."""
        settled = [each for each in self.samples if each.at_s >= self.settled_s and each.generator_mb]
        if len(settled) < 3:
            return math.nan
        fit = statistics.linear_regression([each.at_s for each in settled], [each.total_mb for each in settled])
        return float(fit.slope * 3600)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; None for unknown values."""
        delays = self.delays
        return {
            "seconds": self.seconds,
            "complete": self.complete,
            "error": self.error,
            "ran_s": round(self.samples[-1].at_s, 1) if self.samples else 0.0,
            "played_s": round(delays.played_s, 1),
            **delays.to_dict(),
            "station_underruns": self.station_underruns,
            "repeats": self.repeats,
            "late": self.late,
            "restarts": self.restarts,
            "blind": self.blind,
            "settled_s": self.settled_s,
            "growth_percent": known(self.growth_percent, 2),
            "slope_mb_per_hour": known(self.slope_mb_per_hour, 2),
            "rss_mb": [
                {
                    "minute": round(each.at_s / 60),
                    "server": round(each.server_mb, 1),
                    "generator": round(each.generator_mb, 1),
                }
                for each in self.minutes
            ],
        }


_PROCESSES: Final = ("server_mb", "generator_mb")


async def soak(
    url: str, pid: int, seconds: float, *, every_s: float = 5.0, told: Callable[[Soak], None] | None = None
) -> Soak:
    """Play and steer for ``seconds`` and record memory and underruns.

    Args:
        pid: process id of the server; its metrics name the generator's.
        every_s: interval between steers in seconds.
        told: called every minute and at the end with the results so far.

    An aborted run is also returned, with ``error`` set.
    """
    result = Soak(seconds)
    watching = asyncio.create_task(_watch(result, url, pid, told))
    try:
        await steer_delays(url, max(1, int(seconds / every_s)), every_s, result=result.delays, limit_s=seconds)
        result.complete = True
    except Exception as error:  # keep the figures of hours despite the error
        result.error = f"{type(error).__name__}: {error}"
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    if told is not None:
        told(result)
    return result


async def _watch(result: Soak, url: str, pid: int, told: Callable[[Soak], None] | None) -> None:
    began = time.monotonic()
    minute = 0
    while True:
        at = time.monotonic() - began
        try:
            figures = await asyncio.to_thread(_metrics, url)
        except (OSError, ValueError):
            result.blind += 1
        else:
            generator = int(figures.get("riffstream_generator_pid", 0))
            result.samples.append(Sample(at, resident_mb(pid), resident_mb(generator) if generator else 0.0))
            for name in ("underruns", "repeats", "late"):
                value = sum(v for key, v in figures.items() if key.startswith(f"riffstream_station_{name}_total{{"))
                setattr(result, "station_underruns" if name == "underruns" else name, int(value))
            result.restarts = int(figures.get("riffstream_generator_restarts_total", 0))
        if told is not None and at // 60 > minute:
            minute = int(at // 60)
            told(result)
        await asyncio.sleep(max(0.1, EVERY_S - (time.monotonic() - began - at)))


def _metrics(url: str) -> dict[str, float]:
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
        lines: Sequence[str] = answer.read().decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def resident_mb(pid: int) -> float:
    """Resident memory of a process in megabytes; 0 if it cannot be read."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except (OSError, ValueError, IndexError):
        return 0.0


def write_json(path: Path, value: Any) -> None:
    """Write a file atomically."""
    part = path.with_name(path.name + ".part")
    part.write_text(to_json(value) + "\n", encoding="utf-8")
    part.replace(path)
