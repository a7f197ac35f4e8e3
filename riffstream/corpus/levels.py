"""Level and brightness of mel spectrograms, without scipy.

Mel amplitudes are those of ``SpectrogramParams.mini()``: [2, 256, T], 64 frames a beat.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from riffstream.spectrogram.mel import centre_frequencies
from riffstream.spectrogram.params import SpectrogramParams

__all__ = ["bin_hertz", "brightness_octaves", "loudness_db"]


@lru_cache(maxsize=1)
def bin_hertz() -> np.ndarray:
    """Centre of each mel bin in Hz, [256]."""
    return np.asarray(centre_frequencies(SpectrogramParams.mini()).numpy()[1:-1])


def loudness_db(mel: np.ndarray) -> float:
    """Level of a clip: RMS over frames of the summed mel amplitudes, in dB."""
    return float(10 * np.log10((mel**2).sum((0, 1)).mean() + 1e-12))


def brightness_octaves(mel: np.ndarray) -> float:
    """Mean of the octave (log2 of Hertz) weighted by the amplitudes; 0 for silence."""
    weight = mel.sum((0, 2))
    octaves = np.log2(np.maximum(bin_hertz(), 20.0))
    return float((weight * octaves).sum() / weight.sum()) if weight.sum() > 0 else 0.0
