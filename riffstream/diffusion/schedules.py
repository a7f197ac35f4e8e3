"""Noise levels, and the times at which a sampler evaluates the network.

At noise level (alpha, sigma) a latent is ``x = alpha * x_0 + sigma * noise``. All latents in the engine have this form
with every sampler. For networks trained with betas ``alpha^2 + sigma^2 = 1``; latents in the usual units of Euler and
Heun, ``sigma / alpha``, differ by the factor alpha. For rectified flow ``alpha + sigma = 1``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple, TypeVar

import numpy as np
import torch

from riffstream.diffusion.family import TrainingSchedule
from riffstream.errors import ParameterError

__all__ = [
    "CLEAN",
    "Level",
    "Path",
    "Spacing",
    "alphas_cumprod",
    "flow_path",
    "lcm_path",
    "leading_path",
    "shifted",
    "sigma_path",
    "unshifted",
]

Spacing = Literal["linspace", "leading", "trailing"]
Place = TypeVar("Place", float, torch.Tensor)
Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


class Level(NamedTuple):
    """A noise level: the shares of signal and noise."""

    alpha: float
    sigma: float

    @property
    def ratio(self) -> float:
        """sigma / alpha; inf for pure noise."""
        return self.sigma / self.alpha if self.alpha > 0 else math.inf

    @property
    def log_snr(self) -> float:
        """log(alpha / sigma), lambda in DPM-Solver's papers. Pure noise counts as alpha = 1e-6, to stay finite."""
        return math.log(max(self.alpha, 1e-6) / self.sigma) if self.sigma > 0 else math.inf


CLEAN = Level(1.0, 0.0)


@dataclass(frozen=True, slots=True)
class Path:
    """Evaluation points from noise to music.

    Attributes:
        times: time input of the network at each point, descending: training indices, or t in [0, 1].
        levels: noise levels of the points and of the end (one more than ``times``).
        training: training schedule of the network.
        stride: training steps from one point to the next (samplers of the training grid only).
    """

    times: tuple[float, ...]
    levels: tuple[Level, ...]
    training: TrainingSchedule
    stride: int = 0

    def spans(self) -> Iterator[tuple[float, Level, Level]]:
        """(time, level, next level) of each point."""
        return zip(self.times, self.levels[:-1], self.levels[1:], strict=True)

    def last(self, count: int) -> Path:
        """The last ``count`` points, for a partly noisy start."""
        return Path(self.times[-count:], self.levels[-count - 1 :], self.training, self.stride)


@lru_cache(maxsize=16)
def alphas_cumprod(training: TrainingSchedule) -> Floats:
    """alpha^2 at each training index, [train_steps] float64. The product is in float32, as in training."""
    n = training.train_steps
    if training.beta_schedule == "linear":
        betas = torch.linspace(training.beta_start, training.beta_end, n, dtype=torch.float32)
    elif training.beta_schedule == "scaled_linear":
        betas = torch.linspace(training.beta_start**0.5, training.beta_end**0.5, n, dtype=torch.float32) ** 2
    else:  # Nichol & Dhariwal 2021, arXiv:2102.09672, eq. 17
        bars = [math.cos((k / n + 0.008) / 1.008 * math.pi / 2) ** 2 for k in range(n + 1)]
        betas = torch.tensor([min(1 - bars[k + 1] / bars[k], 0.999) for k in range(n)], dtype=torch.float32)
    return torch.cumprod(1.0 - betas, dim=0).double().numpy()


def level_at(training: TrainingSchedule, index: int) -> Level:
    """Noise level of a training index; the end of the training grid for a negative index."""
    square = 1.0 if index < 0 and training.set_alpha_to_one else float(alphas_cumprod(training)[max(index, 0)])
    return Level(math.sqrt(square), math.sqrt(1 - square))


def leading_path(training: TrainingSchedule, steps: int) -> Path:
    """Points on the training grid, ``train_steps // steps`` apart, from ``steps_offset`` upwards (DDIM, PNDM)."""
    stride = max(1, training.train_steps // steps)
    times = np.minimum(np.arange(steps) * stride + training.steps_offset, training.train_steps - 1)
    points = sorted({int(t) for t in times}, reverse=True)
    levels = [level_at(training, t) for t in points]
    return Path(tuple(map(float, points)), (*levels, level_at(training, points[-1] - stride)), training, stride)


def sigma_path(training: TrainingSchedule, steps: int, spacing: Spacing, *, whole: bool) -> Path:
    """Points spread over the training grid, ending clean (Euler, Heun, DPM-Solver++, UniPC).

    Args:
        steps: number of points; the result has fewer if rounding would repeat one.
        spacing: as in Lin et al. 2023, arXiv:2305.08891, table 2. ``linspace`` and ``trailing`` begin at the noisiest
            level, ``leading`` a step below it.
        whole: rounded training indices, and ``steps + 1`` intervals for ``linspace`` and ``leading`` (the multistep
            solvers' convention, where the last point stays off the clean end); otherwise fractional indices, with
            sigma interpolated.
    """
    n = training.train_steps
    points = steps + 1 if whole else steps
    if spacing == "linspace":
        grid: Floats = np.linspace(0, n - 1, points, dtype=np.float64)[::-1]
        if whole:
            grid = grid.round()
    elif spacing == "leading":
        grid = (np.arange(points, dtype=np.float64) * max(1, n // points))[::-1] + training.steps_offset
    else:
        grid = np.arange(n, 0, -n / steps).round() - 1.0
    times = np.clip(grid[:steps], 0, n - 1)
    if whole:
        times = np.unique(times)[::-1]
    square = alphas_cumprod(training)
    ratios = np.interp(times, np.arange(n), np.sqrt((1 - square) / square))
    levels = [Level(1 / math.sqrt(1 + r * r), r / math.sqrt(1 + r * r)) for r in map(float, ratios)]
    return Path(tuple(map(float, times)), (*levels, CLEAN), training)


def lcm_path(training: TrainingSchedule, steps: int, denoising: float = 1.0, grid: int = 50) -> Path:
    """``steps`` points of the grid on which consistency models are distilled, up to ``denoising`` of the way.

    Luo et al. 2023, arXiv:2310.04378.

    Raises:
        ParameterError: more steps than the grid has.
    """
    origin = np.arange(1, max(1, int(grid * denoising)) + 1) * (training.train_steps // grid) - 1
    if steps > len(origin):
        raise ParameterError("steps", steps, f"1 to {len(origin)} with the lcm sampler at denoising {denoising:g}")
    chosen = origin[::-1][np.floor(np.linspace(0, len(origin), steps, endpoint=False)).astype(np.int64)]
    levels = [level_at(training, int(t)) for t in chosen]
    return Path(tuple(map(float, chosen)), (*levels, CLEAN), training)


def shifted(place: Place, shift: float) -> Place:
    """Time of a rectified flow at ``place``, 0 (music) to 1 (noise): a number or a tensor."""
    return shift * place / (1 + (shift - 1) * place)


def unshifted(t: float, shift: float) -> float:
    """The inverse of :func:`shifted`."""
    return t / (shift - (shift - 1) * t)


def flow_path(training: TrainingSchedule, steps: int, denoising: float = 1.0) -> Path:
    """Path of a rectified flow: ``steps`` intervals from t = ``denoising`` to 0, equal before the ``shift``."""
    begin = unshifted(denoising, training.shift)
    times = [shifted(begin * (steps - k) / steps, training.shift) for k in range(steps)]
    return Path(tuple(times), (*(Level(1 - t, t) for t in times), CLEAN), training)
