"""One channel of a recording for measurements: its mean, without a constant offset."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["centred", "mono_of"]

CANCELLED: Final = 0.03  # share of the loudest channel's power; the mean of a sound on one of two channels has 0.25


def centred(wave: NDArray[np.float32]) -> NDArray[np.float32]:
    """A recording without the constant offset of its channels, which some sound cards add.

    The offset is inaudible, but it counts as level.

    Args:
        wave: [channels, N].
    """
    if not wave.shape[1]:
        return wave
    return np.asarray(wave - wave.mean(1, keepdims=True, dtype=np.float64).astype(np.float32))


def mono_of(wave: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean of the channels, [N]; the loudest channel where they cancel each other, as with one of them inverted.

    Args:
        wave: [channels, N].
    """
    mean = np.asarray(wave.mean(0))
    if len(wave) < 2:
        return mean
    loudest = max(wave, key=_power)
    return mean if _power(mean) >= CANCELLED * _power(loudest) else loudest


def _power(channel: NDArray[np.float32]) -> float:
    return float(np.vdot(channel, channel))
