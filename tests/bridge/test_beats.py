"""Bars of a bridge: they follow the metre of the audible music, and nothing else."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from riffstream.bridge.beats import Bar, BeatClock
from riffstream.bridge.midi import MidiClock
from riffstream.protocol import SAMPLE_RATE, Now, Prompt, State


class FakeRadio:
    """What a BeatClock reads of a connection."""

    def __init__(self) -> None:
        self.state = State(prompts=(Prompt(text="a"),), seed=0, bpm=240.0, beats_per_bar=3)


def now(second: float, beat: float, bar_beat: float, metre: int, *, bar: int = 0, bpm: float | None = 240.0) -> Now:
    state = State(prompts=(Prompt(text="a"),), seed=0, bpm=bpm, beats_per_bar=metre)
    pos = round(second * SAMPLE_RATE)
    return Now(rev=1, sample_pos=pos, state=state, alpha=0, clip=0, beat=beat, bar=bar, bar_beat=bar_beat)


def clock_at(second: float) -> BeatClock:
    """A clock whose station is at ``second`` at present."""
    clock = BeatClock(FakeRadio())  # type: ignore[arg-type]
    clock._readings = [(0.0, second - time.monotonic())]
    return clock


def test_the_metre_is_the_stations_before_its_first_position() -> None:
    assert clock_at(0).bar == Bar(0, 0, 3)


def test_a_change_of_the_metre_counts_from_its_bar_line_on() -> None:
    clock = clock_at(10.0)
    clock.hear(now(9.0, 12.5, 0.5, 4, bar=3))
    assert clock.bar == Bar(12, 3, 4)
    clock.hear(now(9.5, 20.0, 0.0, 3, bar=5))
    assert clock.bar == Bar(20, 5, 3)


def test_a_position_counts_from_its_sample_on() -> None:
    """The server sends it before it is audible."""
    clock = clock_at(10.0)
    clock.hear(now(9.9, 12.0, 0.0, 4))
    clock.hear(now(10.25, 13.0, 0.0, 3, bpm=60.0))
    assert (clock.bpm, clock.bar.beats) == (240.0, 4)
    assert clock.beat() == pytest.approx(12.4, abs=0.1)
    time.sleep(0.3)
    assert (clock.bpm, clock.bar.beats) == (60.0, 3)
    assert clock.beat() == pytest.approx(13.05, abs=0.1)


def test_a_restarted_server_begins_anew() -> None:
    clock = clock_at(10.0)
    clock.hear(now(9000.0, 500.0, 0.0, 4))
    clock.hear(now(9.0, 2.0, 2.0, 3))
    assert clock.bar == Bar(0, 0, 3)


async def test_midi_starts_at_a_line_of_the_live_metre() -> None:
    """Bars of three whose line is no multiple of three or four: beats 10, 13, 16."""
    clock, sent = clock_at(0.0), []

    class Port:
        def send(self, message: Any) -> None:
            sent.append((message.type, clock.beat()))

    clock.hear(now(0.0, 11.0, 1.0, 3))
    task = asyncio.create_task(MidiClock(Port()).run(clock))
    await asyncio.sleep(1.2)  # 240 beats a minute: to beat 15.8
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    started = [beat for kind, beat in sent if kind == "start"]
    assert started == [pytest.approx(13.0, abs=0.5)]
