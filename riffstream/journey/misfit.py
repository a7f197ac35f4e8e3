"""How well a loop fits asked parts and levels, as a loss of likeness to the words. No torch."""

from __future__ import annotations

from typing import Final

import numpy as np

from riffstream.journey.conditions import PARTS, QUIET, Levels

__all__ = ["misfit"]

# Loss of cosine similarity where a loop plays a part that is to rest, or lacks one that is to play. Drums and bass
# stay audible through the denoising, and no other instrument hides them.
PART: Final = {"drums": 0.12, "bass": 0.05, "chords": 0.03, "pad": 0.03, "arp": 0.03, "lead": 0.03}
LEVEL: Final = np.array([0.04, 0.08, 0.04], np.float32)  # for each 1.0 between two densities, energies, brightnesses
FREE: Final = 0.3  # differences of levels that cost nothing, so that a slow change of energy keeps the loop
UNKNOWN: Final = 0.5  # share of a part's loss where the loop does not say


def misfit(asked: Levels, loops: np.ndarray) -> np.ndarray:
    """Losses of likeness, float32 [N], 0 for a loop as asked.

    Args:
        asked: parts and levels of the clip. What it leaves open costs nothing.
        loops: :attr:`Levels.row` of each loop, float32 [N, 9].
    """
    wanted = asked.row
    count = len(PARTS)
    weights = np.array([PART[part] for part in PARTS], np.float32)
    parts = np.where(np.isnan(loops[:, :count]), UNKNOWN, (loops[:, :count] >= QUIET) != (wanted[:count] >= QUIET))
    apart = np.abs(loops[:, count:] - wanted[count:]) - FREE
    levels = np.nan_to_num(apart).clip(0) * LEVEL
    return np.asarray((parts * weights)[:, ~np.isnan(wanted[:count])].sum(1) + levels.sum(1), np.float32)
