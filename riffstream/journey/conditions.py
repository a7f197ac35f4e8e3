"""Conditions: musical controls of a clip beside its prompt. No torch here.

A clip's conditions are numbers for each column of the model's tokens (half a beat), float32 [columns, SIZE]: the chord,
the levels of the parts, density, energy, brightness, and the position in the form. Each group has "given" flags,
because 0 is a value ("no drums") and an absent value leaves the choice to the prompt.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from riffstream.errors import ParameterError
from riffstream.journey.chords import Chord
from riffstream.ranges import check, reject_unknown

__all__ = [
    "BRIGHTNESS",
    "CHORD",
    "DENSITY",
    "ENERGY",
    "FORM",
    "GROUPS",
    "PARTS",
    "PARTS_GIVEN",
    "PARTS_LEVEL",
    "QUIET",
    "SIZE",
    "BarPlan",
    "Levels",
    "lay_out",
    "parse_parts",
]

PARTS = ("drums", "bass", "chords", "pad", "arp", "lead")

# Layout of a column. Each slice ends with its "given" flag, 0 or 1.
CHORD = slice(0, 25)  # pitch classes 12, bass 12, given
PARTS_LEVEL, PARTS_GIVEN = slice(25, 31), slice(31, 37)  # each part has a flag of its own
DENSITY, ENERGY, BRIGHTNESS = slice(37, 39), slice(39, 41), slice(41, 43)
FORM = slice(43, 47)  # a section starts here, ends here, the drums play a fill here, given
SIZE = 47
QUIET = 0.3  # a part below this level counts as asked to rest
GROUPS = (CHORD, slice(PARTS_LEVEL.start, PARTS_GIVEN.stop), DENSITY, ENERGY, BRIGHTNESS, FORM)


@dataclass(frozen=True, slots=True)
class BarPlan:
    """Musical controls of one bar. The prompt decides all values that are None or missing.

    Attributes:
        chords: none, one, or two or four of equal length; None in place of a chord leaves it to the prompt. The pitches
            are in the model's key (C major and A minor).
        parts: levels by name in :data:`PARTS`, 0 (silent) to 1 (among the loudest).
        density: number of notes as a quantile of the training data, 0 to 1.
        energy: loudness and drive as a quantile of the training data, 0 to 1.
        brightness: as a quantile of the training data, 0 to 1.
        starts: True if a section starts with this bar.
        ends: True if a section ends with this bar.
        fill: True if the drums play a fill over the last beat.
    """

    chords: Sequence[Chord | None] = ()
    parts: Mapping[str, float] | None = None
    density: float | None = None
    energy: float | None = None
    brightness: float | None = None
    starts: bool | None = None
    ends: bool | None = None
    fill: bool | None = None

    @property
    def resting(self) -> frozenset[str]:
        """Parts that are asked to rest."""
        return frozenset(name for name, level in (self.parts or {}).items() if level < QUIET)

    def numbers(self, columns: int, beats: int) -> np.ndarray:
        """The bar as float32 [columns, SIZE]; ``beats`` is the number of beats in the bar."""
        out = np.zeros((columns, SIZE), np.float32)
        for k, chord in enumerate(self.chords):
            if chord is None:
                continue
            place = slice(round(k * columns / len(self.chords)), round((k + 1) * columns / len(self.chords)))
            own = out[place, CHORD]
            own[:, [tone % 12 for tone in chord.classes]] = 1
            own[:, 12 + chord.bass] = 1
            own[:, -1] = 1
        for k, part in enumerate(PARTS):
            if self.parts is not None and part in self.parts:
                out[:, PARTS_LEVEL.start + k] = self.parts[part]
                out[:, PARTS_GIVEN.start + k] = 1
        for where, value in ((DENSITY, self.density), (ENERGY, self.energy), (BRIGHTNESS, self.brightness)):
            if value is not None:
                out[:, where] = (value, 1)
        if (self.starts, self.ends, self.fill) != (None, None, None):
            beat = max(1, columns // beats)
            out[:beat, FORM.start] = bool(self.starts)
            out[-beat:, FORM.start + 1] = bool(self.ends)
            out[-beat:, FORM.start + 2] = bool(self.fill)
            out[:, FORM.stop - 1] = 1
        return out


@dataclass(frozen=True, slots=True)
class Levels:
    """Parts and levels of a whole clip: averages of the columns that give them.

    Attributes:
        parts: levels by name in :data:`PARTS`, 0 (silent) to 1; a missing part is open.
        density: 0 (few notes) to 1 (many); None: open.
        energy: 0 (soft) to 1 (loud); None: open.
        brightness: 0 (dark) to 1 (bright); None: open.
    """

    parts: Mapping[str, float] = field(default_factory=dict)
    density: float | None = None
    energy: float | None = None
    brightness: float | None = None

    @classmethod
    def of(cls, numbers: np.ndarray) -> Levels:
        """The levels in conditions, float [columns, SIZE]."""

        def mean(value: int, given: int) -> float | None:
            rows = numbers[:, given] > 0
            return float(numbers[rows, value].mean()) if rows.any() else None

        parts = {part: mean(PARTS_LEVEL.start + k, PARTS_GIVEN.start + k) for k, part in enumerate(PARTS)}
        return cls(
            {part: level for part, level in parts.items() if level is not None},
            *(mean(group.start, group.stop - 1) for group in (DENSITY, ENERGY, BRIGHTNESS)),
        )

    @property
    def row(self) -> np.ndarray:
        """float32 [len(PARTS) + 3]: parts, density, energy, brightness; nan where open."""
        values = [*(self.parts.get(part) for part in PARTS), self.density, self.energy, self.brightness]
        return np.array([math.nan if value is None else value for value in values], np.float32)


def lay_out(bars: Sequence[BarPlan], columns: int, beats: int) -> np.ndarray:
    """Lay out the conditions of a clip, float32 [columns, SIZE].

    Args:
        bars: bars of the clip; each takes an equal share of the columns.
        columns: number of token columns in the clip.
        beats: beats in a bar.
    """
    each = columns // len(bars)
    return np.concatenate([bar.numbers(each, beats) for bar in bars])


def parse_parts(words: Iterable[str]) -> dict[str, float]:
    """Parse levels of parts such as ``drums=0 pad=0.5``, also separated by commas.

    Raises:
        ParameterError: an unknown part, one that is given twice, or a level that is not a number from 0 to 1.
    """
    levels: dict[str, float] = {}
    for text in (part for word in words for part in word.split(",") if part.strip()):
        name, _, given = (piece.strip() for piece in text.partition("="))
        try:
            level = float(given)
        except ValueError:
            level = math.nan
        if not name or math.isnan(level):
            raise ParameterError("parts", text, f"PART=LEVEL with a level of 0 to 1, PART one of {', '.join(PARTS)}")
        reject_unknown([name], PARTS, where="parts")
        if name in levels:
            raise ParameterError(f"parts.{name}", text, "one level for each part")
        levels[name] = check("part", level, field=f"parts.{name}")
    return levels
