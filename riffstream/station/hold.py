"""Holding: the last bar of a stream repeats while the stream continues below it, so the beat is kept."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from riffstream.audio.checks import Pcm
from riffstream.audio.fades import Crossfade
from riffstream.protocol import SAMPLE_RATE
from riffstream.station.tape import Loop, Source, Tape

__all__ = ["Hold"]

KEPT: Final = 62 * SAMPLE_RATE // 10  # a bar of four beats at 40 bpm, with its fades
FADE: Final = SAMPLE_RATE // 50  # crossfade into the loop, at its seam, and out of it


class _Turn(NamedTuple):
    pos: int
    bar: int  # length of the loop; 0: back to the stream


class _Past:
    """The stream so far; silence before its beginning."""

    def __init__(self, tape: Tape, columns: int) -> None:
        self._tape, self._columns = tape, columns

    @property
    def end(self) -> int:
        return self._tape.end

    def read(self, start: int, n: int) -> Pcm:
        missing = min(n, max(0, self._tape.begin - start))
        silence = np.zeros((missing, self._columns), np.float32)
        if missing == n:
            return silence
        rest = self._tape.read(start + missing, n - missing)
        return np.concatenate([silence, rest]) if missing else rest


class Hold:
    """A stream whose last bar can be repeated.

    Args:
        columns: columns of the stream.
        start: sample of the first audio.
    """

    def __init__(self, columns: int, start: int = 0) -> None:
        self._tape = Tape(start)
        self._past: Source = _Past(self._tape, columns)
        self._turns: list[_Turn] = []
        self._now: Source = self._past
        self._old: Source | None = None
        self._since = 0  # start of the crossfade from ``_old``
        self._fade = Crossfade(FADE, "equal-power")

    def turn(self, pos: int, bar: int) -> None:
        """Repeat the last ``bar`` samples from sample ``pos`` on; 0: return to the stream."""
        self._turns.append(_Turn(pos, bar))

    def push(self, pcm: Pcm) -> Pcm:
        """Take the next samples [n, columns] and return as many."""
        start, stop = self._tape.end, self._tape.end + len(pcm)
        self._tape.append(pcm)
        if self._now is self._past and self._old is None and not self._turns:
            self._tape.trim(stop - KEPT)
            return pcm
        parts = []
        while start < stop:
            while self._old is None and self._turns and self._turns[0].pos <= start:
                self._begin(self._turns.pop(0), start)
            until = stop
            if self._old is not None:
                until = min(until, self._since + FADE)
            elif self._turns:
                until = min(until, self._turns[0].pos)
            part = self._now.read(start, until - start)
            if self._old is not None:
                part = self._fade.mix(self._old.read(start, until - start), part, start - self._since)
                if until == self._since + FADE:
                    self._old = None
            parts.append(part)
            start = until
        self._tape.trim(stop - KEPT)
        return np.concatenate(parts)

    def _begin(self, turn: _Turn, pos: int) -> None:
        if not turn.bar and self._now is self._past:
            return
        self._old, self._since = self._now, pos
        self._now = Loop(self._past, pos, turn.bar, FADE) if turn.bar else self._past
