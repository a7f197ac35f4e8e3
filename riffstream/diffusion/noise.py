"""Noise latents from seeds, and the way between two of them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["NoiseStream", "gaussian", "slerp"]

PARALLEL = 0.9995  # |cosine| from which the great circle is numerically a straight line (Riffusion's value)


def gaussian(seed: int, shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise of a seed, float32 on the CPU: the same numbers whatever device the model is on."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def slerp(alpha: float, start: Tensor, end: Tensor) -> Tensor:
    """Spherical interpolation of two noise latents as whole vectors (Shoemake 1985), float32.

    Gaussian noise lives on a shell: along the great circle its variance stays 1, where a straight line would dip to
    1/2 half way. Nearly parallel (or opposite) vectors are interpolated on the straight line.

    Args:
        alpha: 0 (start) to 1 (end).
        start, end: any equal shapes.
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
    """The noise of one clip: draw after draw, each on the great circle between the two seeds' draws.

    A clip owns its stream, so what it draws does not depend on the clips it shares a batch with; and since every draw
    moves smoothly with alpha, stochastic samplers keep a journey as continuous as deterministic ones do.

    Args:
        start, end: seeds; alpha: 0 (start) to 1 (end).
        shape: of a draw.
        limit: deviations at which numbers are cut, all then scaled to variance 1; None: not at all. A few steps of a
            small network do not smooth out what lies far off, and a clip that continues another carries it on.
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
        """The next noise, float32 on the CPU; the first is the clip's initial noise."""
        drawn = torch.randn(self._shape, generator=self._start)
        if self._end is not None:
            drawn = slerp(self._alpha, drawn, torch.randn(self._shape, generator=self._end))
        return drawn if self._limit is None else drawn.clamp(-self._limit, self._limit) / _spread(self._limit)


def _spread(limit: float) -> float:
    """Standard deviation of a normal variable that is cut at +-limit."""
    beyond = math.erfc(limit / math.sqrt(2))
    density = math.exp(-(limit**2) / 2) / math.sqrt(2 * math.pi)
    return math.sqrt(1 - beyond - 2 * limit * density + limit**2 * beyond)
