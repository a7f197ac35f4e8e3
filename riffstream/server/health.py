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
# What the server counts, told from nought on: a counter that is absent until it first counts hides its first rise.
COUNTED = {
    "client_underruns": "Underruns that listeners reported.",
    "errors": "Requests that failed by a fault of the server.",
    "refused": "Connections refused: wrong token, or full.",
    "rejected": "Messages of clients that were rejected.",
    "steers": "Steers and transport messages taken.",
    "uploads": "Seed images uploaded.",
}
# Of a station's or the generator's figures those that only rise; the others are gauges.
RISING = {
    "generator_restarts": "Generator processes started after the first.",
    "station_clock_jumps": "Leaps of the clock (a machine that slept) after which a station began anew.",
    "station_committed_s": "Seconds of audio that the station has made final.",
    "station_faults": "Steps of the station that failed and were tried again.",
    "station_late": "Clips asked for with fewer steps because audio ran short.",
    "station_repeats": "Times that the last clip was repeated for want of a new one.",
    "station_splices": "Takes that began to sound: changes, and new beginnings.",
    "station_underruns": "Times that there was nothing to play and nothing to repeat.",
}


@routes.get("/healthz")
async def healthz(request: web.Request) -> web.Response:
    """200 while the event loop turns."""
    return web.json_response({"status": "ok", "version": __version__})


@routes.get("/readyz")
async def readyz(request: web.Request) -> web.Response:
    """200 when the generator is warm and the server is staying; 503 otherwise, with the reason."""
    context = request.app[CONTEXT]
    reason = "draining" if context.draining else None if context.hub.ready else "the model is loading"
    if reason is None:
        return web.json_response({"status": "ready"})
    return web.json_response({"status": "not ready", "reason": reason}, status=503, headers={"Retry-After": "2"})


@routes.get("/metrics")
async def metrics(request: web.Request) -> web.Response:
    """Everything that is counted."""
    body = "\n".join(_lines(request.app)) + "\n"
    return web.Response(text=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


def resident_bytes() -> int:
    """Memory of this process that is resident; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE
    except (OSError, IndexError, ValueError):
        return 0


def _lines(app: web.Application) -> Iterator[str]:
    context = app[CONTEXT]
    yield from _metric("uptime_seconds", {"": time.time() - context.started_at}, "Time since the start.")
    yield from _metric("ready", {"": float(context.hub.ready)}, "1 once the generator is warm.")
    yield from _metric("connections", {"": context.connections.open}, "Open connections that listen or steer.")
    yield from _metric("resident_bytes", {"": resident_bytes()}, "Resident memory of the server's process.")
    yield from _metric("cpu_seconds_total", {"": time.process_time()}, "CPU time of the server's process.")
    lag = {'stat="p95"': context.lag.p95_ms / 1000, 'stat="max"': context.lag.max_ms / 1000}
    yield from _metric("loop_lag_seconds", lag, "Lateness of the event loop in the last minute.")
    turned_away = {"": app[HEADER_TIMEOUT].turned_away}
    yield from _metric("turned_away_total", turned_away, "Connections closed for slow requests.")
    for name in sorted(COUNTED.keys() | context.counters):
        yield from _metric(f"{name}_total", {"": context.counters[name]}, COUNTED.get(name, ""))
    reasons = {f'reason="{reason}"': count for reason, count in context.disconnected.items()}
    yield from _metric("disconnected_total", reasons, "Connections that the server dropped.")
    for name, value in sorted(_numbers(context.hub.health().get("generator", {})).items()):
        yield from _figure(f"generator_{name}", {"": value})
    listed = context.listed_stations()
    private = len(context.hub.stations) - len(listed)
    yield from _metric("private_stations", {"": private}, "Private stations; no other figure has them.")
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
    """A family of samples; without a ``kind``, what ends in ``_total`` is a counter and all else a gauge."""
    if samples:
        if about:
            yield f"# HELP riffstream_{name} {about}"
        yield f"# TYPE riffstream_{name} {kind or ('counter' if name.endswith('_total') else 'gauge')}"
    for labels, value in samples.items():
        yield f"riffstream_{name}{{{labels}}} {value:.12g}" if labels else f"riffstream_{name} {value:.12g}"


def _numbers(figures: Mapping[str, Any]) -> dict[str, float]:
    """Those figures that are numbers or yes and no."""
    return {key: float(value) for key, value in figures.items() if isinstance(value, int | float)}
