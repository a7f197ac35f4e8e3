"""Bar lines of a station: the metre from each bar line on, and the numbers of the bars. Immutable, without a clock.

Beats are the station's. A metre changes at a bar line only, so each bar is whole, and numbers count up without a gap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

__all__ = ["Bars", "Piece"]

KEPT: Final = 32  # changes of the metre that a station remembers
NEAR: Final = 1e-6  # beats: tolerance of the rounding of samples


class Piece(NamedTuple):
    """Bars of one metre: from ``beat``, the line of bar ``number``, each bar has ``beats`` beats."""

    beat: float
    number: int
    beats: int


@dataclass(frozen=True, slots=True)
class Bars:
    """Bar lines in pieces of one metre, oldest first. The first piece also counts backwards."""

    pieces: tuple[Piece, ...]

    @classmethod
    def of(cls, beat: float, beats: int, number: int = 0) -> Bars:
        """Bars of ``beats`` beats; bar ``number`` begins at ``beat``."""
        return cls((Piece(beat, number, beats),))

    def piece(self, beat: float) -> Piece:
        """Metre at ``beat``; on a line where it changes, the new one."""
        return next((piece for piece in reversed(self.pieces) if piece.beat <= beat + NEAR), self.pieces[0])

    def beats(self, beat: float) -> int:
        """Beats in the bar at ``beat``."""
        return self.piece(beat).beats

    def number(self, beat: float) -> int:
        """Number of the bar at ``beat``."""
        piece = self.piece(beat)
        return piece.number + math.floor((beat - piece.beat) / piece.beats + NEAR)

    def line(self, beat: float) -> float:
        """Last bar line at or before ``beat``."""
        piece = self.piece(beat)
        return piece.beat + math.floor((beat - piece.beat) / piece.beats + NEAR) * piece.beats

    def at(self, number: int) -> float:
        """Beat of the line of bar ``number``."""
        piece = next((piece for piece in reversed(self.pieces) if piece.number <= number), self.pieces[0])
        return piece.beat + (number - piece.number) * piece.beats

    def next(self, beat: float) -> float:
        """First bar line at or after ``beat``."""
        line = self.line(beat)
        return line if line >= beat - NEAR else line + self.beats(line)

    def agrees(self, beat: float, other: Bars, its: float) -> bool:
        """Whether ``beat`` here and the beat ``its`` of ``other`` are the same place in a bar of the same metre."""
        ours, theirs = beat - self.line(beat), its - other.line(its)
        return self.beats(beat) == other.beats(its) and abs(ours - theirs) < 0.01

    def shift(self, beats: float) -> Bars:
        """The same bars, ``beats`` beats later."""
        return Bars(tuple(piece._replace(beat=piece.beat + beats) for piece in self.pieces))

    def until(self, beat: float) -> Bars:
        """The bars without the changes of the metre at or after ``beat``."""
        return Bars(tuple(piece for piece in self.pieces if piece.beat < beat - NEAR) or self.pieces[:1])

    def change(self, beat: float, beats: int) -> Bars:
        """The bars before ``beat``, then bars of ``beats`` beats. Numbers count on."""
        beat = _whole(beat)
        kept = tuple(piece for piece in self.pieces if piece.beat < beat - NEAR)
        if not kept:
            return Bars.of(beat, beats, self.number(beat))
        last = kept[-1]
        passed = (beat - last.beat) / last.beats
        if last.beats == beats and abs(passed - round(passed)) < 0.01:
            return Bars(kept)
        return Bars((*kept, Piece(beat, last.number + math.ceil(passed - 0.01), beats))[-KEPT:])

    def join(self, beat: float, other: Bars) -> Bars:
        """The bars before ``beat``, then those of ``other``. Numbers count on.

        Both agree at ``beat``, or it is a bar line of both.
        """
        beat = _whole(beat)
        bars = self.until(beat + 0.01) if self.agrees(beat, other, beat) else self.change(beat, other.beats(beat))
        for piece in other.pieces:
            if piece.beat > beat + NEAR:
                bars = bars.change(piece.beat, piece.beats)
        return bars


def _whole(beat: float) -> float:
    """``beat`` without the rounding of samples, if it is a whole number."""
    return float(round(beat)) if abs(beat - round(beat)) < 0.01 else beat
