"""Losses of the codec: errors point by point, and the amount of detail whatever its course."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["PATCH", "POOL", "band_loss", "codec_loss", "detail_loss", "fold", "local_rms", "wavelet"]

POOL = 4  # side of the square for averages of a band's energy, in cells
PATCH = 16  # frames of a codec patch
# Low rows hold bass and the lower partials, a full band of which is a few frequency bins wide. An independent tagger
# hears errors there most: with them alone mended its profile of a clip rises from 0.948 to 0.987 of the original's,
# with the three other quarters mended to 0.965, 0.952 and 0.948. Flicker of another course is such an error.
LOW, ALL = 3 / 16, 3 / 8  # shares of the rows: up to LOW they are low, from ALL on they are not
BANDS = ((2, 1), (4, 1), (4, 4), (16, 1))  # rows and frames whose energy is compared
LOW_ERRORS, LOW_DETAIL = 2.0, 0.5  # weights of low rows relative to those of high ones


def codec_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """Weighted L1 of features and of their slopes along time and frequency. The slopes keep onsets and partials sharp.

    Loud places have more weight, and low rows. The stereo balance counts only in audible places.
    """
    weight = _weight(wanted) * _rows(wanted, LOW_ERRORS)
    error = made - wanted
    total = (weight * error.abs()).mean()
    for axis in (-1, -2):
        inner = weight.narrow(axis, 1, weight.shape[axis] - 1)
        total = total + 0.5 * (inner * error.diff(dim=axis).abs()).mean()
    return total


def detail_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """Distance of the local energies of both in the bands of a Haar wavelet, over three octaves on both axes.

    A pointwise error rewards blur of unpredictable detail. This loss rewards the right *amount* of fluctuation around
    each place and at each scale, independent of its course, as texture losses do (Portilla & Simoncelli 2000). A
    network could meet it with equal dots in every patch. Therefore the loss also compares each place of a patch over
    all patches of a row: neither the mean error nor the energies may stand out. Low rows have less weight.
    """
    weight = _weight(wanted) * _rows(wanted, LOW_DETAIL)
    error = fold(weight * (made - wanted), PATCH).mean(-2)
    total = 2 * error.abs().mean()
    for octave, (one, other) in enumerate(zip(wavelet(made), wavelet(wanted), strict=True), 1):
        weight = F.avg_pool2d(weight, 2)
        places = F.avg_pool2d(weight, POOL)[:, :, None]
        total = total + (places * (local_rms(one) - local_rms(other)).abs()).mean()
        folded = [_folded_rms(weight[:, :, None] * bands.square(), PATCH >> octave) for bands in (one, other)]
        total = total + (folded[0] - folded[1]).abs().mean()
    return total


def band_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """Distance of the levels of wider bands: of the energy in rectangles of 2 x 1, 4 x 1, 4 x 4 and 16 x 1 cells.

    Neighbouring rows share a band of the ear, and their sum is better known than each of them. The errors of single
    cells reward a median of both, which is quieter than the sum. Spectral losses at several resolutions are common
    (Engel et al. 2020, arXiv:2001.04643).
    """
    total = made.new_zeros(())
    for shape in BANDS:
        weight = F.avg_pool2d(_weight(wanted)[:, :1], shape)
        one, other = (F.avg_pool2d(torch.pow(100.0, x[:, :1].clamp(0, 5)), shape).log() for x in (made, wanted))
        total = total + (weight * (one - other).abs()).mean() / math.log(100.0)
    return total


def _weight(wanted: Tensor) -> Tensor:
    level = wanted[:, :1].detach()
    return torch.cat([0.25 + 0.5 * level, 0.25 * level], dim=1)


def _rows(wanted: Tensor, low: float) -> Tensor:
    """Weights of the rows, [M, 1], with mean 1: ``low`` times as large for low rows."""
    place = (torch.arange(wanted.shape[-2], device=wanted.device) + 0.5) / wanted.shape[-2]
    weight = torch.lerp(
        torch.tensor(low, device=wanted.device), torch.ones(()).to(wanted), ((place - LOW) / (ALL - LOW)).clamp(0, 1)
    )
    return (weight / weight.mean())[:, None]


def wavelet(x: Tensor, octaves: int = 3) -> list[Tensor]:
    """Haar bands [B, 2, 3, M / 2**k, T / 2**k] for k = 1 to ``octaves``: along frequency, along time, along both."""
    bands = []
    for _ in range(octaves):
        a, b, c, d = x[..., ::2, ::2], x[..., ::2, 1::2], x[..., 1::2, ::2], x[..., 1::2, 1::2]
        bands.append(torch.stack([a + b - c - d, a - b + c - d, a - b - c + d], dim=2) / 2)
        x = (a + b + c + d) / 2
    return bands


def local_rms(bands: Tensor) -> Tensor:
    """Root mean square over squares of ``POOL`` cells; the small constant keeps the gradient finite in silence."""
    b, sides, kinds, height, width = bands.shape
    energy = F.avg_pool2d(bands.square().flatten(1, 2), POOL)
    return (energy.view(b, sides, kinds, height // POOL, width // POOL) + 1e-4).sqrt()


def fold(x: Tensor, period: int) -> Tensor:
    """Reshape [..., T] to [..., T / period, period]."""
    return x.reshape(*x.shape[:-1], -1, period)


def _folded_rms(energy: Tensor, period: int) -> Tensor:
    """Root mean square over columns at a distance of ``period``, [B, 2, 3, h, period]."""
    return (fold(energy, period).mean(-2) + 1e-4).sqrt()
