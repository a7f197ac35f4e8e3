"""The samplers by name, the schedule of one clip, and the pure step that advances a batch of clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from riffstream.diffusion import samplers_linear as linear
from riffstream.diffusion.family import TrainingSchedule
from riffstream.diffusion.samplers_linear import Row
from riffstream.diffusion.schedules import (
    Level,
    Path,
    Spacing,
    flow_path,
    lcm_path,
    leading_path,
    sigma_path,
    unshifted,
)
from riffstream.errors import ParameterError
from riffstream.ranges import check, nearest

__all__ = ["SAMPLERS", "Sampler", "Schedule", "build", "find", "step"]


@dataclass(frozen=True, slots=True)
class Sampler:
    """An entry in the table of samplers.

    Attributes:
        name: name for users.
        title: name in tables.
        memory: K, number of latents kept between evaluations.
        rows: function from a path to the matrices of the evaluations.
        ddpm: True if it supports ddpm networks.
        flow: True if it supports rectified flow.
        draws: True if it adds noise during sampling.
    """

    name: str
    title: str
    memory: int
    rows: Callable[[Path], list[Row]]
    ddpm: bool = True
    flow: bool = True
    draws: bool = False


SAMPLERS: dict[str, Sampler] = {
    sampler.name: sampler
    for sampler in (
        Sampler("ddim", "DDIM", 0, linear.straight, flow=False),
        Sampler("pndm", "PNDM (PLMS)", 4, linear.plms, flow=False),
        Sampler("euler", "Euler", 0, linear.straight),
        Sampler("euler_a", "Euler ancestral", 0, linear.ancestral, flow=False, draws=True),
        Sampler("heun", "Heun", 2, linear.heun),
        Sampler("dpm++", "DPM-Solver++ 2M", 1, linear.dpm_solver_2m),
        Sampler("unipc", "UniPC 2", 3, linear.unipc),
        Sampler("lcm", "LCM", 0, linear.consistency, draws=True),
    )
}


def find(name: str, training: TrainingSchedule) -> Sampler:
    """Sampler by name, if the network supports it.

    Raises:
        ParameterError: naming the supported samplers and the nearest name.
    """
    suited = [key for key, sampler in SAMPLERS.items() if getattr(sampler, training.kind)]
    if name not in suited:
        raise ParameterError("sampler", name, f"{', '.join(suited)} with this model{nearest(str(name), suited)}")
    return SAMPLERS[name]


@dataclass(frozen=True, slots=True, eq=False)
class Schedule:
    """Denoising schedule of one clip, independent of its content.

    Attributes:
        sampler: the sampler.
        rows: the evaluations in order; empty without anything to denoise.
        start: noise level before the first evaluation.
    """

    sampler: Sampler
    rows: tuple[Row, ...]
    start: Level


@lru_cache(maxsize=512)
def build(
    training: TrainingSchedule, sampler: str, steps: int, denoising: float = 1.0, spacing: Spacing = "linspace"
) -> Schedule:
    """Build the schedule for the last ``denoising`` part of ``steps`` steps.

    The number of steps is ``steps * denoising`` rounded (for a shifted flow, the same part of its way), at least 1 for
    denoising above 0. A rectified flow and LCM begin exactly at ``denoising``. The other samplers begin at a point of
    the full schedule, so that denoising has a resolution of ``1 / steps``.

    Args:
        training: what the network was trained for.
        sampler: a key of :data:`SAMPLERS`.
        steps: 1 to 1000. PNDM takes one evaluation more than steps, Heun two a step.
        denoising: 0 to 1.
        spacing: of the points, for the samplers of ``sigma_path``; DDIM and PNDM are always ``leading``.

    Raises:
        ParameterError: naming the parameter and its range.
    """
    chosen = find(sampler, training)
    check("steps", steps)
    check("denoising", denoising)
    if denoising == 0:
        return Schedule(chosen, (), Level(1.0, 0.0))
    flow = training.kind == "flow"
    count = max(1, round(steps * (unshifted(denoising, training.shift) if flow else denoising)))
    if flow:
        path = flow_path(training, count, denoising)
    elif sampler == "lcm":
        path = lcm_path(training, count, denoising)
    else:
        if sampler in ("ddim", "pndm"):
            path = leading_path(training, steps)
        else:
            path = sigma_path(training, steps, spacing, whole=sampler in ("dpm++", "unipc"))
        path = path.last(min(count, len(path.times)))
    return Schedule(chosen, tuple(chosen.rows(path)), path.levels[0])


def step(
    x: Tensor, prediction: Tensor, rows: Sequence[Row], memory: Tensor, noise: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Advance a batch of clips by one evaluation, each with its own row. A pure function.

    The result of a clip is bit for bit independent of the other clips in the batch.

    Args:
        x: [B, C, h, w] latents at their own noise levels, float32.
        prediction: [B, C, h, w] output of the network for ``x``, float32.
        rows: B rows, also of different samplers and different steps.
        memory: [B, K, C, h, w], K the largest memory of the samplers; zeros at first.
        noise: [B, C, h, w] standard normal; required if a row ``draws``.

    Returns:
        ``x`` and ``memory`` after the step.
    """
    places = memory.shape[1]
    matrices = np.zeros((len(rows), 1 + places, 3 + places))
    for matrix, row in zip(matrices, rows, strict=True):
        matrix[: row.matrix.shape[0], : row.matrix.shape[1]] = row.matrix
    used = (matrices != 0).max(axis=0)
    factors = torch.from_numpy(matrices).to(x.device, torch.float32)[..., None, None, None]
    results = []
    for i in range(1 + places):
        total = torch.zeros_like(x)
        for j in np.flatnonzero(used[i]):
            if j == 2 and noise is None:
                raise ValueError("a row draws noise, but none was given")
            source = (x, prediction, noise)[j] if j < 3 else memory[:, j - 3]
            assert source is not None
            total = total + factors[:, i, j] * source
        results.append(total)
    return results[0], torch.stack(results[1:], dim=1) if places else memory
