"""Linear spectra for the synthesis, transposed: the frequency axis stretched by a number of semitones."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from riffstream.spectrogram.mel import MelInverter

__all__ = ["MAX_KEY", "Spectrum"]

MAX_KEY = 6.0  # semitones


class Spectrum:
    """Mel amplitudes to magnitudes on the synthesis bins, through the inversion's.

    Args:
        inverter: mel inversion.
        n_fft: its Fourier transform's length.
        window: the synthesis's.
    """

    def __init__(self, inverter: MelInverter, n_fft: int, window: int) -> None:
        self.inverter = inverter
        self.ratio = n_fft / window
        self.bins = min(math.ceil((inverter.last - 1) / self.ratio) + 2, window // 2 + 1)

    def __call__(self, mel: Tensor, key: float = 0.0) -> Tensor:
        """Magnitudes [B, A, t, bins] of mel [B, A, M, t], ``key`` semitones higher.

        Whatever leaves the mel scale's range is dropped; a louder or softer sound does not come of transposing.
        """
        batch, channels, mels, frames = mel.shape
        columns = mel.permute(2, 0, 1, 3).reshape(mels, -1)
        band = self.inverter.band(torch.nan_to_num(columns, posinf=0.0).clamp_min_(0))
        lower, upper, weight = _neighbours(self, key)
        rows = band.index_select(0, lower.to(band.device)) * (1 - weight).to(band.device)
        if bool(weight.any()):
            rows += band.index_select(0, upper.to(band.device)) * weight.to(band.device)
        return rows.t().reshape(batch, channels, frames, self.bins)


@lru_cache(maxsize=64)
def _neighbours(spectrum: Spectrum, key: float) -> tuple[Tensor, Tensor, Tensor]:
    inverter = spectrum.inverter
    place = torch.arange(spectrum.bins, dtype=torch.float64) * (spectrum.ratio * 2 ** (-key / 12))
    floor = place.floor()
    weight = place - floor
    lower, upper = floor.long() - inverter.first, floor.long() + 1 - inverter.first
    count = inverter.last - inverter.first
    return lower.clamp(0, count - 1), upper.clamp(0, count - 1), weight[:, None].float()
