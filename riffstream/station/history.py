"""Playback history: the cues played, with their takes, and the ``now`` message. One thread at a time."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from typing import Final

from riffstream.protocol import SAMPLE_RATE, Now
from riffstream.station.mixer import Cue
from riffstream.station.take import Take

__all__ = ["Heard", "announced", "moment"]

HISTORY: Final = 60 * SAMPLE_RATE  # length of the history in samples


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
    return Now(
        rev=cue.rev,
        sample_pos=max(0, pos),
        state=take.score.state(spec, beat, paused=cue.kind == "pause"),
        alpha=round(spec.alpha, 6),
        clip=entry.clip if entry else 0,
        beat=round(beat, 4),
    )


def moment(cue: Cue, take: Take, local: int) -> tuple[object, ...]:
    """All that decides the revision, clip and state of :func:`announced`; made at a fortieth of its cost.

    The beat is part of it because a tempo ramp is announced beat by beat.
    """
    entry = take.entry(local)
    beat = math.floor(take.beats.beat(local) + 1e-6)
    return cue.rev, cue.kind == "pause", take.ident, entry.clip if entry else None, beat
