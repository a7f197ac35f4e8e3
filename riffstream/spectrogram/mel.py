"""The mel scale: filter banks from linear frequency bins to mel bins."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from riffstream.spectrogram.params import SpectrogramParams

__all__ = ["centre_frequencies", "corner_frequency", "filterbank"]

HTK_CORNER_HZ = 700.0
SLANEY_CORNER_HZ, SLANEY_STEP_HZ, SLANEY_LOG_STEP = 1000.0, 200.0 / 3, math.log(6.4) / 27


def corner_frequency(max_frequency: float, min_frequency: float, count: int, spacing: float) -> float:
    """Corner f0 of the scale ``log(1 + f / f0)`` on which ``count`` filters lie no closer than ``spacing`` Hertz.

    htk's scale has f0 = 700 Hz, which suits an ear; with many filters over a short window it puts them closer in the
    bass than the window resolves. A higher corner makes the scale more linear, so the spacing at the bottom,
    ``(f0 + min) * log((f0 + max) / (f0 + min)) / (count + 1)``, grows with it. The result is htk's corner where that
    already suffices, and a practically linear scale where no corner does.
    """

    def lowest(f0: float) -> float:
        step = math.log((f0 + max_frequency) / (f0 + min_frequency)) / (count + 1)
        return (f0 + min_frequency) * math.expm1(step)

    low, high = HTK_CORNER_HZ, 1e7
    if lowest(low) >= spacing:
        return low
    if lowest(high) < spacing:
        return high
    for _ in range(80):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if lowest(middle) < spacing else (low, middle)
    return high


def centre_frequencies(params: SpectrogramParams) -> Tensor:
    """Edges and centres of the mel filters in Hertz, float32 [num_frequencies + 2], equally spaced in mel.

    Filter m rises from entry m to its peak at entry m + 1 and falls to entry m + 2. Computed in float32 in
    torchaudio's order: at 2.5 Hz a bin the rounding of the narrowest filters shows in the parity data.
    """
    low, high, count = float(params.min_frequency), float(params.max_frequency), params.num_frequencies
    if params.mel_scale_type == "window":
        corner = corner_frequency(high, low, count, params.sample_rate / params.window)
        steps = torch.linspace(math.log1p(low / corner), math.log1p(high / corner), count + 2, dtype=torch.float64)
        return (corner * torch.expm1(steps)).float()
    if params.mel_scale_type == "htk":
        mels = torch.linspace(_htk_mel(low), _htk_mel(high), count + 2)
        return HTK_CORNER_HZ * (10.0 ** (mels / 2595.0) - 1.0)
    mels = torch.linspace(_slaney_mel(low), _slaney_mel(high), count + 2)
    knee = SLANEY_CORNER_HZ / SLANEY_STEP_HZ
    above = SLANEY_CORNER_HZ * torch.exp(SLANEY_LOG_STEP * (mels - knee))
    return torch.where(mels < knee, mels * SLANEY_STEP_HZ, above)


def _htk_mel(hz: float) -> float:
    return 2595.0 * math.log10(1.0 + hz / HTK_CORNER_HZ)


def _slaney_mel(hz: float) -> float:
    if hz < SLANEY_CORNER_HZ:
        return hz / SLANEY_STEP_HZ
    return SLANEY_CORNER_HZ / SLANEY_STEP_HZ + math.log(hz / SLANEY_CORNER_HZ) / SLANEY_LOG_STEP


@lru_cache(maxsize=16)
def filterbank(params: SpectrogramParams) -> Tensor:
    """Triangular mel filters on the bins of ``params.n_fft``, equal to torchaudio's ``melscale_fbanks``.

    Returns:
        [n_bins, num_frequencies] float32, >= 0, shared and not to be written to; mel = linear magnitudes @ filters.
    """
    edges = centre_frequencies(params)
    bins = torch.linspace(0, params.sample_rate // 2, params.n_bins)
    widths = edges[1:] - edges[:-1]
    slopes = edges[None, :] - bins[:, None]
    rising, falling = -slopes[:, :-2] / widths[:-1], slopes[:, 2:] / widths[1:]
    filters = torch.minimum(rising, falling).clamp_min(0)
    if params.mel_scale_norm == "slaney":
        filters = filters * (2.0 / (edges[2:] - edges[:-2]))
    return filters
