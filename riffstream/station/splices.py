"""Splice positions: the start of a new take, and the meeting point of both takes on the beat.

Pure functions of a playout, its lead and a take. Nothing is scheduled here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

from riffstream.protocol import SAMPLE_RATE
from riffstream.station.asked import bars_in_clip
from riffstream.station.bridges import SILENCE_FADE
from riffstream.station.playout import PRIMER, Playout
from riffstream.station.score import Change
from riffstream.station.take import Entry, Take

__all__ = ["Opening", "Splice", "aim", "find", "opening"]

LINES: Final = 64  # lines of the grid that may be past
ROUNDING: Final = 2  # samples


@dataclass(frozen=True, slots=True)
class Opening:
    """Start position of a take.

    Attributes:
        beat, clip_beat, index, reuse, bar, sound: arguments of :meth:`Take.open`.
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
    sound: int | None = None


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


def aim(playout: Playout, at: str, wait_s: float, *, metre: int | None = None, bar: int | None = None) -> int:
    """Expected station sample of a change that takes ``wait_s`` seconds to render.

    A change to another ``metre`` begins at a bar line. None: the metre does not change. ``bar``: not before the line of
    this bar.
    """
    soonest = playout.mixer.earliest + round(wait_s * SAMPLE_RATE)
    lead = playout.lead
    if lead is None or playout.frozen is not None:
        return soonest
    beat = playout.beat(soonest + playout.fade)
    if bar is not None:
        beat = max(beat, playout.line(bar))
    if at in ("asap", "beat") and metre not in (None, playout.bars(beat).beats(beat)):
        at = "bar"
    if at == "asap":
        return soonest
    if at == "end":
        return max(soonest, lead.tape.end - playout.offset - playout.need)
    return _on_grid(playout, at, beat)


def opening(playout: Playout, change: Change, pos: int) -> Opening:
    """Start position of the new take for a change that becomes audible at station sample ``pos``.

    The take continues with the current clip of the journey, unless the change names another one. A change of tempo or
    key reuses the existing clips.
    """
    score, lead = change.score, playout.lead
    beat = playout.beat(pos)
    bars = playout.bars(beat)
    clip_beat = bars.line(beat)
    index = change.index
    reuse: list[Entry] = []
    entry = lead.entry(lead.beats.sample(beat)) if lead is not None else None
    if lead is not None and entry is not None and index is None:
        index = entry.index
        known = not lead.over and entry.beat <= beat < entry.beat + score.info_of(entry.spec).beats
        if change.kind == "vocoder" and known:
            later = [each for each in lead.entries if each.beat >= entry.beat]
            reuse = list(takewhile(lambda each: score.meter(each.spec) == each.meter, later))
            clip_beat = entry.beat
    if change.index is None and lead is not None:  # the form continues
        bar = lead.bar(clip_beat)
        index = index if reuse or index is None else score.index_at(bar, index)
    else:
        bar = (index or 0) * bars_in_clip(score.info)
    spec = score.spec(index or 0, beat)
    metre = score.meter(spec)
    here = playout.beat(pos + playout.fade)
    inside = (here - clip_beat) / bars.beats(beat)
    moved = 0 if lead is None else bar - lead.bar(clip_beat)
    sound = None
    if lead is not None and change.index is None and not reuse and metre == bars.beats(beat):
        sound = lead.sound_at(clip_beat) if score.keeps_sound(lead.score) else None
    if lead is not None and not reuse and metre != bars.beats(beat):
        # The take's second bar begins at a bar line; the crossfade ends there, whichever tempo is faster.
        line = playout.grid("bar", here)
        clip_beat, inside = line - metre, 1.0
        if change.index is None:
            bar = max(0, lead.bar(line) - 1)
        moved = bar + 1 - lead.bar(line)
        beat = min(beat, line - playout.fade / min(score.samples_per_beat(spec, line), lead.beats.slope))
        beat = max(beat, line - 1)
    return Opening(beat, clip_beat, index or 0, reuse, bar, bar + math.floor(inside + 0.49), moved, sound)


def find(playout: Playout, take: Take, at: str, fade_s: float, bar: int | None = None) -> Splice | None:
    """Earliest possible splice from the lead to a take; None while the take has too little audio.

    Args:
        at: asap, beat, bar, clip, or end.
        fade_s: length of a long crossfade in seconds; 0: the default crossfade.
        bar: not before the line of this bar.
    """
    lead = playout.lead
    if lead is None:
        # A station that continues a saved one begins inside a clip.
        local = max(0, round(take.beats.sample(playout.rest.beat)))
        if take.tape.end < local + max(PRIMER, playout.need):
            return None
        return Splice(playout.mixer.earliest, local, SILENCE_FADE, 0)
    fade = playout.fade
    pos = playout.mixer.earliest
    if at in ("beat", "bar", "clip"):
        soonest = max(playout.beat(pos + fade), take.beats.beat(take.lead_in + fade))
        pos = _on_grid(playout, at, soonest if bar is None else max(soonest, playout.line(bar)))
    elif at == "end" and not playout.bridging:
        pos = max(pos, lead.tape.end - playout.offset - 2 * fade)
    desired = playout.beat(pos + fade)
    # The take's own beginning decides if it is later than the earliest position.
    pos = max(pos, math.ceil(playout.where(take.beats.beat(take.lead_in + fade))) - fade + 1)
    long = _long(playout, lead, pos, fade_s)
    place = playout.fit(take, pos, fade, playout.need + long, take.lead_in)
    if place is not None:
        return Splice(pos, place[0], long, place[1])
    # Another metre begins at a bar line.
    line = playout.fit_bar(take, desired, fade, playout.need + fade, take.lead_in)
    if line is None or line[0] < playout.mixer.earliest:
        return None
    return Splice(line[0], line[1], _long(playout, lead, line[0], fade_s, room=take.tape.end - line[1]), line[2])


def _on_grid(playout: Playout, at: str, beat: float) -> int:
    """Station sample of a crossfade that ends on the first line of the grid at or after ``beat`` which is not past.

    A scheduled take may count from fewer beats than the one before it has played. Then a line comes twice, first in the
    past.
    """
    earliest, fade = playout.mixer.earliest, playout.fade
    for _ in range(LINES):
        beat = playout.grid(at, beat)
        pos = round(playout.where(beat)) - fade
        if pos > earliest - ROUNDING:
            return max(pos, earliest)
        beat += 0.01
    return earliest


def _long(playout: Playout, lead: Take, pos: int, fade_s: float, room: int | None = None) -> int:
    """Length of a crossfade at ``pos`` in samples: ``fade_s`` as far as the audio of both takes allows.

    Args:
        room: audio of the new take after ``pos`` in samples; None: it is waited for.
    """
    fade = playout.fade
    if fade_s * SAMPLE_RATE <= fade or playout.bridging:
        return fade
    left = lead.tape.end - playout.offset - pos - 2 * fade
    if room is not None:
        left = min(left, room - playout.need)
    return max(fade, min(round(fade_s * SAMPLE_RATE), left))
