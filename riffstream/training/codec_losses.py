"""What the codec's training makes small: errors of levels, and of the amount of flicker."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["PATCH", "POOL", "codec_loss", "detail_loss", "fold", "local_rms", "wavelet"]

POOL = 4  # cells over which the energy of a band is averaged
PATCH = 16  # frames of a codec patch


def codec_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """Weighted L1 of features and of their slopes along time and frequency, which keeps onsets and partials sharp.

    Loud places weigh more; the balance counts only where something sounds.
    """
    weight = _weight(wanted)
    error = made - wanted
    total = (weight * error.abs()).mean()
    for axis in (-1, -2):
        inner = weight.narrow(axis, 1, weight.shape[axis] - 1)
        total = total + 0.5 * (inner * error.diff(dim=axis).abs()).mean()
    return total


def detail_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """Distance of the local energies of both in the bands of a Haar wavelet, three octaves along both axes.

    The error of single points is smallest where a network blurs what it cannot know. This one is smallest where the
    *amount* of flicker is right, around each place and at each scale, whatever its course (the idea of texture losses:
    Portilla & Simoncelli 2000). A network that pays it with the same dots in every patch is caught by looking at each
    place of a patch over all patches of a row: neither the error's mean nor the energies may stand out there.
    """
    weight = _weight(wanted)
    error = fold(weight * (made - wanted), PATCH).mean(-2)
    total = 2 * error.abs().mean()
    for octave, (one, other) in enumerate(zip(wavelet(made), wavelet(wanted), strict=True), 1):
        weight = F.avg_pool2d(weight, 2)
        places = F.avg_pool2d(weight, POOL)[:, :, None]
        total = total + (places * (local_rms(one) - local_rms(other)).abs()).mean()
        folded = [_folded_rms(weight[:, :, None] * bands.square(), PATCH >> octave) for bands in (one, other)]
        total = total + (folded[0] - folded[1]).abs().mean()
    return total


def _weight(wanted: Tensor) -> Tensor:
    level = wanted[:, :1].detach()
    return torch.cat([0.25 + 0.5 * level, 0.25 * level], dim=1)


def wavelet(x: Tensor, octaves: int = 3) -> list[Tensor]:
    """[B, 2, 3, M / 2**k, T / 2**k] for k = 1 to ``octaves``: rises in frequency, in time, and in both."""
    bands = []
    for _ in range(octaves):
        a, b, c, d = x[..., ::2, ::2], x[..., ::2, 1::2], x[..., 1::2, ::2], x[..., 1::2, 1::2]
        bands.append(torch.stack([a + b - c - d, a - b + c - d, a - b - c + d], dim=2) / 2)
        x = (a + b + c + d) / 2
    return bands


def local_rms(bands: Tensor) -> Tensor:
    """Root mean square over squares of ``POOL`` cells; the small constant keeps its slope finite at silence."""
    b, sides, kinds, height, width = bands.shape
    energy = F.avg_pool2d(bands.square().flatten(1, 2), POOL)
    return (energy.view(b, sides, kinds, height // POOL, width // POOL) + 1e-4).sqrt()


def fold(x: Tensor, period: int) -> Tensor:
    """[..., T] to [..., T / period, period]."""
    return x.reshape(*x.shape[:-1], -1, period)


def _folded_rms(energy: Tensor, period: int) -> Tensor:
    """[B, 2, 3, h, period]: root mean square over the columns that are ``period`` apart."""
    return (fold(energy, period).mean(-2) + 1e-4).sqrt()
