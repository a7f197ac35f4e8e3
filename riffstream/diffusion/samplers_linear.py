"""Samplers as matrices.

Every sampler here is linear in its inputs: the latent, the network's prediction, fresh noise, and its memory of earlier
steps. So one evaluation is a small matrix that depends on the schedule only:

    (x', memory') = matrix @ (x, prediction, noise, memory)

The matrices are computed once in float64. A batch may then hold clips at different times and with different samplers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from riffstream.diffusion.family import TrainingSchedule
from riffstream.diffusion.schedules import Floats, Level, Path, level_at

__all__ = ["Row", "ancestral", "consistency", "dpm_solver_2m", "heun", "plms", "straight", "unipc"]

X, PREDICTION, NOISE, MEMORY = 0, 1, 2, 3  # columns; memory takes the rest


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One evaluation of the network and the matrix applied to its prediction.

    Attributes:
        time: time input of the network.
        matrix: [1 + K, 3 + K] float64; rows x', memory' and columns x, prediction, noise, memory.
        level: the noise level of x'.
    """

    time: float
    matrix: Floats
    level: Level

    @property
    def draws(self) -> bool:
        """Whether the step needs fresh noise."""
        return bool(self.matrix[:, NOISE].any())


def clean_from(level: Level, training: TrainingSchedule) -> tuple[float, float]:
    """Coefficients (a, b) of the clean latent: x_0 = a x + b prediction."""
    alpha, sigma = level
    if training.prediction == "epsilon":
        return 1 / alpha, -sigma / alpha
    if training.prediction == "v_prediction":
        return alpha, -sigma
    if training.prediction == "sample":
        return 0.0, 1.0
    return 1.0, -sigma


def noise_from(level: Level, training: TrainingSchedule) -> tuple[float, float]:
    """Coefficients (a, b) of the noise in x: noise = a x + b prediction."""
    alpha, sigma = level
    if training.prediction == "epsilon":
        return 0.0, 1.0
    if training.prediction == "v_prediction":
        return sigma, alpha
    if training.prediction == "sample":
        return 1 / sigma, -alpha / sigma
    return 1.0, alpha


class _Columns:
    """Linear combinations of (x, prediction, noise, memory) with K places of memory."""

    def __init__(self, memory: int) -> None:
        self.x, self.prediction, self.noise, *self.memory = np.eye(3 + memory)

    def clean(self, level: Level, training: TrainingSchedule) -> Floats:
        a, b = clean_from(level, training)
        return a * self.x + b * self.prediction

    def fresh(self, level: Level, training: TrainingSchedule) -> Floats:
        a, b = noise_from(level, training)
        return a * self.x + b * self.prediction


def straight(path: Path) -> list[Row]:
    """x' = alpha' x_0 + sigma' noise: DDIM (Song et al. 2020, arXiv:2010.02502), and Euler's method in sigma
    (Karras et al. 2022, arXiv:2206.00364) or in the time of a rectified flow, which differ only in their points."""
    column = _Columns(0)
    rows = []
    for time, level, following in path.spans():
        clean, noise = column.clean(level, path.training), column.fresh(level, path.training)
        rows.append(Row(time, np.stack([following.alpha * clean + following.sigma * noise]), following))
    return rows


def ancestral(path: Path) -> list[Row]:
    """Euler steps to below the next level, and fresh noise up to it (k-diffusion's Euler ancestral)."""
    column = _Columns(0)
    rows = []
    for time, level, following in path.spans():
        clean, noise = column.clean(level, path.training), column.fresh(level, path.training)
        source, target = level.ratio, following.ratio
        up = target * math.sqrt(1 - (target / source) ** 2)
        down = target**2 / source
        rows.append(Row(time, np.stack([following.alpha * (clean + down * noise + up * column.noise)]), following))
    return rows


def consistency(path: Path) -> list[Row]:
    """A step to the clean latent, then fresh noise up to the next level (Luo et al. 2023, arXiv:2310.04378, alg. 3).

    For rectified flow the jump is along the predicted straight line.
    """
    column = _Columns(0)
    rows = []
    for time, level, following in path.spans():
        clean = column.clean(level, path.training)
        if path.training.kind == "ddpm":
            scaled, data = time * 10.0, 0.5  # the boundary condition that consistency models are distilled with
            clean = clean * (scaled / math.hypot(scaled, data)) + column.x * (data**2 / (scaled**2 + data**2))
        rows.append(Row(time, np.stack([following.alpha * clean + following.sigma * column.noise]), following))
    return rows


def heun(path: Path) -> list[Row]:
    """Heun's second-order method, two evaluations a step and one in the last: in sigma / alpha (Karras et al. 2022,
    alg. 1), or in the time of a rectified flow. Memory: the first slope, and x where the step began."""
    column = _Columns(2)
    slope0, x0 = column.memory
    flow = path.training.kind == "flow"

    def slope(level: Level) -> Floats:
        return column.prediction if flow else column.fresh(level, path.training)

    rows = []
    for k, (time, level, following) in enumerate(path.spans()):
        place, target = (level.sigma, following.sigma) if flow else (level.ratio, following.ratio)
        scale = 1.0 if flow else following.alpha / level.alpha
        gain = (1.0 if flow else following.alpha) * (target - place)
        euler = scale * column.x + gain * slope(level)
        rows.append(Row(time, np.stack([euler, slope(level), column.x]), following))
        if k + 1 < len(path.times):
            average = scale * x0 + gain / 2 * (slope0 + slope(following))
            rows.append(Row(path.times[k + 1], np.stack([average, slope0, x0]), following))
    return rows


def plms(path: Path) -> list[Row]:
    """PNDM without Runge-Kutta steps: Adams-Bashforth over predictions (Liu et al. 2022, arXiv:2202.09778).

    The first step is done twice, the second time with the mean slope, so there is one evaluation more than points.
    Memory: three predictions, the latest first, and x where the path began.
    """
    times = [int(t) for t in path.times]
    return plms_calls(path.training, [*times[:2], *times[1:]], path.stride)


def plms_calls(training: TrainingSchedule, calls: list[int], stride: int) -> list[Row]:
    """PLMS for an explicit list of calls, in which the second call always redoes the first one's step, as in
    diffusers: lists that lack the repeated time thereby lag one step behind (Riffusion's img2img is such a list)."""
    column = _Columns(4)
    p1, p2, p3, begin = column.memory
    p0 = column.prediction
    rows = []
    for k, call in enumerate(calls):
        start = call + stride if k == 1 else call
        level, following = level_at(training, start), level_at(training, start - stride)
        sample = begin if k == 1 else column.x
        if k == 0:
            mean = p0
        elif k == 1:
            mean = (p0 + p1) / 2
        elif k == 2:
            mean = (3 * p0 - p1) / 2
        elif k == 3:
            mean = (23 * p0 - 16 * p1 + 5 * p2) / 12
        else:
            mean = (55 * p0 - 59 * p1 + 37 * p2 - 9 * p3) / 24
        # The multistep mean is taken over raw predictions, then turned into noise at the step's own level.
        a, b = noise_from(level, training)
        noise = a * sample + b * mean
        clean = (sample - level.sigma * noise) / level.alpha
        moved = following.alpha * clean + following.sigma * noise
        kept = [p1, p2, p3] if k == 1 else [p0, p1, p2]
        rows.append(Row(float(call), np.stack([moved, *kept, column.x if k == 0 else begin]), following))
    return rows


def dpm_solver_2m(path: Path) -> list[Row]:
    """DPM-Solver++ 2M (Lu et al. 2022, arXiv:2211.01095, alg. 2), of first order where it ends clean.

    Memory: the clean latent predicted before.
    """
    column = _Columns(1)
    (before,) = column.memory
    rows = []
    for k, (time, level, following) in enumerate(path.spans()):
        clean = column.clean(level, path.training)
        decay = following.sigma * level.alpha / (following.alpha * level.sigma)  # exp(-h)
        moved = following.sigma / level.sigma * column.x + following.alpha * (1 - decay) * clean
        if k > 0 and following.sigma > 0:
            h = following.log_snr - level.log_snr
            r = (level.log_snr - path.levels[k - 1].log_snr) / h
            moved = moved + following.alpha * (1 - decay) / (2 * r) * (clean - before)
        rows.append(Row(time, np.stack([moved, clean]), following))
    return rows


def unipc(path: Path) -> list[Row]:
    """UniPC of order 2, B(h) = exp(h) - 1 (Zhao et al. 2023, arXiv:2302.04867), of first order where it ends clean.

    Each evaluation first corrects the step before it. Memory: two predicted clean latents, the latest first, and x
    before the last step."""
    column = _Columns(3)
    m1, m2, last = column.memory
    rows = []
    order = 0
    lambdas = [level.log_snr for level in path.levels]
    for k, (time, level, following) in enumerate(path.spans()):
        clean = column.clean(level, path.training)
        x = column.x
        if k > 0:
            x = _unipc_correct(path, lambdas, k, order, (last, m1, m2, clean))
        order = min(2, order + 1) if following.sigma > 0 else 1
        gain = following.alpha * -math.expm1(lambdas[k] - lambdas[k + 1])
        moved = following.sigma / level.sigma * x + gain * clean
        if order == 2:
            r = (lambdas[k - 1] - lambdas[k]) / (lambdas[k + 1] - lambdas[k])
            moved = moved + gain * 0.5 * (m1 - clean) / r
        rows.append(Row(time, np.stack([moved, clean, m1, x]), following))
    return rows


def _unipc_correct(
    path: Path, lambdas: list[float], k: int, order: int, terms: tuple[Floats, Floats, Floats, Floats]
) -> Floats:
    """The latent at point k, corrected with the prediction made there."""
    last, m1, m2, clean = terms
    before, level = path.levels[k - 1], path.levels[k]
    h = lambdas[k] - lambdas[k - 1]
    gain = level.alpha * -math.expm1(-h)
    x = level.sigma / before.sigma * last + gain * m1
    if order == 1:
        return x + gain * 0.5 * (clean - m1)
    phi2 = math.expm1(-h) / -h - 1
    phi3 = phi2 / -h - 0.5
    target = np.array([phi2, 2 * phi3]) / math.expm1(-h)
    r = (lambdas[k - 2] - lambdas[k - 1]) / h
    rho = np.linalg.solve(np.array([[1.0, 1.0], [r, 1.0]]), target)
    corrected: Floats = x + gain * (rho[0] * (m2 - m1) / r + rho[1] * (clean - m1))
    return corrected
