"""Noise latents from seeds, and interpolation between two seeds."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["NoiseStream", "gaussian", "limited", "slerp"]

PARALLEL = 0.9995  # |cosine| above which the great circle is numerically a straight line (Riffusion's value)


def gaussian(seed: int, shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise of a seed, float32 on the CPU, so that the values do not depend on the device."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def slerp(alpha: float, start: Tensor, end: Tensor) -> Tensor:
    """Spherical interpolation of two noise latents as whole vectors (Shoemake 1985), float32.

    On the great circle the variance of Gaussian noise stays 1; on a straight line it would fall to 1/2 half way. Nearly
    parallel (or opposite) vectors are interpolated linearly.

    Args:
        alpha: 0 (start) to 1 (end).
        start, end: tensors of equal shape.
    """
    if alpha == 0 or start is end:
        return start
    if alpha == 1:
        return end
    a, b = start.double(), end.double()
    cosine = float((a * b).sum() / (a.norm() * b.norm()))
    if not abs(cosine) <= PARALLEL:  # also where a vector is zero and the cosine is NaN
        return torch.lerp(a, b, alpha).float()
    angle = torch.acos(torch.tensor(cosine, dtype=torch.float64))
    return ((((1 - alpha) * angle).sin() * a + (alpha * angle).sin() * b) / angle.sin()).float()


class NoiseStream:
    """Sequence of noise draws for one clip, each interpolated on the great circle between those of two seeds.

    Each clip has its own stream, so that its noise does not depend on the other clips of a batch. Every draw changes
    smoothly with alpha: journeys are as continuous with stochastic samplers as with deterministic ones.

    Args:
        start: first seed.
        end: second seed.
        alpha: 0 (start) to 1 (end).
        shape: shape of a draw.
        limit: clip values at this many standard deviations, then scale to variance 1; None: no limit. A small network
            with few steps does not smooth out large values, and continued clips carry them on.
    """

    def __init__(
        self, start: int, end: int, alpha: float, shape: tuple[int, ...], *, limit: float | None = None
    ) -> None:
        self._alpha = alpha
        self._shape = shape
        self._limit = limit
        self._start = torch.Generator().manual_seed(start)
        self._end = None if end == start or alpha == 0 else torch.Generator().manual_seed(end)

    def draw(self) -> Tensor:
        """Next draw, float32 on the CPU; the first draw is the clip's initial noise."""
        drawn = torch.randn(self._shape, generator=self._start)
        if self._end is not None:
            drawn = slerp(self._alpha, drawn, torch.randn(self._shape, generator=self._end))
        return drawn if self._limit is None else limited(drawn, self._limit)


def limited(noise: Tensor, limit: float) -> Tensor:
    """Standard normal noise clipped at +-``limit``, scaled to variance 1."""
    return noise.clamp(-limit, limit) / _spread(limit)


def _spread(limit: float) -> float:
    """Standard deviation of a normal variable clipped at +-limit."""
    beyond = math.erfc(limit / math.sqrt(2))
    density = math.exp(-(limit**2) / 2) / math.sqrt(2 * math.pi)
    return math.sqrt(1 - beyond - 2 * limit * density + limit**2 * beyond)
