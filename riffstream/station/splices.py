"""Splice positions: the start of a new take, and the meeting point of both takes on the beat.

Pure functions of a playout, its lead and a take. Nothing is scheduled here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from riffstream.protocol import SAMPLE_RATE
from riffstream.station.asked import bars_in_clip
from riffstream.station.bridges import SILENCE_FADE
from riffstream.station.playout import PRIMER, Playout
from riffstream.station.score import Change
from riffstream.station.take import Entry, Take

__all__ = ["Opening", "Splice", "aim", "find", "opening"]


@dataclass(frozen=True, slots=True)
class Opening:
    """Start position of a take.

    Attributes:
        beat, clip_beat, index, reuse, bar: arguments of :meth:`Take.open`.
        row_bar: bar at which new chords begin: the next one if more than half of the bar has passed.
        moved: bars by which the new take counts higher than the lead.
    """

    beat: float
    clip_beat: float
    index: int
    reuse: list[Entry]
    bar: int = 0
    row_bar: int = 0
    moved: int = 0


@dataclass(frozen=True, slots=True)
class Splice:
    """A meeting point of two takes.

    Attributes:
        pos: station sample at which the crossfade begins.
        local: local sample of the new take at ``pos``.
        fade: length of the crossfade in samples.
        late: beats to add to the new take's count, because it is late.
    """

    pos: int
    local: int
    fade: int
    late: int


def aim(playout: Playout, at: str, wait_s: float) -> int:
    """Expected station sample of a change that takes ``wait_s`` seconds to render."""
    soonest = playout.mixer.earliest + round(wait_s * SAMPLE_RATE)
    lead = playout.lead
    if lead is None or at == "asap" or playout.frozen is not None:
        return soonest
    if at == "end":
        return max(soonest, lead.tape.end - playout.offset - playout.need)
    return round(playout.where(playout.grid(at, playout.beat(soonest + playout.fade)))) - playout.fade


def opening(playout: Playout, change: Change, pos: int) -> Opening:
    """Start position of the new take for a change that becomes audible at station sample ``pos``.

    The take continues with the current clip of the journey, unless the change names another one. A change of tempo or
    key reuses the existing clips.
    """
    info, lead = change.score.info, playout.lead
    beat = playout.beat(pos)
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
    if change.index is None and lead is not None:  # the form continues
        bar = lead.bar(clip_beat)
        index = index if reuse or index is None else change.score.index_at(bar, index)
    else:
        bar = (index or 0) * bars_in_clip(info)
    inside = (playout.beat(pos + playout.fade) - clip_beat) / info.beats_per_bar
    moved = 0 if lead is None else bar - lead.bar(clip_beat)
    return Opening(beat, clip_beat, index or 0, reuse, bar, bar + math.floor(inside + 0.49), moved)


def find(playout: Playout, take: Take, at: str, fade_s: float) -> Splice | None:
    """Earliest possible splice from the lead to a take; None while the take has too little audio.

    Args:
        at: asap, beat, bar, clip, or end.
        fade_s: length of a long crossfade in seconds; 0: the default crossfade.
    """
    lead = playout.lead
    if lead is None:
        if take.tape.end < max(PRIMER, playout.need):
            return None
        return Splice(playout.mixer.earliest, 0, SILENCE_FADE, 0)
    fade = playout.fade
    pos = playout.mixer.earliest
    if at in ("beat", "bar", "clip"):
        beat = playout.grid(at, max(playout.beat(pos + fade), take.beats.beat(take.lead_in + fade)))
        pos = round(playout.where(beat)) - fade
    elif at == "end" and not playout.bridging:
        pos = max(pos, lead.tape.end - playout.offset - 2 * fade)
    # The take's own beginning decides if it is later than the earliest position.
    pos = max(pos, math.ceil(playout.where(take.beats.beat(take.lead_in + fade))) - fade + 1)
    if fade_s * SAMPLE_RATE > fade and not playout.bridging:
        left = lead.tape.end - playout.offset - pos - 2 * fade
        fade = max(fade, min(round(fade_s * SAMPLE_RATE), left))
    place = playout.fit(take, pos, playout.fade, playout.need + fade, take.lead_in)
    return None if place is None else Splice(pos, place[0], fade, place[1])
