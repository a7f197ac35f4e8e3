"""The benchmark of a relay compares the frames of a server and of a relay of it."""

from __future__ import annotations

import asyncio

import pytest

from riffstream.bench import relay_hop
from riffstream.bench.fan_out import FanOut, noise_server, started
from riffstream.bench.sinks import SinkReport


def test_every_frame_is_compared_and_none_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_hop, "LATENCY_S", 6.0)
    with started(noise_server, None) as (_, port):
        times = asyncio.run(relay_hop._latency(port, None))
    assert len(times.added_ms) > 10
    assert times.different == 0
    assert min(times.added_ms) > -50


def test_the_ratio_is_that_of_a_process_with_1000_listeners() -> None:
    def found(us: float, idle: float) -> FanOut:
        return FanOut(500, 10.0, us, idle, 128.0, 1.0, 2.0, SinkReport())

    hop = relay_hop.RelayHop(found(30, 20), found(30, 10), 1.0, 2.0, 3.0, 100, 0)
    assert hop.cpu_ratio == pytest.approx(40 / 50)
