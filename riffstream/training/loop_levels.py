"""Parts and levels of loops from a corpus without facts: of their sound, and of the names of their instruments."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from riffstream.corpus.levels import brightness_octaves, loudness_db
from riffstream.models.seeds import SeedEntry
from riffstream.training.asked import share

__all__ = ["with_levels"]

DRUMS: Final = ("drum", "brushes", "percussion")
NOT_DRUMS: Final = ("steel drums",)
BASS: Final = ("bass", "booming 808", "tuba")


def with_levels(entry: SeedEntry, mel: np.ndarray) -> SeedEntry:
    """The entry with its energy, its brightness, and whether drums and bass play; what it has already stays.

    Args:
        entry: a loop whose tags are its style and its instruments.
        mel: its amplitudes, float32 [2, M, T].
    """
    instruments = entry.tags[1:]
    parts = dict(entry.parts)
    if instruments and not parts:
        parts = {"drums": float(any(map(_drums, instruments))), "bass": float(any(map(_bass, instruments)))}
    return replace(
        entry,
        parts=parts,
        energy=round(share("level_db", loudness_db(mel)), 2) if entry.energy is None else entry.energy,
        brightness=round(share("brightness", brightness_octaves(mel)), 2)
        if entry.brightness is None
        else entry.brightness,
    )


def _drums(instrument: str) -> bool:
    return any(word in instrument for word in DRUMS) and instrument not in NOT_DRUMS


def _bass(instrument: str) -> bool:
    return any(word in instrument.replace("bassoon", "") for word in BASS)
