"""Distributions that the server measures while it runs."""

from __future__ import annotations

from dataclasses import dataclass, field

from prometheus_client import Histogram

__all__ = ["Meters"]


def _steers() -> Histogram:
    return Histogram(
        "riffstream_steer_to_air_seconds",
        "Time from a change's arrival to its first sample at the playhead.",
        buckets=(0.05, 0.1, 0.15, 0.2, 0.3, 0.45, 0.7, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0),
        registry=None,
    )


def _lag() -> Histogram:
    return Histogram(
        "riffstream_event_loop_lag_seconds",
        "Lateness of the event loop's wake-ups, one in 50 ms.",
        buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
        registry=None,
    )


@dataclass(frozen=True, slots=True)
class Meters:
    """The server's histograms, in seconds."""

    steer_to_air: Histogram = field(default_factory=_steers)
    loop_lag: Histogram = field(default_factory=_lag)
