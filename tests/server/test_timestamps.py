"""Timestamps of every codec, for minutes here and for a day by ``python -m tests.timestamps``."""

from __future__ import annotations

import pytest

from riffstream.protocol import Flags, join_packets
from riffstream.station.outlet import Chunk
from tests.timestamps import CODECS, Listener, measure

HOURS = 0.05


@pytest.mark.parametrize("codec", CODECS)
async def test_no_timestamp_leaves_the_sample_clock(codec: str) -> None:
    """A day has 480 times as many samples, and the largest allowed difference is 1 ms."""
    drift = await measure(codec, HOURS)
    assert drift.worst.pop("HLS playlist", 0) * 24 / HOURS < 48, "the sum of the playlist's durations"
    assert set(drift.worst.values()) == {0}, drift.worst


async def test_the_measure_sees_a_frame_that_is_missing() -> None:
    listener = Listener("opus")
    for number in (0, 1, 3):
        listener.take(Chunk(number * 960, 960, 0, Flags.NONE, join_packets([b"x"])))
    assert listener.drift.milliseconds == 20
