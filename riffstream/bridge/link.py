"""Ableton Link: the station leads the tempo and the beat of a session, or follows its tempo.

Threading model
  One event loop; the library has its own threads and calls nothing here.
"""

from __future__ import annotations

import asyncio
from typing import Final

import aalink

from riffstream.bridge.beats import BeatClock
from riffstream.bridge.changes import Changes
from riffstream.ranges import RANGES

__all__ = ["follow", "lead", "open_link"]

LOOK_S: Final = 0.1
STEADY_S: Final = 0.5  # a tempo counts once it has not moved for this time
SAME_BPM: Final = 0.01
SAME_BEAT: Final = 0.02  # difference that is corrected: 10 ms at 120 bpm


def open_link(bpm: float) -> aalink.Link:
    """Join the session of this network. Needs a running event loop."""
    link = aalink.Link(bpm)
    link.enabled = True
    return link


async def lead(link: aalink.Link, clock: BeatClock) -> None:
    """Give the session the station's tempo, beat and bars until cancelled."""
    while True:
        beat = clock.beat()
        if beat is not None and clock.bpm:
            bar = clock.bar
            if link.quantum != bar.beats:
                link.quantum = bar.beats
            if abs(link.tempo - clock.bpm) > SAME_BPM:
                link.tempo = clock.bpm
            beat += bar.number * bar.beats - bar.line  # bars of the session begin at multiples of the quantum
            apart = (link.beat - beat + bar.beats / 2) % bar.beats - bar.beats / 2
            if abs(apart) > SAME_BEAT:
                link.force_beat(beat)
        await asyncio.sleep(LOOK_S)


async def follow(link: aalink.Link, clock: BeatClock, changes: Changes) -> None:
    """Steer the station to the session's tempo until cancelled. A session without peers has no tempo of its own."""
    rule = RANGES["bpm"]
    asked, seen, steady_s = 0.0, 0.0, 0.0
    while True:
        tempo = round(link.tempo, 2)
        steady_s = steady_s + LOOK_S if tempo == seen else 0.0
        seen = tempo
        new = abs(tempo - asked) > SAME_BPM and abs(tempo - (clock.bpm or 0)) > SAME_BPM
        if link.num_peers and steady_s >= STEADY_S and new and rule.low <= tempo <= rule.high:
            asked = tempo
            changes.put({"bpm": tempo, "at": "beat"})
        await asyncio.sleep(LOOK_S)
