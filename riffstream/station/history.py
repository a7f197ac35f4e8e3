"""Playback history: cues with their takes and their musical time, and the ``now`` message. One thread at a time."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from riffstream.journey.prompts import PromptPart
from riffstream.protocol import SAMPLE_RATE, Coming, Mix, Now, Prompt, State
from riffstream.station.asked import bars_in_clip
from riffstream.station.bars import Bars
from riffstream.station.beats import CueTime
from riffstream.station.mixer import Cue
from riffstream.station.score import Score
from riffstream.station.take import Entry, Take

__all__ = ["Begin", "Heard", "Played", "Rest", "announced", "mixed", "moment", "resting", "with_coming", "with_mix"]

HISTORY: Final = 60 * SAMPLE_RATE  # length of the history in samples
COMING: Final = 2  # announced sections


@dataclass(frozen=True, slots=True)
class Played:
    """A cue that was played, with its musical time.

    Attributes:
        cue: the cue.
        take: its take; None for silence without one.
        time: musical time; None without a take.
        bars: bar lines; None: those of the take.
        held: local sample during a pause; None: time goes on.
        floor: beat at the end of the previous cue. Musical time never goes back, although the beats of two takes
            coincide only at the end of their crossfade.
    """

    cue: Cue
    take: Take | None
    time: CueTime | None = None
    bars: Bars | None = None
    held: float | None = None
    floor: float = 0.0

    def local(self, pos: int) -> int:
        """Local sample of the take at station sample ``pos``."""
        return round(self.held) if self.held is not None else pos + self.cue.offset

    def beat(self, pos: int) -> float:
        """Musical position at station sample ``pos``, in beats of the station."""
        if self.time is None:
            return self.floor
        return max(self.floor, self.time.beat(pos if self.held is None else self.held - self.time.offset))


@dataclass(frozen=True, slots=True)
class Rest:
    """Musical time while nothing plays: before the first take, and after a start over."""

    beat: float = 0.0
    bars: Bars = field(default_factory=lambda: Bars.of(0.0, 4))


@dataclass(frozen=True, slots=True)
class Begin:
    """The first sample of a playout.

    Attributes:
        pos: sample clock.
        rev: revision.
        rest: musical time until the first take sounds.
        mix: settings of the desk.
    """

    pos: int = 0
    rev: int = 0
    rest: Rest = field(default_factory=Rest)
    mix: Mix = field(default_factory=Mix)


class Heard:
    """Cues of the last minute, in order."""

    def __init__(self) -> None:
        self._cues: deque[Played] = deque()

    def add(
        self,
        cue: Cue,
        take: Take | None,
        time: CueTime | None,
        *,
        bars: Bars | None = None,
        held: float | None = None,
        rest: float = 0.0,
    ) -> None:
        """Record a cue at its start. ``rest``: beat of silence without a take. The others are as in :class:`Played`."""
        floor = self._cues[-1].beat(cue.pos) if self._cues else 0.0
        self._cues.append(Played(cue, take, time, bars, held, floor if take is not None else max(floor, rest)))
        while len(self._cues) > 1 and self._cues[1].cue.pos < cue.pos - HISTORY:
            self._cues.popleft()

    def at(self, pos: int) -> Played | None:
        """The cue at a sample that was played; None if unknown."""
        found = None
        for played in self._cues:
            if played.cue.pos > pos and found is not None:
                break
            found = played
        return found

    def after(self, pos: int) -> Iterator[Played]:
        """Cues that were committed and begin after a sample, in order."""
        return (played for played in self._cues if played.cue.pos > pos)

    def rev(self, end: int) -> int:
        """Revision just before a sample."""
        return next((played.cue.rev for played in reversed(self._cues) if played.cue.pos < end), 0)

    @property
    def newest_rev(self) -> int:
        """Revision of the last cue; 0 before the first."""
        return self._cues[-1].cue.rev if self._cues else 0

    @property
    def takes(self) -> Iterator[Take]:
        """Takes of the history, with duplicates."""
        return (played.take for played in self._cues if played.take is not None)


def resting(score: Score, rev: int, pos: int, rest: Rest, *, paused: bool) -> Now:
    """Make the ``now`` message while nothing plays."""
    spec = score.spec(0, rest.beat)
    return Now(
        rev=rev,
        sample_pos=max(0, pos),
        state=score.state(spec, rest.beat, paused=paused),
        alpha=spec.alpha,
        clip=0,
        beat=rest.beat,
        bar=rest.bars.number(rest.beat),
    )


def announced(played: Played, take: Take, pos: int) -> Now:
    """Make the ``now`` message for a cue of ``take`` at station sample ``pos``."""
    beat = round(played.beat(pos), 4)
    bars = played.bars or take.bars
    entry = take.entry(played.local(pos))
    spec = entry.spec if entry else take.score.spec(take.index, beat)
    state = take.score.state(spec, beat, beats_per_bar=bars.beats(beat), paused=played.cue.kind == "pause")
    plan = _plan(take, entry, played.local(pos), pos) if entry else {}
    stop = _next_stop(take, entry, played.local(pos), pos) if entry and not state.paused else ()
    return Now(
        rev=played.cue.rev,
        sample_pos=max(0, pos),
        state=state,
        alpha=round(spec.alpha, 6),
        clip=entry.clip if entry else 0,
        beat=beat,
        bar=bars.number(beat),
        bar_beat=round(max(0.0, beat - bars.line(beat)), 4),
        **{**plan, "coming": _ordered(stop + plan.get("coming", ()))},
    )


def _ordered(coming: tuple[Coming, ...]) -> tuple[Coming, ...]:
    return tuple(sorted(coming, key=lambda each: each.at))


def _next_stop(take: Take, entry: Entry, local: int, pos: int) -> tuple[Coming, ...]:
    """The next prompts of the path, at the tempo and the metre of the present clip."""
    following = take.score.path.following(entry.index)
    if following is None:
        return ()
    begin, alone, keyframe = following
    beats = entry.meter * bars_in_clip(take.score.info)

    def sample(index: int) -> int:
        return max(0, round(take.beats.sample(entry.beat + (index - entry.index) * beats)) + pos - local)

    prompts = tuple(Prompt(text=part.text, weight=part.weight) for part in keyframe.prompts)
    return (Coming(at=sample(begin), by="journey", prompts=prompts, alone_at=sample(alone)),)


def _plan(take: Take, entry: Entry, local: int, pos: int) -> dict[str, Any]:
    """Fields about chord and form at a local sample of the take, which is the station sample ``pos``."""
    score, metre, count = take.score, entry.meter, bars_in_clip(take.score.info)
    beat = take.beats.beat(local)
    bar = min(max(0, math.floor((beat - entry.beat) / metre + 1e-6)), count - 1)
    inside = (beat - entry.beat) / metre - bar
    found: dict[str, Any] = {}
    if chords := entry.spec.chords(bar, count, score.transposition(entry.spec)):
        found["chord"] = chords[min(len(chords) - 1, max(0, math.floor(inside * len(chords) + 1e-6)))]
    if (form := score.form) is None or not (plan := entry.spec.plan) or not plan[min(bar, len(plan) - 1)].section:
        return found
    here = plan[min(bar, len(plan) - 1)]
    found |= {"section": here.section, "section_bar": here.place + 1, "section_bars": here.bars}
    end = entry.beat + (bar + here.bars - here.place) * metre
    coming = []
    for section in form.following(take.bar(beat), COMING):
        coming.append(Coming(section=section.name, at=max(0, round(take.beats.sample(end)) + pos - local)))
        end += section.bars * metre
    return found | {"coming": tuple(coming)}


def with_mix(state: State, mix: Mix) -> State:
    """The state with settings of the desk."""
    return msgspec.structs.replace(state, mix=mix, steered=state.steered or mix != Mix())


def with_coming(now: Now, steers: Iterable[tuple[int, tuple[PromptPart, ...]]]) -> Now:
    """The ``now`` message with accepted changes that are not audible yet.

    Args:
        now: the message.
        steers: sample and prompts of each change. A change with the prompts that play is left out.
    """
    added = {
        prompts: Coming(at=max(0, at), by="steer", prompts=prompts)
        for at, parts in steers
        if (prompts := tuple(Prompt(text=part.text, weight=part.weight) for part in parts)) != now.state.prompts
    }
    if not added:
        return now
    first = min(each.at for each in added.values())  # the journey ends there
    kept = tuple(each for each in now.coming if each.by != "journey" or each.at < first)
    return msgspec.structs.replace(now, coming=_ordered(kept + tuple(added.values())))


def mixed(now: Now, rev: int, mix: Mix) -> Now:
    """The ``now`` message with settings of the desk from a revision on."""
    return msgspec.structs.replace(now, rev=max(now.rev, rev), state=with_mix(now.state, mix))


def moment(played: Played, take: Take, pos: int) -> tuple[object, ...]:
    """All that decides the revision, clip and state of :func:`announced`; made at a fortieth of its cost.

    The beat is part of it because a tempo ramp is announced beat by beat, and a metre changes on a beat.
    """
    entry = take.entry(played.local(pos))
    beat = math.floor(played.beat(pos) + 1e-4)
    return played.cue.rev, played.cue.kind == "pause", take.ident, entry.clip if entry else None, beat
