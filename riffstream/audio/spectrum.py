"""Spectrum pictures for display, with a logarithmic frequency axis. They cannot be converted back to audio."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["loudness_picture"]

LOWEST_HZ, HIGHEST_HZ = 40.0, 16_000.0
RANGE_DB = 70.0
WINDOW = 4096


def loudness_picture(mono: NDArray[np.float32], width: int, height: int, *, rate: int = 48_000) -> NDArray[np.float32]:
    """Loudness over time and pitch.

    Args:
        mono: [N] float32, N >= 1.
        width: of the picture in pixels.
        height: of the picture in pixels.
        rate: samples a second.

    Returns:
        [height, width] float32, the highest frequency first: 1 at the loudest point, 0 at 70 dB below it or less.
    """
    padded = np.pad(mono, WINDOW // 2)
    at = (np.arange(width) * len(mono) / width).astype(int)
    rows = np.geomspace(LOWEST_HZ, HIGHEST_HZ, height) / rate * WINDOW
    low = rows.astype(int)
    share = (rows - low).astype(np.float32)
    taper = np.hanning(WINDOW).astype(np.float32)
    views = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)
    picture = np.empty((height, width), np.float32)
    for first in range(0, width, 64):  # a few megabytes at a time
        part = slice(first, first + 64)
        decibels = 20 * np.log10(np.abs(np.fft.rfft(views[at[part]] * taper)) + 1e-6)
        picture[:, part] = (decibels[:, low] * (1 - share) + decibels[:, low + 1] * share).T[::-1]
    shown: NDArray[np.float32] = np.clip(1 - (picture.max() - picture) / RANGE_DB, 0, 1)
    return shown
