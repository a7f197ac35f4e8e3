"""Linear spectra for the synthesis, transposed by moving spectral peaks."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from riffstream.spectrogram.mel import MelInverter

__all__ = ["MAX_KEY", "Spectrum", "transpose"]

MAX_KEY = 6.0  # semitones


class Spectrum:
    """Conversion of mel amplitudes to magnitudes on the synthesis bins, which may be coarser than the inversion's.

    Args:
        inverter: mel inversion on the bins of ``n_fft``.
        n_fft: length of the inversion's Fourier transform in samples.
        window: length of the synthesis window in samples. If ``n_fft`` is a multiple of it, bins are picked without
            interpolation.
    """

    def __init__(self, inverter: MelInverter, n_fft: int, window: int, device: torch.device | str = "cpu") -> None:
        self._inverter = inverter
        ratio = n_fft / window
        self.bins = min(math.ceil((inverter.last - 1) / ratio) + 2, window // 2 + 1)
        place = torch.arange(self.bins, dtype=torch.float64) * ratio
        share = (place - place.floor()).float()
        last = inverter.last - inverter.first - 1
        lower, upper = place.floor().long() - inverter.first, place.floor().long() + 1 - inverter.first
        # Bins outside the filters' range are 0.
        self._lower_weight = ((1 - share) * ((lower >= 0) & (lower <= last))).to(device)[:, None]
        self._upper_weight = (share * ((upper >= 0) & (upper <= last))).to(device)[:, None]
        self._between = bool(self._upper_weight.any())
        self._lower, self._upper = lower.clamp(0, last).to(device), upper.clamp(0, last).to(device)
        self._hz = (place * inverter.hz_per_bin).float().to(device)
        self._centres = inverter.centres.to(device)

    def __call__(self, mel: Tensor, key: float = 0.0) -> Tensor:
        """Magnitudes [B, A, t, bins] of mel amplitudes [B, A, M, t], ``key`` semitones higher.

        Negative and non-finite amplitudes count as 0. Peaks that leave the range of the mel scale are dropped.
        """
        batch, channels, mels, frames = mel.shape
        columns = mel.permute(2, 0, 1, 3).reshape(mels, -1)
        band = self._inverter.band(columns.nan_to_num(0.0, 0.0, 0.0).clamp_min_(0))
        rows = band.index_select(0, self._lower).mul_(self._lower_weight)
        if self._between:
            rows += band.index_select(0, self._upper).mul_(self._upper_weight)
        magnitudes = rows.t().contiguous()
        if key:
            magnitudes = transpose(magnitudes, key)
        return magnitudes.reshape(batch, channels, frames, self.bins)

    def share(self, mask: Tensor, key: float = 0.0) -> Tensor:
        """Values [t, bins] of a mask [M, t] over mel bins, ``key`` semitones higher, interpolated between bins."""
        hz = self._hz / 2.0 ** (key / 12)
        upper = torch.searchsorted(self._centres, hz).clamp(1, len(self._centres) - 1)
        below, above = self._centres[upper - 1], self._centres[upper]
        part = ((hz - below) / (above - below)).clamp(0, 1)[:, None]
        mask = mask.to(self._hz.device, torch.float32)
        return torch.lerp(mask.index_select(0, upper - 1), mask.index_select(0, upper), part).t()


def transpose(magnitudes: Tensor, key: float) -> Tensor:
    """Move every spectral peak by ``key`` semitones and keep its shape.

    Stretching the whole frequency axis would also stretch the window's main lobe around each partial: the bass would be
    out of tune by up to a quarter tone, and levels would change. So each peak moves with the bins around it (Laroche
    and Dolson, "New phase-vocoder techniques for pitch-shifting", 1999). Fractions of a bin are interpolated with
    cubics on the square root of the magnitudes, where lobes are smooth. The error is 0.02 bins on average, 0.04 at
    most.

    Args:
        magnitudes: [N, F] float32 >= 0, from 0 Hz up.
        key: semitones.

    Returns:
        [N, F] float32 >= 0.
    """
    ratio = 2.0 ** (key / 12)
    count, bins = magnitudes.shape
    index = torch.arange(bins, device=magnitudes.device).expand(count, bins)
    edge = magnitudes.new_zeros(count, 1)
    left = torch.cat((edge, magnitudes[:, :-1]), 1)
    right = torch.cat((magnitudes[:, 1:], edge), 1)
    peak = (magnitudes >= left) & (magnitudes > right)
    # The peak that each bin leads up to.
    below, above = _latest(index, peak), _next(index, peak)
    own = torch.where((left > right) & (below >= 0) | (above >= bins), below, above)
    own = torch.where(peak, index, own).clamp_(0, bins - 1)
    first = torch.ones_like(peak)
    first[:, 1:] = own[:, 1:] != own[:, :-1]
    last = torch.ones_like(peak)
    last[:, :-1] = first[:, 1:]
    low, high = _latest(index, first).float(), _next(index, last).float()

    # Source of each result bin: the bin that lands there gives the peak, the shift of the peak gives the position.
    target = torch.arange(bins, device=magnitudes.device)
    source = (target / ratio).round().long()
    audible = source < bins
    source = source.clamp_max(bins - 1)
    centre = (index + _vertex(left, magnitudes, right)).gather(1, own.index_select(1, source))
    place = target - centre * (ratio - 1)
    place = torch.maximum(torch.minimum(place, high.index_select(1, source)), low.index_select(1, source))
    moved: Tensor = _cubic(magnitudes.sqrt(), place).square_() * audible
    return moved


def _latest(index: Tensor, marked: Tensor) -> Tensor:
    """The last marked bin at or before each bin; -1 where there is none."""
    return index.masked_fill(~marked, -1).cummax(-1).values


def _next(index: Tensor, marked: Tensor) -> Tensor:
    """The first marked bin at or after each bin; the number of bins where there is none."""
    return index.masked_fill(~marked, index.shape[-1]).flip(-1).cummin(-1).values.flip(-1)


def _vertex(left: Tensor, middle: Tensor, right: Tensor) -> Tensor:
    """Offset in bins, -0.5 to 0.5, of the summit of the parabola through three log-magnitudes."""
    floor = middle.clamp_min(1e-30) * 1e-4
    before, here, after = (torch.maximum(value, floor).log() for value in (left, middle, right))
    bend = before - 2 * here + after
    return torch.where(bend < -1e-6, 0.5 * (before - after) / bend.clamp_max(-1e-6), 0.0).clamp_(-0.5, 0.5)


def _cubic(values: Tensor, place: Tensor) -> Tensor:
    """Catmull-Rom interpolation of values [N, F] at fractional bins [N, F], not below 0."""
    bins = values.shape[-1]
    floor = place.floor()
    t, base = place - floor, floor.long()
    a, b, c, d = (values.gather(1, (base + k).clamp_(0, bins - 1)) for k in (-1, 0, 1, 2))
    bend = 2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)
    return (b + 0.5 * t * (c - a + t * bend)).clamp_min_(0)
