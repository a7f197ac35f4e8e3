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
from riffstream.server.doorman import DOORMAN

__all__ = ["routes"]

routes = web.RouteTableDef()
PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


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
    yield from _metric("uptime_seconds", "gauge", {"": time.time() - context.started_at})
    yield from _metric("ready", "gauge", {"": float(context.hub.ready)})
    yield from _metric("connections", "gauge", {"": context.connections.open})
    yield from _metric("resident_bytes", "gauge", {"": resident_bytes()})
    yield from _metric("cpu_seconds_total", "counter", {"": time.process_time()})
    yield from _metric(
        "loop_lag_seconds", "gauge", {'stat="p95"': context.lag.p95_ms / 1000, 'stat="max"': context.lag.max_ms / 1000}
    )
    yield from _metric("turned_away_total", "counter", {"": app[DOORMAN].turned_away})
    for name, count in sorted(context.counters.items()):
        yield from _metric(f"{name}_total", "counter", {"": count})
    generator = context.hub.health().get("generator", {})
    for name, value in sorted(_numbers(generator).items()):
        yield from _metric(f"generator_{name}", "gauge", {"": value})
    rooms = dict(context.rooms)
    labels = {name: f'station="{name}"' for name in rooms}
    yield from _metric("listeners", "gauge", {labels[name]: room.listeners for name, room in rooms.items()})
    yield from _metric("joined_total", "counter", {labels[name]: room.joined_total for name, room in rooms.items()})
    stats = {name: room.stats() for name, room in rooms.items()}
    for key in ("frames", "deliveries", "bytes", "skips", "skipped_frames", "closed_slow"):
        yield from _metric(f"{key}_total", "counter", {labels[name]: getattr(stats[name], key) for name in rooms})
    values: dict[str, dict[str, float]] = {}
    for name, room in rooms.items():
        for key, value in _numbers(room.station.stats()).items():
            values.setdefault(key, {})[labels[name]] = value
    for key in sorted(values):
        yield from _metric(f"station_{key}", "gauge", values[key])


def _metric(name: str, kind: str, samples: Mapping[str, float]) -> Iterator[str]:
    if samples:
        yield f"# TYPE riffstream_{name} {kind}"
    for labels, value in samples.items():
        yield f"riffstream_{name}{{{labels}}} {value:.12g}" if labels else f"riffstream_{name} {value:.12g}"


def _numbers(figures: Mapping[str, Any]) -> dict[str, float]:
    """Those figures that are numbers or yes and no."""
    return {key: float(value) for key, value in figures.items() if isinstance(value, int | float)}
