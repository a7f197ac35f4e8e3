"""Synthesisers for sounds outside General MIDI. A patch renders notes as a stereo stem.

Equal notes share one rendering, so rendering takes a few hundredths of the stem's duration.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from riffstream.corpus import patches_held as held
from riffstream.corpus import patches_struck as struck
from riffstream.corpus.music import Note, hertz
from riffstream.corpus.patches_held import Patch
from riffstream.corpus.production import RATE, chorus

__all__ = ["PATCHES", "Patch", "render_patch"]

PATCHES: dict[str, Patch] = {
    "supersaw": held.supersaw,
    "super_pluck": held.super_pluck,
    "warm_pad": held.warm_pad,
    "glass_pad": held.glass_pad,
    "noise_pad": held.noise_pad,
    "choir": held.choir,
    "string_machine": held.string_machine,
    "acid": held.acid,
    "sub_bass": held.sub_bass,
    "bass_808": held.bass_808,
    "saw_bass": held.saw_bass,
    "reese": held.reese,
    "wobble": held.wobble,
    "square_lead": held.square_lead,
    "saw_lead": held.saw_lead,
    "chip_25": held.chip("pulse25"),
    "chip_50": held.chip("square"),
    "chip_12": held.chip("pulse12"),
    "chip_triangle": held.chip("triangle"),
    "synth_brass": held.synth_brass,
    "electric_piano": struck.electric_piano,
    "fm_bell": struck.fm_bell,
    "church_bell": struck.church_bell,
    "music_box": struck.music_box,
    "marimba": struck.marimba,
    "steel_string": struck.string_pluck(0.9, 2.5),
    "nylon_string": struck.string_pluck(0.35, 1.6),
    "harp_string": struck.string_pluck(0.6, 3.0),
    "muted_string": struck.string_pluck(0.5, 0.25),
    "organ": held.organ,
    "theremin": held.theremin,
    "drone": held.drone,
}


def render_patch(
    patch: str, notes: Sequence[Note], *, bpm: float, samples: int, rng: np.random.Generator, octave: int = 0
) -> np.ndarray:
    """Play notes on a patch.

    Args:
        patch: a name in ``PATCHES``.
        notes: notes to play; sample 0 is beat 0.
        bpm: beats per minute.
        samples: length of the result in samples.
        rng: random number generator of phases and noise.
        octave: transposition in octaves.

    Returns:
        [2, samples] float32.
    """
    play = PATCHES[patch]
    per_beat = RATE * 60 / bpm
    out = np.zeros((2, samples), np.float32)
    cache: dict[tuple[int, int, int], np.ndarray] = {}
    for note in notes:
        start = round(note.start * per_beat)
        if start >= samples:
            continue
        length = max(240, round(note.length * per_beat))
        # Equal notes share one rendering: velocity in 8 steps, length in 10 ms.
        key = (note.pitch, length // 480, note.velocity // 16)
        sound = cache.get(key)
        if sound is None:
            sound = play(float(hertz(note.pitch + 12 * octave)), length, (key[2] * 16 + 8) / 127, rng)
            cache[key] = sound
        count = min(sound.shape[1], samples - start)
        out[:, start : start + count] += sound[:, :count]
    return chorus(out, mix=0.35) if patch in ("string_machine", "warm_pad") else out
