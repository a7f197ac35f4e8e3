"""Conditions: what a clip should play besides what its words say. No torch here.

A clip's conditions are numbers for each column of the model's tokens (half a beat), float32 [columns, SIZE]: the chord,
the parts that play, density, energy, brightness, and the place in the form. Every group has flags that say whether it
is given: zero is a value ("no drums"), not given is none ("drums as the words have it").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from riffstream.journey.chords import Chord

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
    "SIZE",
    "BarPlan",
    "lay_out",
]

PARTS = ("drums", "bass", "chords", "pad", "arp", "lead")

# Places in a column's numbers. A slice ends with its flag: "given", 0 or 1.
CHORD = slice(0, 25)  # pitch classes 12, bass 12, given
PARTS_LEVEL, PARTS_GIVEN = slice(25, 31), slice(31, 37)  # each part has a flag of its own
DENSITY, ENERGY, BRIGHTNESS = slice(37, 39), slice(39, 41), slice(41, 43)
FORM = slice(43, 47)  # a section starts here, ends here, the drums play a fill here, given
SIZE = 47
GROUPS = (CHORD, slice(PARTS_LEVEL.start, PARTS_GIVEN.stop), DENSITY, ENERGY, BRIGHTNESS, FORM)


@dataclass(frozen=True, slots=True)
class BarPlan:
    """What one bar should play; what is None, or missing among ``parts``, is left to the words.

    Attributes:
        chords: one chord, or two or four of equal length; a place that is None is left free. Empty: none given. Their
            pitches are the model's: C major and A minor.
        parts: level of each part of :data:`PARTS` that is given, 0 (silent) to 1 (among the loudest).
        density, energy, brightness: 0 to 1, as a share of the music that the model knows: at 0.5 half of it has fewer
            notes, is softer, is darker.
        starts, ends, fill: a section starts with this bar, ends with it, the drums lead over its last beat; None:
            not given.
    """

    chords: Sequence[Chord | None] = ()
    parts: Mapping[str, float] | None = None
    density: float | None = None
    energy: float | None = None
    brightness: float | None = None
    starts: bool | None = None
    ends: bool | None = None
    fill: bool | None = None

    def numbers(self, columns: int, beats: int) -> np.ndarray:
        """The bar as float32 [columns, SIZE]; ``beats`` in the bar say how many columns its last beat has."""
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


def lay_out(bars: Sequence[BarPlan], columns: int, beats: int) -> np.ndarray:
    """A clip's conditions, float32 [columns, SIZE].

    Args:
        bars: of the clip; ``columns`` is divided among them equally.
        columns: of the clip's tokens.
        beats: in a bar.
    """
    each = columns // len(bars)
    return np.concatenate([bar.numbers(each, beats) for bar in bars])
