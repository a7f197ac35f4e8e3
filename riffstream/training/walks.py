"""Trajectories of a student under training: states as sampling reaches them.

A student that is trained on noisy clips of the corpus alone sees other states in play: its own earlier errors, and the
stronger contrast of built-in guidance. Here each row of a batch is a trajectory on the student's own path, and the
teacher corrects it at every step (Ross et al. 2011, arXiv:1011.0686; for diffusion Agarwal et al. 2024,
arXiv:2306.13649). The student's own prediction moves a trajectory on, so the path costs no evaluation.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from riffstream.diffusion.mini.family import PREVIOUS_LIMIT
from riffstream.diffusion.noise import limited
from riffstream.diffusion.schedules import shifted
from riffstream.training.denoiser import Batch, draw
from riffstream.training.latents import LatentSet

__all__ = ["NOISE_LIMIT", "Walks", "as_previous"]

# Share of the trajectories that become a noisy clip of the corpus at a random step, as with a start from a seed clip.
FROM_MUSIC = 0.25
# Share of the finished trajectories whose result is the previous clip of the next one, as in a stream.
GOES_ON = 0.5
NOISE_LIMIT = 2.0  # as in play


def as_previous(clips: Tensor) -> Tensor:
    """Clips [B, C, h, w] at the level of a previous clip in play."""
    level = clips.square().mean((1, 2, 3), keepdim=True).sqrt()
    return clips * (PREVIOUS_LIMIT / level.clamp_min(1e-6)).clamp_max(1.0)


class Walks:
    """A batch of trajectories. Row i is i steps ahead of row 0, so every batch has as many rows of each step.

    Attributes:
        batch: the examples; ``batch.t`` is not used.
        x: states [B, C, h, w].
        place: steps left, [B] int, 1 to ``steps``.
    """

    def __init__(
        self, data: LatentSet, rows: Tensor, size: int, steps: int, shift: float, seed: int, device: torch.device
    ) -> None:
        self._data, self._rows, self._device = data, rows, device
        self.steps, self.shift = steps, shift
        self._seed, self._draws = seed, 0
        self._allowed = torch.zeros(len(data), dtype=torch.bool)
        self._allowed[rows] = True
        self._picked = rows[torch.randint(len(rows), (size,), generator=self._generator())]
        self.batch = self._examples(self._picked)
        self.place = steps - torch.arange(size) % steps
        # Steps left where a trajectory becomes the noisy clip of the corpus; 0: never.
        self._music = torch.zeros(size, dtype=torch.long)
        self.x = self._noisy(self.batch, self.place)

    @property
    def t(self) -> Tensor:
        """Times [B] of the states."""
        return self._time(self.place)

    @property
    def next_t(self) -> Tensor:
        """Times [B] of the next states."""
        return self._time(self.place - 1)

    @torch.no_grad()
    def advance(self, velocity: Tensor) -> None:
        """One Euler step with the student's ``velocity`` [B, C, h, w]; finished trajectories begin again."""
        self.x = self.x - velocity * (self.t - self.next_t)[:, None, None, None]
        self.place = self.place - 1
        done = torch.nonzero(self.place == 0).flatten()
        if len(done):
            self._begin(done)
        music = (self.place == self._music).to(self._device)[:, None, None, None]
        self.x = torch.where(music, self._noisy(self.batch, self.place), self.x)

    def _begin(self, done: Tensor) -> None:
        luck = torch.rand(2, len(done), generator=self._generator())
        follows = (self._picked[done] + 1).clamp_max(len(self._data) - 1)
        goes_on = (luck[0] < GOES_ON) & (self._data.previous[follows] == self._picked[done]) & self._allowed[follows]
        fresh = self._rows[torch.randint(len(self._rows), (len(done),), generator=self._generator())]
        picked = torch.where(goes_on, follows, fresh)
        examples = self._examples(picked)
        made = as_previous(self.x[done])
        own = goes_on.to(self._device)
        examples.previous = torch.where(own[:, None, None, None], made, examples.previous)
        examples.previous_mask = examples.previous_mask | own
        # New tensors: a backward pass still needs the old ones.
        values = {name: getattr(self.batch, name).clone() for name in Batch.__slots__}
        for name, value in values.items():
            value[done] = getattr(examples, name)
        self.batch = Batch(**values)
        music = torch.randint(1, self.steps, (len(done),), generator=self._generator())
        self._music[done] = torch.where(luck[1] < FROM_MUSIC, music, 0)
        self._picked[done], self.place[done] = picked, self.steps
        self.x[done] = self._noisy(examples, self.place[done])

    def state(self) -> dict[str, Any]:
        """Everything that :meth:`restore` needs."""
        values = {name: getattr(self.batch, name) for name in Batch.__slots__}
        own = {"x": self.x, "place": self.place, "picked": self._picked, "music": self._music, "draws": self._draws}
        return {"batch": values, **own}

    def restore(self, state: dict[str, Any]) -> None:
        self.batch = Batch(**state["batch"])
        self.x, self.place = state["x"], state["place"]
        self._picked, self._music, self._draws = state["picked"], state["music"], state["draws"]

    def _generator(self) -> torch.Generator:
        self._draws += 1
        return torch.Generator().manual_seed(self._seed + self._draws)

    def _time(self, place: Tensor) -> Tensor:
        return shifted(place / self.steps, self.shift).to(self._device)

    def _examples(self, picked: Tensor) -> Batch:
        self._draws += 1
        seed = self._seed + self._draws
        return draw(self._data, self._rows, len(picked), seed, self._device, one_shape=True, picked=picked)

    def _noisy(self, batch: Batch, place: Tensor) -> Tensor:
        t = self._time(place)[:, None, None, None]
        return (1 - t) * batch.clean + t * limited(batch.noise, NOISE_LIMIT)
