"""The styles that the corpus makes from its own parts (MMA's grooves come on top, see ``grooves.py``).

A style is data: what it is called, how people ask for it, tempo, harmony, and which instruments may play which parts.
Compact strings keep the table readable: ``|`` separates alternatives.
"""

from __future__ import annotations

from dataclasses import dataclass

from riffstream.errors import ParameterError

__all__ = ["Style", "StylePart", "parse_parts"]


@dataclass(frozen=True, slots=True)
class StylePart:
    """One voice of the arrangement.

    Attributes:
        role: bass, chords, pad, arp, lead or extra: decides which sections it plays in.
        instruments, patterns: names to choose from (``instruments.INSTRUMENTS``, ``patterns.PARTS``).
        chance: probability that a song has it.
        shift: semitones from the instrument's register.
    """

    role: str
    instruments: tuple[str, ...]
    patterns: tuple[str, ...]
    chance: float = 1.0
    shift: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """One style.

    Attributes:
        name: identifies it; also the label of the evaluation's probe.
        tags: what it is called, the plainest first.
        moods: adjectives.
        scenes: phrases as a user might type them.
        bpm: range of tempi.
        harmony: families of ``music.progression``.
        parts: the voices.
        drums: patterns of ``drums.PATTERNS``, empty for none; kits: of ``drums.KITS`` or the soundfont's (``gm``, ``gm40`` for its
            kit 40: brushes); drum_chance: probability that a song has drums.
        beats: in a bar, 4 or 3.
        swing: see ``patterns.swung``.
        production: names of ``mixing.LOOKS`` that suit it.
        pump: depth of side-chain ducking on the beat, 0 to 1.
        room: reverb time in seconds and level.
        drive: amplifier drive of distorted guitars.
        weight: how many songs it gets, against 1.
    """

    name: str
    tags: tuple[str, ...]
    moods: tuple[str, ...]
    scenes: tuple[str, ...]
    bpm: tuple[float, float]
    harmony: tuple[str, ...]
    parts: tuple[StylePart, ...]
    drums: tuple[str, ...] = ()
    kits: tuple[str, ...] = ("gm",)
    drum_chance: float = 1.0
    beats: int = 4
    swing: float = 0.0
    production: tuple[str, ...] = ("plain", "plain", "room", "warm", "bright")
    pump: float = 0.0
    room: tuple[float, float] = (1.2, 0.2)
    drive: float = 0.0
    weight: float = 1.0


def parse_parts(text: str) -> tuple[StylePart, ...]:
    """Read ``role instruments patterns [chance] [shift]`` separated by ``;``.

    >>> parse_parts("bass acid acid_line; lead flute|oboe tune 0.5 12")[1].instruments
    ('flute', 'oboe')
    """
    parts = []
    for row in text.split(";"):
        words = row.split()
        if not words:
            continue
        if len(words) < 3:
            raise ParameterError("parts", row, "role instruments patterns [chance] [shift]")
        chance = float(words[3]) if len(words) > 3 else 1.0
        shift = int(words[4]) if len(words) > 4 else 0
        parts.append(StylePart(words[0], tuple(words[1].split("|")), tuple(words[2].split("|")), chance, shift))
    return tuple(parts)
