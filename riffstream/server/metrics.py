"""The server's metrics for Prometheus, collected when ``/metrics`` is asked for."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from riffstream import __version__
from riffstream.server.context import Context
from riffstream.server.header_timeout import HeaderTimeout

__all__ = ["ServerMetrics", "resident_bytes"]

PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
# Every counter is exported at 0 from the start, or Prometheus misses its first increase.
COUNTED = {
    "client_underruns": "Underruns reported by listeners.",
    "errors": "Requests that failed because of an internal error.",
    "refused": "Connections refused: wrong token, or full.",
    "rejected": "Rejected messages of clients.",
    "steers": "Accepted steer and transport messages.",
    "uploads": "Seed images uploaded.",
}
DELIVERED = {
    "frames": "Audio frames made.",
    "deliveries": "Frames written to listeners.",
    "bytes": "Bytes written to listeners.",
    "skips": "Times that a listener lost audio because it read too slowly.",
    "skipped_frames": "Frames that slow listeners did not get.",
    "closed_slow": "Listeners closed because they read too slowly.",
}
PUSHED = {  # key of a push's figures -> name, and what it counts
    "bytes": ("push_bytes", "Bytes sent to the other server."),
    "connects": ("push_connects", "Connections that the other server accepted."),
    "failures": ("push_failures", "Connections that were refused or lost."),
    "dropped_s": ("push_dropped_seconds", "Audio dropped because the other server was too slow."),
}
HOOKED = {
    "waiting": "Messages in the queue.",
    "delivered": "Messages delivered.",
    "failures": "Failed attempts.",
    "dropped": "Messages that were never delivered.",
}
# Values of stations and generator that rise; the others are gauges.
RISING = {
    "generator_restarts": "Generator processes started after the first.",
    "station_clock_jumps": "Clock jumps (suspended machine) after which a station continued from the new time.",
    "station_committed_seconds": "Committed audio.",
    "station_faults": "Failed steps of the station that were tried again.",
    "station_late": "Clips requested with fewer steps because audio ran short.",
    "station_repeats": "Repeats of the last clip because the next one was late.",
    "station_splices": "Takes that became audible.",
    "station_underruns": "Times without audio to play or repeat.",
    "station_upstream_bytes": "Audio received from the server behind this relay, bytes.",
    "station_upstream_connects": "Connections made to the server behind this relay.",
    "station_upstream_skips": "Times that audio of the server behind this relay was missing.",
}
# Names and units of values that have others inside the program.
RENAMED = {
    "generator_load_s": ("generator_load_seconds", 1.0),
    "generator_rss_mb": ("generator_resident_bytes", 1e6),
    **{
        f"station_change_{stage}_s": (f"station_change_{stage}_seconds", 1.0)
        for stage in ("queue", "text", "denoise", "decode", "vocode")
    },
    "station_clip_s": ("station_clip_seconds", 1.0),
    "station_committed_s": ("station_committed_seconds", 1.0),
    "station_first_audio_s": ("station_first_audio_seconds", 1.0),
    "station_horizon_s": ("station_buffer_ahead_seconds", 1.0),
    "station_upstream_ahead_s": ("station_upstream_ahead_seconds", 1.0),
    "station_upstream_round_trip_s": ("station_upstream_round_trip_seconds", 1.0),
}
ABOUT = {
    "generator_load_seconds": "Time that the model took to load.",
    "generator_pending": "Jobs that wait in the generator.",
    "generator_pid": "Process number of the generator.",
    "generator_resident_bytes": "Resident memory of the generator's process.",
    "station_asleep": "1 while a station without listeners rests.",
    "station_buffer_ahead_seconds": "Rendered audio after the playhead.",
    "station_change_decode_seconds": "Last change: decoding of its first audio.",
    "station_change_denoise_seconds": "Last change: evaluations of the network before its first audio.",
    "station_change_queue_seconds": "Last change: wait for other work in the generator.",
    "station_change_text_seconds": "Last change: encoding of its text and seed image.",
    "station_change_vocode_seconds": "Last change: vocoder before its first audio.",
    "station_clip_seconds": "Time from a clip's request to its last sample, smoothed.",
    "station_effort_level": "Rung of the ladder of quality; 0: full quality.",
    "station_first_audio_seconds": "Time from a clip's request to its first samples, smoothed.",
    "station_listeners": "Listeners as the station counts them.",
    "station_outlets": "Running encoders.",
    "station_rev": "Revision of the station.",
    "station_upstream_ahead_seconds": "Received audio after the audible position; below 0: audio is missing.",
    "station_upstream_connected": "1 while the server behind this relay is connected.",
    "station_upstream_round_trip_seconds": "Time of a request to the server behind this relay, smoothed.",
}


def resident_bytes() -> int:
    """Resident memory of this process in bytes; 0 if the system does not report it."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE
    except (OSError, IndexError, ValueError):
        return 0


class ServerMetrics(Collector):
    """Collector of one server's metrics.

    Args:
        context: state of the server.
        headers: the timeout of slow requests.
    """

    def __init__(self, context: Context, headers: HeaderTimeout) -> None:
        self._context = context
        self._headers = headers

    def collect(self) -> Iterator[Metric]:
        """All metric families of this moment."""
        context = self._context
        build = GaugeMetricFamily("riffstream_build_info", "Version of the server.", labels=["version"])
        build.add_metric([__version__], 1)
        yield build
        yield _gauge("uptime_seconds", "Time since the start.", time.time() - context.started_at)
        yield _gauge("ready", "1 once the generator is warmed up.", float(context.hub.ready))
        yield _gauge("connections", "Open connections of listeners and sockets.", context.connections.open)
        yield _gauge("resident_bytes", "Resident memory of the server's process.", resident_bytes())
        yield _counter("cpu_seconds", "CPU time of the server's process.", time.process_time())
        lag = GaugeMetricFamily("riffstream_loop_lag_seconds", "Loop lag in the last minute.", labels=["stat"])
        lag.add_metric(["p95"], context.lag.p95_ms / 1000)
        lag.add_metric(["max"], context.lag.max_ms / 1000)
        yield lag
        for histogram in (context.meters.steer_to_air, context.meters.loop_lag):
            yield from histogram.collect()
        yield _counter("turned_away", "Connections closed by the header timeout.", self._headers.turned_away)
        for name in sorted(COUNTED.keys() | context.counters):
            yield _counter(name, COUNTED.get(name, "Events of this kind."), context.counters[name])
        reasons = CounterMetricFamily(
            "riffstream_disconnected", "Connections dropped by the server.", labels=["reason"]
        )
        for reason, count in context.disconnected.items():
            reasons.add_metric([reason], count)
        yield reasons
        for name, value in sorted(_numbers(context.hub.health().get("generator", {})).items()):
            yield _figure(f"generator_{name}", {None: value})
        yield from self._stations()
        yield from self._pushes()
        yield from self._webhooks()
        yield from self._archive()

    def _webhooks(self) -> Iterator[Metric]:
        if not self._context.webhooks:
            return
        for key, about in HOOKED.items():
            kind: Any = GaugeMetricFamily if key == "waiting" else CounterMetricFamily
            family = kind(f"riffstream_webhook_{key}", about, labels=["webhook"])
            for name, hook in self._context.webhooks.items():
                family.add_metric([name], hook.figures()[key])
            yield family

    def _archive(self) -> Iterator[Metric]:
        archive = self._context.archive
        if archive is None:
            return
        figures = archive.figures()
        yield _gauge("archive_recording", "1 while the archive is written.", float(figures["state"] == "recording"))
        yield _gauge("archive_bytes", "Size of the archive.", figures["bytes"])
        yield _counter("archive_written_seconds", "Archived audio.", figures["written_s"])
        yield _counter("archive_lost_seconds", "Audio that could not be archived.", figures["lost_s"])
        yield _counter("archive_failures", "Times that writing the archive failed.", figures["failures"])

    def _pushes(self) -> Iterator[Metric]:
        connected = GaugeMetricFamily(
            "riffstream_push_connected", "1 while the other server takes the stream.", labels=["push"]
        )
        counters = {
            key: CounterMetricFamily(f"riffstream_{name}", about, labels=["push"])
            for key, (name, about) in PUSHED.items()
        }
        for name, push in self._context.pushes.items():
            figures = push.figures()
            connected.add_metric([name], float(push.state == "connected"))
            for key, family in counters.items():
                family.add_metric([name], figures[key])
        if self._context.pushes:
            yield connected
            yield from counters.values()

    def _stations(self) -> Iterator[Metric]:
        context = self._context
        listed = context.listed_stations()
        private = len(context.hub.stations) - len(listed)
        yield _gauge("private_stations", "Private stations, which no other metric includes.", private)
        broadcasts = {name: broadcast for name, broadcast in context.broadcasts.items() if name in listed}
        each = broadcasts.items()
        yield _by_station(GaugeMetricFamily, "listeners", "Listeners now.", ((n, b.listeners) for n, b in each))
        yield _by_station(
            CounterMetricFamily, "joined", "Listeners since the start.", ((n, b.joined_total) for n, b in each)
        )
        yield _by_station(
            CounterMetricFamily, "listener_seconds", "Time listened by all.", ((n, b.listened_s) for n, b in each)
        )
        stats = {name: broadcast.stats() for name, broadcast in each}
        for key, about in DELIVERED.items():
            yield _by_station(CounterMetricFamily, key, about, ((n, getattr(s, key)) for n, s in stats.items()))
        values: dict[str, dict[str | None, float]] = {}
        for name, broadcast in each:
            for key, value in _numbers(broadcast.station.stats()).items():
                values.setdefault(key, {})[name] = value
        for key in sorted(values):
            yield _figure(f"station_{key}", values[key])


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(f"riffstream_{name}", about, value=value)


def _counter(name: str, about: str, value: float) -> Metric:
    return CounterMetricFamily(f"riffstream_{name}", about, value=value)


def _by_station(kind: Any, name: str, about: str, values: Iterable[tuple[str, float]]) -> Metric:
    family: Metric = kind(f"riffstream_{name}", about, labels=["station"])
    for station, value in values:
        family.add_metric([station], value)  # type: ignore[attr-defined]
    return family


def _figure(key: str, values: Mapping[str | None, float]) -> Metric:
    """Family of a value of stations (labelled) or of the generator (without a label: None)."""
    name, factor = RENAMED.get(key, (key, 1.0))
    kind: Any = CounterMetricFamily if name in RISING else GaugeMetricFamily
    about = RISING.get(name) or ABOUT.get(name, "See docs/station.md.")
    scaled = {station: value * factor for station, value in values.items()}
    if None in scaled:
        family: Metric = kind(f"riffstream_{name}", about, value=scaled[None])
        return family
    return _by_station(kind, name, about, ((str(station), value) for station, value in scaled.items()))


def _numbers(figures: Mapping[str, Any]) -> dict[str, float]:
    """The values that are numbers or booleans."""
    return {key: float(value) for key, value in figures.items() if isinstance(value, int | float)}
