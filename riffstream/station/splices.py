"""Where a change is spliced: where its take has to begin, and where both takes can meet on the beat.

Pure: functions of a program, its lead and a take. Nothing is scheduled here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from riffstream.protocol import SAMPLE_RATE
from riffstream.station.bridges import SILENCE_FADE
from riffstream.station.playout import PRIMER, Program
from riffstream.station.score import Change
from riffstream.station.take import Entry, Take

__all__ = ["Opening", "Splice", "aim", "find", "opening"]


@dataclass(frozen=True, slots=True)
class Opening:
    """How a take begins; as the arguments of :meth:`Take.open`."""

    beat: float
    clip_beat: float
    index: int
    reuse: list[Entry]


@dataclass(frozen=True, slots=True)
class Splice:
    """A take's ``local`` sample at station sample ``pos``, after its beats were counted ``late`` higher."""

    pos: int
    local: int
    fade: int
    late: int


def aim(program: Program, at: str, wait_s: float) -> int:
    """The sample where a change that takes ``wait_s`` to render is expected to begin."""
    soonest = program.mixer.earliest + round(wait_s * SAMPLE_RATE)
    lead = program.lead
    if lead is None or at == "asap" or program.frozen is not None:
        return soonest
    if at == "end":
        return max(soonest, lead.tape.end - program.offset - program.need)
    return round(program.where(program.grid(at, program.beat(soonest + program.fade)))) - program.fade


def opening(program: Program, change: Change, pos: int) -> Opening:
    """How the take of a change begins that is to be heard from station sample ``pos`` on.

    It goes on with the clip of the journey that plays then, unless the change names another; where only tempo or key
    change, with the very clips that are there.
    """
    info, lead = change.score.info, program.lead
    beat = program.beat(pos)
    clip_beat = float(math.floor(beat / info.beats_per_bar + 1e-6) * info.beats_per_bar)
    index = change.index
    reuse: list[Entry] = []
    entry = lead.entry(lead.beats.sample(beat)) if lead is not None else None
    if lead is not None and entry is not None and index is None:
        index = entry.index
        known = not lead.over and entry.beat <= beat < entry.beat + info.beats
        if change.kind == "vocoder" and known:
            reuse = [each for each in lead.entries if each.beat >= entry.beat]
            clip_beat = entry.beat
    return Opening(beat, clip_beat, index or 0, reuse)


def find(program: Program, take: Take, at: str, fade_s: float) -> Splice | None:
    """The earliest splice from the lead to a take that its audio allows; None while there is too little of it.

    Args:
        at: asap, beat, bar, clip, or end.
        fade_s: wish for a long crossfade; 0: the usual one.
    """
    lead = program.lead
    if lead is None:
        if take.tape.end < max(PRIMER, program.need):
            return None
        return Splice(program.mixer.earliest, 0, SILENCE_FADE, 0)
    fade = program.fade
    pos = program.mixer.earliest
    if at in ("beat", "bar", "clip"):
        beat = program.grid(at, max(program.beat(pos + fade), take.beats.beat(take.lead_in + fade)))
        pos = round(program.where(beat)) - fade
    elif at == "end" and not program.bridging:
        pos = max(pos, lead.tape.end - program.offset - 2 * fade)
    # Where it begins later than it could be heard, its own beginning decides.
    pos = max(pos, math.ceil(program.where(take.beats.beat(take.lead_in + fade))) - fade + 1)
    if fade_s * SAMPLE_RATE > fade and not program.bridging:
        left = lead.tape.end - program.offset - pos - 2 * fade
        fade = max(fade, min(round(fade_s * SAMPLE_RATE), left))
    place = program.fit(take, pos, program.fade, program.need + fade, take.lead_in)
    return None if place is None else Splice(pos, place[0], fade, place[1])
