"""Whole clips of a student in refinement: examples in a stream's order, played from noise."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from riffstream.diffusion.noise import limited
from riffstream.training.denoiser import Batch, draw
from riffstream.training.latents import LatentSet
from riffstream.training.walks import NOISE_LIMIT, as_previous

__all__ = ["Examples", "evaluate", "joined", "play"]

# Shares of the examples that continue the student's own clip of the batch before, as in a stream, and that open with a
# sound of another song.
GOES_ON, OPENS = 0.35, 0.35


def evaluate(model: nn.Module, x: Tensor, t: Tensor, batch: Batch) -> Tensor:
    """The velocity [B, C, h, w] float32 at states x, times t [B]."""
    made = model(x, t, batch.tokens, batch.mask, batch.previous, batch.previous_mask, batch.triple, batch.conditions)
    return made.float()  # type: ignore[no-any-return]


@torch.no_grad()
def play(model: nn.Module, batch: Batch, steps: int, narrow: int) -> tuple[Tensor, Tensor]:
    """Play the examples from noise in even Euler steps.

    Returns:
        The clips [B, C, h, w], and the states before the steps [steps, B, C, h, w], at times 1, 1 - 1 / steps, ...
    """
    cells = batch.inside(narrow)
    x = limited(batch.noise, NOISE_LIMIT) * cells
    states = []
    for place in range(steps, 0, -1):
        states.append(x)
        t = torch.full((len(x),), place / steps, device=x.device)
        x = x - evaluate(model, x, t, batch) * cells / steps
    return x, torch.stack(states)


def joined(*batches: Batch) -> Batch:
    """One batch of all examples; all batches have ``triple``."""
    return Batch(*(torch.cat([getattr(batch, name) for batch in batches]) for name in Batch.__slots__))


class Examples:
    """Batches of examples; some continue the student's own clip of the batch before, some a sound of another song.

    Args:
        rows: indices of the clips.
        near: indices of sounds for each clip, [N, count]; -1: none.
        size: examples of a batch.
        seed: first seed.

    Attributes:
        picked: indices of the last batch's clips, [size].
        opens: bool [size], the examples of the last batch whose previous clip is a sound of another song.
    """

    def __init__(self, data: LatentSet, rows: Tensor, near: Tensor, size: int, seed: int, device: torch.device) -> None:
        self._near = near
        self.opens = torch.zeros(size, dtype=torch.bool)
        self._data, self._rows, self._seed, self._device = data, rows, seed, device
        self._allowed = torch.zeros(len(data), dtype=torch.bool)
        self._allowed[rows] = True
        self.picked = torch.full((size,), -1)
        self._played: Tensor | None = None

    def next(self, number: int) -> Batch:
        """Batch ``number``."""
        size = len(self.picked)
        generator = torch.Generator().manual_seed(self._seed + 2 * number)
        fresh = self._rows[torch.randint(len(self._rows), (size,), generator=generator)]
        follows = (self.picked + 1).clamp_max(len(self._data) - 1)
        luck = torch.rand(size, generator=generator)
        goes_on = luck < GOES_ON
        goes_on &= (self._data.previous[follows] == self.picked) & self._allowed[follows]
        if self._played is None:
            goes_on[:] = False
        self.picked = torch.where(goes_on, follows, fresh)
        seed = self._seed + 2 * number + 1
        batch = draw(self._data, self._rows, size, seed, self._device, one_shape=True, picked=self.picked)
        if self._played is not None:
            own = as_previous(self._played)
            given = goes_on.to(self._device)
            batch.previous = torch.where(given[:, None, None, None], own, batch.previous)
            batch.previous_mask = batch.previous_mask | given
        turn = torch.randint(self._near.shape[1], (size,), generator=generator)
        near = self._near[self.picked, turn]
        sounds = self._data.latents[near.clamp_min(0)].float().to(self._device)
        self.opens = ~goes_on & (luck > 1 - OPENS) & (near >= 0)
        opens = self.opens.to(self._device)
        batch.previous = torch.where(opens[:, None, None, None], as_previous(sounds), batch.previous)
        batch.previous_mask = batch.previous_mask | opens
        return batch

    def played(self, clips: Tensor) -> None:
        """Keep the student's clips of the last batch."""
        self._played = clips.detach()
