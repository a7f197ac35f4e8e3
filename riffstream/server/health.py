"""``/healthz``, ``/readyz`` and ``/metrics`` (Prometheus text format, version 0.0.4)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

from riffstream import __version__
from riffstream.server.context import CONTEXT
from riffstream.server.header_timeout import HEADER_TIMEOUT

__all__ = ["routes"]

routes = web.RouteTableDef()
PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
# Export every counter at 0 from the start, or Prometheus misses its first increase.
COUNTED = {
    "client_underruns": "Underruns reported by listeners.",
    "errors": "Requests that failed because of an internal error.",
    "refused": "Connections refused: wrong token, or full.",
    "rejected": "Rejected messages of clients.",
    "steers": "Accepted steer and transport messages.",
    "uploads": "Seed images uploaded.",
}
# Counters among the values of stations and generator; the other values are gauges.
RISING = {
    "generator_restarts": "Generator processes started after the first.",
    "station_clock_jumps": "Clock jumps (suspended machine) after which a station continued from the new time.",
    "station_committed_s": "Seconds of committed audio.",
    "station_faults": "Failed steps of the station that were tried again.",
    "station_late": "Clips requested with fewer steps because audio ran short.",
    "station_repeats": "Repeats of the last clip because the next one was late.",
    "station_splices": "Takes that became audible.",
    "station_underruns": "Times without audio to play or repeat.",
}


@routes.get("/healthz")
async def healthz(request: web.Request) -> web.Response:
    """Answer 200 while the event loop runs."""
    return web.json_response({"status": "ok", "version": __version__})


@routes.get("/readyz")
async def readyz(request: web.Request) -> web.Response:
    """Answer 200 when the generator is warmed up and the server is not shutting down; otherwise 503 with the reason."""
    context = request.app[CONTEXT]
    reason = "draining" if context.draining else None if context.hub.ready else "the model is loading"
    if reason is None:
        return web.json_response({"status": "ready"})
    return web.json_response({"status": "not ready", "reason": reason}, status=503, headers={"Retry-After": "2"})


@routes.get("/metrics")
async def metrics(request: web.Request) -> web.Response:
    """Send all metrics."""
    body = "\n".join(_lines(request.app)) + "\n"
    return web.Response(text=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


def resident_bytes() -> int:
    """Resident memory of this process in bytes; 0 if the system does not report it."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE
    except (OSError, IndexError, ValueError):
        return 0


def _lines(app: web.Application) -> Iterator[str]:
    context = app[CONTEXT]
    yield from _metric("uptime_seconds", {"": time.time() - context.started_at}, "Time since the start.")
    yield from _metric("ready", {"": float(context.hub.ready)}, "1 once the generator is warmed up.")
    yield from _metric("connections", {"": context.connections.open}, "Open connections of listeners and sockets.")
    yield from _metric("resident_bytes", {"": resident_bytes()}, "Resident memory of the server's process.")
    yield from _metric("cpu_seconds_total", {"": time.process_time()}, "CPU time of the server's process.")
    lag = {'stat="p95"': context.lag.p95_ms / 1000, 'stat="max"': context.lag.max_ms / 1000}
    yield from _metric("loop_lag_seconds", lag, "Lateness of the event loop in the last minute.")
    turned_away = {"": app[HEADER_TIMEOUT].turned_away}
    yield from _metric("turned_away_total", turned_away, "Connections closed by the header timeout.")
    for name in sorted(COUNTED.keys() | context.counters):
        yield from _metric(f"{name}_total", {"": context.counters[name]}, COUNTED.get(name, ""))
    reasons = {f'reason="{reason}"': count for reason, count in context.disconnected.items()}
    yield from _metric("disconnected_total", reasons, "Connections dropped by the server.")
    for name, value in sorted(_numbers(context.hub.health().get("generator", {})).items()):
        yield from _figure(f"generator_{name}", {"": value})
    listed = context.listed_stations()
    private = len(context.hub.stations) - len(listed)
    yield from _metric("private_stations", {"": private}, "Private stations, which no other metric includes.")
    broadcasts = {name: broadcast for name, broadcast in context.broadcasts.items() if name in listed}
    labels = {name: f'station="{name}"' for name in broadcasts}
    yield from _metric(
        "listeners", {labels[name]: broadcast.listeners for name, broadcast in broadcasts.items()}, "Listeners now."
    )
    yield from _metric("joined_total", {labels[name]: broadcast.joined_total for name, broadcast in broadcasts.items()})
    stats = {name: broadcast.stats() for name, broadcast in broadcasts.items()}
    for key in ("frames", "deliveries", "bytes", "skips", "skipped_frames", "closed_slow"):
        yield from _metric(f"{key}_total", {labels[name]: getattr(stats[name], key) for name in broadcasts})
    values: dict[str, dict[str, float]] = {}
    for name, broadcast in broadcasts.items():
        for key, value in _numbers(broadcast.station.stats()).items():
            values.setdefault(key, {})[labels[name]] = value
    for key in sorted(values):
        yield from _figure(f"station_{key}", values[key])


def _figure(name: str, samples: Mapping[str, float]) -> Iterator[str]:
    yield from _metric(name, samples, RISING.get(name, ""), "counter" if name in RISING else "gauge")


def _metric(name: str, samples: Mapping[str, float], about: str = "", kind: str = "") -> Iterator[str]:
    """Lines of a metric family. Without ``kind``, names ending in ``_total`` are counters, others gauges."""
    if samples:
        if about:
            yield f"# HELP riffstream_{name} {about}"
        yield f"# TYPE riffstream_{name} {kind or ('counter' if name.endswith('_total') else 'gauge')}"
    for labels, value in samples.items():
        yield f"riffstream_{name}{{{labels}}} {value:.12g}" if labels else f"riffstream_{name} {value:.12g}"


def _numbers(figures: Mapping[str, Any]) -> dict[str, float]:
    """The values that are numbers or booleans."""
    return {key: float(value) for key, value in figures.items() if isinstance(value, int | float)}
