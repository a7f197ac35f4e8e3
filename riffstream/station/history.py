"""Playback history: the cues played, with their takes, and the ``now`` message. One thread at a time."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from riffstream.protocol import SAMPLE_RATE, Coming, Mix, Now, State
from riffstream.station.asked import bars_in_clip
from riffstream.station.mixer import Cue
from riffstream.station.take import Entry, Take

__all__ = ["Heard", "announced", "mixed", "moment", "with_mix"]

HISTORY: Final = 60 * SAMPLE_RATE  # length of the history in samples
COMING: Final = 2  # announced sections


class Heard:
    """Cues of the last minute, in order."""

    def __init__(self) -> None:
        self._cues: deque[tuple[Cue, Take | None]] = deque()

    def add(self, cue: Cue, take: Take | None) -> None:
        """Record a cue at its start."""
        self._cues.append((cue, take))
        while len(self._cues) > 1 and self._cues[1][0].pos < cue.pos - HISTORY:
            self._cues.popleft()

    def at(self, pos: int) -> tuple[Cue | None, Take | None]:
        """Cue and take at a sample that was played; None if unknown."""
        found: tuple[Cue | None, Take | None] = (None, None)
        for cue, take in self._cues:
            if cue.pos > pos and found[0] is not None:
                break
            found = (cue, take)
        return found

    def rev(self, end: int) -> int:
        """Revision just before a sample."""
        return next((cue.rev for cue, _ in reversed(self._cues) if cue.pos < end), 0)

    @property
    def newest_rev(self) -> int:
        """Revision of the last cue; 0 before the first."""
        return self._cues[-1][0].rev if self._cues else 0

    @property
    def takes(self) -> Iterator[Take]:
        """Takes of the history, with duplicates."""
        return (take for _, take in self._cues if take is not None)


def announced(cue: Cue, take: Take, pos: int, local: int) -> Now:
    """Make the ``now`` message for a take's ``local`` sample under a cue at station sample ``pos``."""
    beat = take.beats.beat(local)
    entry = take.entry(local)
    spec = entry.spec if entry else take.score.spec(take.index, beat)
    plan = _plan(take, entry, beat, pos - local) if entry else {}
    return Now(
        rev=cue.rev,
        sample_pos=max(0, pos),
        state=take.score.state(spec, beat, paused=cue.kind == "pause"),
        alpha=round(spec.alpha, 6),
        clip=entry.clip if entry else 0,
        beat=round(beat, 4),
        **plan,
    )


def _plan(take: Take, entry: Entry, beat: float, offset: int) -> dict[str, Any]:
    """Fields about chord and form; ``offset``: station sample of the take's local sample 0."""
    score, info = take.score, take.score.info
    bar = min(max(0, math.floor((beat - entry.beat) / info.beats_per_bar + 1e-6)), bars_in_clip(info) - 1)
    inside = (beat - entry.beat) / info.beats_per_bar - bar
    found: dict[str, Any] = {}
    if chords := entry.spec.chords(bar, bars_in_clip(info), score.transposition(entry.spec)):
        found["chord"] = chords[min(len(chords) - 1, max(0, math.floor(inside * len(chords) + 1e-6)))]
    if (form := score.form) is None or not (plan := entry.spec.plan) or not plan[min(bar, len(plan) - 1)].section:
        return found
    here = plan[min(bar, len(plan) - 1)]
    found |= {"section": here.section, "section_bar": here.place + 1, "section_bars": here.bars}
    end = entry.beat + (bar + here.bars - here.place) * info.beats_per_bar
    coming = []
    for section in form.following(take.bar(beat), COMING):
        coming.append(Coming(section=section.name, at=max(0, round(take.beats.sample(end)) + offset)))
        end += section.bars * info.beats_per_bar
    return found | {"coming": tuple(coming)}


def with_mix(state: State, mix: Mix) -> State:
    """The state with settings of the desk."""
    return msgspec.structs.replace(state, mix=mix, steered=state.steered or mix != Mix())


def mixed(now: Now, rev: int, mix: Mix) -> Now:
    """The ``now`` message with settings of the desk from a revision on."""
    return msgspec.structs.replace(now, rev=max(now.rev, rev), state=with_mix(now.state, mix))


def moment(cue: Cue, take: Take, local: int) -> tuple[object, ...]:
    """All that decides the revision, clip and state of :func:`announced`; made at a fortieth of its cost.

    The beat is part of it because a tempo ramp is announced beat by beat.
    """
    entry = take.entry(local)
    beat = math.floor(take.beats.beat(local) + 1e-6)
    return cue.rev, cue.kind == "pause", take.ident, entry.clip if entry else None, beat
