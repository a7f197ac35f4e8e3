"""Bass lines: written on a grid, walking, or acid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from riffstream.corpus.melodies import Part, velocity
from riffstream.corpus.music import MAJOR, Chord, Note, nearest

__all__ = ["acid_line", "bass_line", "walking"]


def bass_line(rows: Sequence[str], length: float = 0.9) -> Part:
    """``r`` root, ``o`` octave, ``f`` fifth, ``t`` third, ``a`` approach to the next root, ``-`` hold, ``.`` rest."""

    def part(chords: Sequence[Chord], beats: int, rng: np.random.Generator, register: int) -> list[Note]:
        row = str(rng.choice(list(rows)))
        other = str(rng.choice(list(rows))) if rng.random() < 0.35 else row
        out: list[Note] = []
        for bar, chord in enumerate(chords):
            steps = ((row if bar % 2 == 0 else other) * 2)[: beats * 4]
            root = nearest(chord.bass, register)
            following = nearest(chords[(bar + 1) % len(chords)].bass, register)
            third = root + (3 if chord.minor else 4) if len(chord.tones) > 2 else root + 7
            fifth = root + (7 if 7 in chord.tones else 6 if 6 in chord.tones else 7)
            pitches = {
                "r": root,
                "R": root,
                "o": root + 12,
                "f": fifth if fifth - register < 8 else fifth - 12,
                "t": third,
                "s": root + (10 if 10 in chord.tones else 12),
                "a": _approach(root, following),
            }
            for step, mark in enumerate(steps):
                if mark not in pitches:
                    continue
                hold = 1
                while step + hold < len(steps) and steps[step + hold] == "-":
                    hold += 1
                out.append(
                    Note(
                        bar * beats + step / 4,
                        hold / 4 * length,
                        pitches[mark],
                        velocity(rng, 104 if mark == "R" else 90, 5),
                    )
                )
        return out

    return part


def _approach(root: int, following: int) -> int:
    """The white key beside the next root, from below when the line rises."""
    step = -1 if following >= root else 1
    pitch = following + step
    while pitch % 12 not in MAJOR:
        pitch += step
    return pitch


def walking(chords: Sequence[Chord], beats: int, rng: np.random.Generator, register: int) -> list[Note]:
    out: list[Note] = []
    for bar, chord in enumerate(chords):
        root = nearest(chord.bass, register)
        following = nearest(chords[(bar + 1) % len(chords)].bass, register)
        classes = chord.classes
        line = [root]
        for _ in range(beats - 2):
            options = [nearest(c, line[-1] + (2 if rng.random() < 0.6 else -2)) for c in classes]
            options = [o for o in options if o != line[-1] and register - 9 <= o <= register + 14] or [root + 12]
            line.append(int(rng.choice(options)))
        line.append(_approach(root, following))
        for beat, pitch in enumerate(line):
            out.append(Note(bar * beats + beat, 0.92, pitch, velocity(rng, 94, 6)))
            if rng.random() < 0.08:
                out.append(Note(bar * beats + beat + 0.5, 0.4, pitch, velocity(rng, 70)))
    return out


def acid_line(chords: Sequence[Chord], beats: int, rng: np.random.Generator, register: int) -> list[Note]:
    """A 303 line: one bar of sixteenths with accents, octaves and rests, repeated over the roots."""
    steps = 16
    play = rng.random(steps) < 0.78
    play[0] = True
    offsets = rng.choice([0, 0, 0, 12, 0, 7, 3, 10, -2, 12], steps)
    accent = rng.random(steps) < 0.35
    slide = rng.random(steps) < 0.25
    out: list[Note] = []
    for bar, chord in enumerate(chords):
        root = nearest(chord.root, register)
        for step in range(beats * 4):
            if not play[step]:
                continue
            offset = int(offsets[step])
            while (root + offset) % 12 not in MAJOR:
                offset += 1
            hit = 122 if accent[step] else 80
            out.append(Note(bar * beats + step / 4, 0.27 if slide[step] else 0.16, root + offset, hit))
    return out
