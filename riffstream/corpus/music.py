"""Notes, chords and progressions of the corpus.

Everything is in C major or A minor: a clip's key is a property of the vocoder, not of the model (see docs/corpus.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from riffstream.journey.chords import Chord

__all__ = ["MAJOR", "MINOR", "PENTATONIC", "Chord", "Note", "Track", "hertz", "nearest", "progression", "voicing"]

MAJOR = (0, 2, 4, 5, 7, 9, 11)  # the white keys, C major and A minor alike
PENTATONIC = (0, 2, 4, 7, 9)
MINOR = MAJOR


@dataclass(frozen=True, slots=True)
class Note:
    """One note: start and length in beats, MIDI pitch (60 is middle C), velocity 1-127."""

    start: float
    length: float
    pitch: int
    velocity: int = 90


@dataclass(slots=True)
class Track:
    """Notes for one instrument.

    Attributes:
        name: name of the instrument in captions ("grand piano").
        program: General MIDI program 0-127 (the kit number for drums).
        volume: MIDI volume 0-127.
        pan: position from -1 (left) to 1 (right).
        controls: (beat, controller, value); controller 128 is the pitch bend, 0-16383.
    """

    name: str
    program: int = 0
    drum: bool = False
    notes: list[Note] = field(default_factory=list)
    volume: int = 100
    pan: float = 0.0
    controls: list[tuple[float, int, int]] = field(default_factory=list)


def hertz(pitch: float | np.ndarray) -> float | np.ndarray:
    """Frequency of a MIDI pitch, equal temperament, A4 (69) = 440 Hz."""
    return 440.0 * 2.0 ** ((pitch - 69) / 12)


def nearest(pitch_class: int, around: int) -> int:
    """The pitch of this class nearest to ``around``."""
    return around + (pitch_class - around + 6) % 12 - 6


def voicing(chord: Chord, around: int, previous: Sequence[int] | None = None, *, notes: int = 4) -> list[int]:
    """Pitches of a chord in close position near ``around``, with little movement from the previous chord."""
    classes = list(dict.fromkeys(chord.classes))
    if len(classes) > notes:
        classes = classes[1:] if len(classes) - 1 == notes else [classes[1], *classes[3:]][:notes]
    centre = around if not previous else round(0.5 * around + 0.5 * sum(previous) / len(previous))
    low = centre - 5
    return sorted(low + (pitch_class - low) % 12 for pitch_class in classes)


# Moods select among these. All are in C major or A minor, with a few borrowed chords and secondary dominants.
_PROGRESSIONS: dict[str, tuple[str, ...]] = {
    "major": (
        "C G Am F", "C F G C", "C Am F G", "F G C Am", "C G F G", "C F C G", "C Em F G", "F C G Am", "C Am Dm G",
        "C D F C", "C G/B Am F", "F G Em Am", "C F Am G", "C C F F", "C Em Am F", "C Fm C G", "F Em Dm C",
        "C G Am Em F C F G", "C G Dm F", "C Bb F C", "C Am F Fm", "C E Am F",
    ),
    "minor": (
        "Am F C G", "Am G F G", "Am Dm E Am", "Am F G Am", "Am C G F", "Am Em F G", "Am Am F G", "Am G Dm F",
        "Am F Dm E", "Am Dm G C", "F G Am Am", "Am C Dm F", "Am G F E", "Dm F Am G", "Am F Am G", "Am Em Dm Am",
        "Am F C E", "Am Am Dm E", "F Am G Em", "Am D F G",
    ),
    "jazz": (
        "Dm7 G7 CM7 CM7", "CM7 Am7 Dm7 G7", "Em7 Am7 Dm7 G7", "FM7 Em7 Dm7 CM7", "CM7 A7 Dm7 G7", "Am7 D7 Dm7 G7",
        "Am7 Dm7 G7 CM7 FM7 Bm7b5 E7 Am7", "CM7 FM7 Em7 Am7", "Dm9 G13 CM9 A7", "FM7 Fm6 Em7 A7", "CM7 C7 FM7 Fm6",
    ),
    "minor_jazz": (
        "Am7 Dm7 Bm7b5 E7", "Am7 FM7 Bm7b5 E7", "Am9 Dm9 Am9 E7", "Am7 D7 Am7 D7", "FM7 E7 Am7 C7", "Dm7 E7 Am7 Am7",
        "Am7 Am7 Dm7 E7", "FM7 G6 Am7 Am7", "FM7 Em7 Am7 Am7",
    ),
    "blues": ("C7 F7 C7 C7 F7 F7 C7 C7 G7 F7 C7 G7", "C7 C7 F7 C7 G7 F7 C7 G7",
              "Am7 Dm7 Am7 Am7 Dm7 Dm7 Am7 Am7 E7 Dm7 Am7 E7"),
    "calm": ("CM7 FM7 CM7 FM7", "FM7 CM7 Am7 Em7", "Cadd9 Am7 FM7 Gsus4", "Am9 FM7 CM7 G6", "FM9 CM9 FM9 CM9",
             "CM7 Em7 FM7 FM7", "Am7 Em7 FM7 CM7", "Dm9 CM9 FM9 CM9", "C F/C C F/C"),
    "dark": ("Am Am F F", "Am F Am E", "Am Am Dm Dm", "Am Em F Em", "Dm Am E Am", "Am Dm F E",
             "Am Dm Am G", "Am Am G F"),
    "modal": ("Am Am Am Am", "Am G Am G", "Am7 D7 Am7 D7", "C F C G", "Am Am G G", "Dm7 Dm7 Am7 Am7", "C C C C",
              "Am7 Am7 Am7 Am7", "Dm7 G7 Dm7 G7"),
    "power": ("A5 F5 C5 G5", "A5 G5 F5 G5", "A5 C5 D5 F5", "A5 A5 C5 D5", "C5 F5 G5 F5", "A5 E5 F5 G5", "C5 G5 A5 F5",
              "D5 C5 A5 A5", "A5 D5 E5 D5"),
}  # fmt: skip


def progression(kind: str, bars: int, rng: np.random.Generator) -> list[Chord]:
    """Chords from a family of progressions: one chord per bar, or one per two bars in slow kinds.

    Args:
        kind: major, minor, jazz, minor_jazz, blues, calm, dark, modal or power.
        bars: number of bars.
        rng: source of chance.
    """
    names = str(rng.choice(_PROGRESSIONS[kind])).split()
    if rng.random() < 0.3 and len(names) == 4 and kind not in ("modal", "blues"):
        other = str(rng.choice(_PROGRESSIONS[kind])).split()
        names = names + other[:2] + names[2:] if rng.random() < 0.5 else names + other
    if kind in ("calm", "dark", "modal") and len(names) <= 4 and rng.random() < 0.4:
        names = [name for name in names for _ in range(2)]
    return [Chord.parse(names[i % len(names)]) for i in range(bars)]
