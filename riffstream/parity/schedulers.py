"""DDIM and PNDM in Riffusion's use: stateful objects over a truncated list of timesteps.

The default mode uses ``samplers.py``. These schedulers keep the original's order of operations and its quirks, listed
in parity's README, for agreement to the last digits.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from riffstream.diffusion.family import TrainingSchedule
from riffstream.errors import ParameterError

__all__ = ["DdimStepper", "PndmStepper", "Stepper", "make_stepper"]

Scheduler = Literal["pndm", "ddim"]


class Stepper:
    """A scheduler for one denoising run. ``timesteps`` is the whole list, highest first."""

    timesteps: Tensor  # [K] int64

    def __init__(self, schedule: TrainingSchedule, steps: int) -> None:
        if not 1 <= steps <= schedule.train_steps:
            raise ParameterError("num_inference_steps", steps, f"1 to {schedule.train_steps}")
        self.schedule = schedule
        self.stride = schedule.train_steps // steps
        self.levels = _alphas_cumprod(schedule)
        self.last_level = torch.tensor(1.0) if schedule.set_alpha_to_one else self.levels[0]
        self.offset = schedule.steps_offset

    def add_noise(self, clean: Tensor, noise: Tensor, timestep: int) -> Tensor:
        """``clean`` [B, C, h, w] at the noise level of ``timestep``."""
        level = self.levels.to(clean)[timestep]
        return level**0.5 * clean + (1 - level) ** 0.5 * noise

    def step(self, prediction: Tensor, timestep: int, x: Tensor) -> Tensor:
        """``x`` [B, C, h, w] one noise level lower, given the network's prediction at ``timestep``."""
        raise AssertionError("each scheduler has its own")

    def _level(self, timestep: int) -> Tensor:
        return self.levels[timestep] if timestep >= 0 else self.last_level


class DdimStepper(Stepper):
    """DDIM without noise (Song et al. 2020, arXiv:2010.02502, equation 12 with eta 0)."""

    def __init__(self, schedule: TrainingSchedule, steps: int) -> None:
        super().__init__(schedule, steps)
        self.timesteps = (torch.arange(steps) * self.stride).flip(0) + self.offset

    def step(self, prediction: Tensor, timestep: int, x: Tensor) -> Tensor:
        level, following = self._level(timestep), self._level(timestep - self.stride)
        noise_share = 1 - level
        if self.schedule.prediction == "v_prediction":
            clean = level**0.5 * x - noise_share**0.5 * prediction
            noise = level**0.5 * prediction + noise_share**0.5 * x
        else:
            clean = (x - noise_share**0.5 * prediction) / level**0.5
            noise = prediction
        return following**0.5 * clean + (1 - following) ** 0.5 * noise


class PndmStepper(Stepper):
    """PNDM without its Runge-Kutta start (Liu et al. 2022, arXiv:2202.09778, equation 12).

    The second call repeats the first step with the mean of two predictions. For this purpose the full list contains its
    second timestep twice. A truncated list usually does not, and its latents lag one level behind the timesteps.
    Riffusion has this fault, and this class reproduces it.
    """

    def __init__(self, schedule: TrainingSchedule, steps: int) -> None:
        super().__init__(schedule, steps)
        rising = torch.arange(steps) * self.stride + self.offset
        self.timesteps = torch.cat([rising[:-1], rising[-2:-1], rising[-1:]]).flip(0)
        self._past: list[Tensor] = []
        self._calls = 0
        self._first_x: Tensor | None = None

    def step(self, prediction: Tensor, timestep: int, x: Tensor) -> Tensor:
        following = timestep - self.stride
        if self._calls == 1:
            timestep, following = timestep + self.stride, timestep
        else:
            self._past = [*self._past[-3:], prediction]
        past = self._past
        if self._calls == 0:
            combined, self._first_x = prediction, x
        elif self._calls == 1:
            assert self._first_x is not None
            combined, x = (prediction + past[-1]) / 2, self._first_x
        elif len(past) == 2:
            combined = (3 * past[-1] - past[-2]) / 2
        elif len(past) == 3:
            combined = (23 * past[-1] - 16 * past[-2] + 5 * past[-3]) / 12
        else:
            combined = (1 / 24) * (55 * past[-1] - 59 * past[-2] + 37 * past[-3] - 9 * past[-4])
        self._calls += 1
        return self._transfer(combined, timestep, following, x)

    def _transfer(self, prediction: Tensor, timestep: int, following: int, x: Tensor) -> Tensor:
        level, level_after = self._level(timestep), self._level(following)
        if self.schedule.prediction == "v_prediction":
            prediction = level**0.5 * prediction + (1 - level) ** 0.5 * x
        scale = (level_after / level) ** 0.5
        divisor = level * (1 - level_after) ** 0.5 + (level * (1 - level) * level_after) ** 0.5
        return scale * x - (level_after - level) * prediction / divisor


def make_stepper(name: Scheduler, schedule: TrainingSchedule, steps: int) -> Stepper:
    """``pndm`` or ``ddim`` over ``steps`` steps."""
    kinds: dict[str, type[Stepper]] = {"pndm": PndmStepper, "ddim": DdimStepper}
    if name not in kinds:
        raise ParameterError("scheduler", name, "pndm or ddim")
    return kinds[name](schedule, steps)


def _alphas_cumprod(schedule: TrainingSchedule) -> Tensor:
    """Share of the clean signal's variance at each timestep, float32 [train_steps]."""
    first, last, count = schedule.beta_start, schedule.beta_end, schedule.train_steps
    if schedule.kind != "ddpm" or schedule.prediction not in ("epsilon", "v_prediction"):
        raise ParameterError("checkpoint", schedule.prediction, "parity needs epsilon or v_prediction")
    if schedule.beta_schedule == "scaled_linear":
        betas = torch.linspace(first**0.5, last**0.5, count) ** 2
    elif schedule.beta_schedule == "linear":
        betas = torch.linspace(first, last, count)
    else:
        raise ParameterError("checkpoint", schedule.beta_schedule, "parity needs linear or scaled_linear betas")
    return torch.cumprod(1.0 - betas, dim=0)
