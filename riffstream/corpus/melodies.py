"""Melodies over chords: a two-bar motif, repeated, answered and varied."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from riffstream.corpus.music import MAJOR, PENTATONIC, Chord, Note, nearest

__all__ = ["Part", "melody", "swung", "tune", "velocity"]

Part = Callable[[Sequence[Chord], int, np.random.Generator, int], list[Note]]


def swung(beat: float, amount: float) -> float:
    """Move a straight position into swing.

    Args:
        beat: position in beats.
        amount: 0 straight; positive delays off-beat eighths (1/6 makes triplets); negative delays off-beat sixteenths.
    """
    if amount == 0:
        return beat
    unit = 0.5 if amount > 0 else 0.25
    pair, inside = divmod(beat + 1e-6, 2 * unit)
    late = unit + abs(amount) * (1.0 if amount > 0 else 0.5)
    inside -= 1e-6
    moved = inside * late / unit if inside < unit else late + (inside - unit) * (2 * unit - late) / unit
    return pair * 2 * unit + moved


def velocity(rng: np.random.Generator, base: int = 88, spread: int = 8) -> int:
    return int(np.clip(base + rng.integers(-spread, spread + 1), 25, 127))


def melody(
    chords: Sequence[Chord],
    beats: int,
    rng: np.random.Generator,
    register: int,
    *,
    density: float = 0.5,
    pentatonic: bool = False,
    leap: float = 0.2,
    length: float = 0.95,
    dotted: bool = False,
) -> list[Note]:
    """A melody: a two-bar motif, repeated, answered and varied, with chord tones on strong beats."""
    grid = 0.5 if density < 0.75 else 0.25

    def rhythm() -> list[tuple[float, float]]:
        spans: list[tuple[float, float]] = []
        beat = 0.0
        while beat < 2 * beats - 1e-6:
            options = {0.25: (0.25, 0.5, 0.5, 0.75, 1.0), 0.5: (0.5, 0.5, 1.0, 1.0, 1.5, 2.0)}[grid]
            if density < 0.3:
                options = (1.0, 2.0, 2.0, 3.0, 4.0)
            if dotted and rng.random() < 0.4:
                options = (0.75,)
            step = float(rng.choice(options))
            step = min(step, 2 * beats - beat)
            if rng.random() > 0.14 or beat == 0:
                spans.append((beat, step))
            beat += step
        return spans

    motifs = [rhythm(), rhythm()]
    contours = [rng.integers(-2, 3, 64), rng.integers(-2, 3, 64)]
    scale = PENTATONIC if pentatonic else MAJOR
    out: list[Note] = []
    pitch = register
    for pair in range(-(-len(chords) // 2)):
        which = (0, 0, 0, 1)[pair % 4] if rng.random() < 0.85 else 1
        for i, (beat, step) in enumerate(motifs[which]):
            bar = pair * 2 + int(beat // beats)
            if bar >= len(chords):
                break
            move = int(contours[which][i]) if rng.random() < 0.8 else int(rng.integers(-2, 3))
            if rng.random() < leap:
                move += int(rng.choice([-3, 3, 4]))
            target = pitch + 2 * move - round((pitch - register) * 0.3)
            strong = beat % beats in (0, 2) or step >= 1
            classes = chords[bar].classes[:4] if strong else scale
            candidates = [nearest(c, target) for c in classes]
            pitch = min(candidates, key=lambda p: (abs(p - target), abs(p - register)))
            pitch = pitch - 12 if pitch > register + 13 else pitch + 12 if pitch < register - 11 else pitch
            out.append(Note(pair * 2 * beats + beat, step * length, pitch, velocity(rng, 98 if strong else 86)))
    return out


def tune(**options: float | bool) -> Part:
    return lambda chords, beats, rng, register: melody(chords, beats, rng, register, **options)  # type: ignore[arg-type]
