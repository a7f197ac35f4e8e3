"""The mel scale: filter banks from linear frequency bins to mel bins."""

from __future__ import annotations

import math
import warnings
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from riffstream.errors import ParameterError
from riffstream.spectrogram.params import SpectrogramParams

__all__ = ["MelInverter", "centre_frequencies", "corner_frequency", "filterbank", "treble_db", "triangles"]

HTK_CORNER_HZ = 700.0
# On CPUs with AVX-512, MKL sums products of 4, 8 ... 24 columns in another order. With this many columns or more, the
# result of a column does not depend on the number of columns.
ALIKE_COLUMNS = 32
SLANEY_CORNER_HZ, SLANEY_STEP_HZ, SLANEY_LOG_STEP = 1000.0, 200.0 / 3, math.log(6.4) / 27


def corner_frequency(max_frequency: float, min_frequency: float, count: int, spacing: float) -> float:
    """Corner f0 of the scale ``log(1 + f / f0)`` that keeps ``count`` filters at least ``spacing`` Hertz apart.

    The htk scale has f0 = 700 Hz, modelled on the ear. With many filters and a short window it places bass filters
    closer together than the window can resolve. A higher corner makes the scale more linear and widens the spacing at
    the bottom, ``(f0 + min) * log((f0 + max) / (f0 + min)) / (count + 1)``. The result is htk's corner where that is
    sufficient, and a practically linear scale where no corner is.
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

    Filter m rises from entry m to its peak at entry m + 1 and falls to entry m + 2. The computation is in float32 and
    in torchaudio's order, so that the result matches its filters.
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
    """Triangular mel filters on the bins of ``params.n_fft``: torchaudio's, or ours for the scale ``"window"``.

    Returns:
        [n_bins, num_frequencies] float32, >= 0; mel = linear magnitudes @ filters. The tensor is cached and shared:
        do not write to it.
    """
    if params.mel_scale_type == "window":
        return triangles(centre_frequencies(params), params)
    # Imported here: torchaudio takes 0.15 s, and the embedded model does not need it.
    from riffstream._torchaudio import ensure_importable

    ensure_importable()
    from torchaudio.functional import melscale_fbanks

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="At least one mel filterbank has all zero values")
        filters: Tensor = melscale_fbanks(
            params.n_bins,
            float(params.min_frequency),
            float(params.max_frequency),
            params.num_frequencies,
            params.sample_rate,
            norm=params.mel_scale_norm,
            mel_scale=params.mel_scale_type,
        )
    return filters


def treble_db(mel: Tensor) -> float:
    """Level in dB of the upper half of the bins of amplitudes [A, M, T]; at most 30 dB below that of all bins."""
    rows = mel.float().square().mean((0, 2))
    return 10 * math.log10(float(rows[len(rows) // 2 :].mean()) + 1e-3 * float(rows.mean()) + 1e-12)


def triangles(edges: Tensor, params: SpectrogramParams) -> Tensor:
    """Triangular filters [n_bins, M] float32 between ``edges`` [M + 2] in Hertz, on the bins of ``params.n_fft``."""
    bins = torch.linspace(0, params.sample_rate // 2, params.n_bins)
    widths = edges[1:] - edges[:-1]
    slopes = edges[None, :] - bins[:, None]
    rising, falling = -slopes[:, :-2] / widths[:-1], slopes[:, 2:] / widths[1:]
    filters = torch.minimum(rising, falling).clamp_min(0)
    if params.mel_scale_norm == "slaney":
        filters = filters * (2.0 / (edges[2:] - edges[:-2]))
    return filters


class MelInverter:
    """Inversion of the mel filter bank: non-negative linear magnitudes that match the mel amplitudes to 0.2 %.

    The filter bank has more bins than filters, so many spectra match one mel frame. The inversion starts from the
    smoothest spectrum, in which each bin is the weighted mean of its filters' levels. Multiplicative updates of the
    Richardson-Lucy kind, ``x <- x * back(mel / forward(x))**1.5``, refine it. They keep it positive and correct every
    bin by a smooth factor, so that no band is emptied as by a clamped pseudo-inverse (the exponent 1.5 over-relaxes;
    values below 2 are stable). One least-squares step then removes the remaining residual, but never more than four
    fifths of a bin. All matrices are banded: the cost is that of reading the spectrum a few times.

    Args:
        params: the spectrogram's parameters; the bins are those of ``params.n_fft``.
        updates: number of multiplicative updates; 2 leave a residual of 0.1 to 0.2 %.
        device: torch device of the tensors.
    """

    def __init__(self, params: SpectrogramParams, *, updates: int = 2, device: torch.device | str = "cpu") -> None:
        if updates < 0:
            raise ParameterError("updates", updates, "0 or more")
        filters = filterbank(params).double()  # [n_bins, M]
        used = filters.sum(1).nonzero().flatten()
        self.updates = updates
        self.n_bins = params.n_bins
        self.n_mels = params.num_frequencies
        self.centres = centre_frequencies(params)[1:-1]  # Hz, of the filters
        self.hz_per_bin = params.sample_rate / params.n_fft
        self.first, self.last = int(used[0]), int(used[-1]) + 1
        filters = filters[self.first : self.last]
        weight = filters.sum(1, keepdim=True).clamp_min(1e-12)
        # Only neighbouring filters overlap, so the Gram matrix is tridiagonal and its inverse decays within a few
        # filters. Empty filters would make it singular.
        gram = filters.T @ filters
        inverse = torch.linalg.inv(gram + 1e-6 * gram.diag().mean() * torch.eye(self.n_mels, dtype=gram.dtype))
        inverse[inverse.abs() < 1e-4 * inverse.diag()[:, None]] = 0
        self._level = filters.sum(0).clamp_min(1e-9).reciprocal().float().to(device)[:, None]
        self._weight = weight.float().to(device)
        self._forward = _banded(filters.T, device)
        self._back = _banded(filters / weight, device)
        self._solve = _banded(inverse, device)

    def band(self, mel: Tensor) -> Tensor:
        """Linear magnitudes of the bins ``first`` to ``last - 1``, the range of the filters.

        Args:
            mel: [M, N] float32 >= 0, one frame a column.

        Returns:
            [last - first, N] float32 >= 0. Each column is bit for bit independent of the others.
        """
        frames = mel.shape[1]
        if frames < ALIKE_COLUMNS:
            mel = F.pad(mel, (0, ALIKE_COLUMNS - frames))
        linear: Tensor = self._back @ (mel * self._level)
        for _ in range(self.updates):
            factor = self._back @ (mel / (self._forward @ linear).clamp_min_(1e-20))
            linear.mul_(factor).mul_(factor.sqrt_())
        rest = self._back @ (self._solve @ (mel - self._forward @ linear))
        return torch.maximum(rest.mul_(self._weight).add_(linear), linear.mul_(0.2))[:, :frames]

    def __call__(self, mel: Tensor) -> Tensor:
        """Linear magnitudes [..., n_bins, T] of mel amplitudes [..., M, T]; zero outside the filters' range."""
        if mel.shape[-2] != self.n_mels:
            raise ParameterError("mel", tuple(mel.shape), f"[..., {self.n_mels}, T]")
        lead, frames = mel.shape[:-2], mel.shape[-1]
        columns = mel.reshape(-1, self.n_mels, frames).transpose(0, 1).reshape(self.n_mels, -1)
        linear = self.band(columns.float().contiguous()).reshape(self.last - self.first, -1, frames)
        whole = linear.new_zeros(self.n_bins, linear.shape[1], frames)
        whole[self.first : self.last] = linear
        return whole.transpose(0, 1).reshape(*lead, self.n_bins, frames)


def _banded(matrix: Tensor, device: torch.device | str) -> Tensor:
    matrix = matrix.float().contiguous()
    if torch.device(device).type not in ("cpu", "cuda"):
        return matrix.to(device)  # Metal has no sparse products
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*[Ss]parse.*")  # torch calls its CSR layout beta
        return matrix.to_sparse_csr().to(device)
