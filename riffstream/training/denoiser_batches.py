"""What the denoiser is trained on: batches drawn by number from a latent set, and the loss of a rectified flow.

Pure: nothing is remembered from batch to batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from riffstream.diffusion.schedules import shifted
from riffstream.training.asked import leave_out
from riffstream.training.latents import LatentSet
from riffstream.training.loop import autocast

__all__ = ["SHIFT", "Batch", "draw", "flow_loss", "shifted_times"]

DROP_CAPTION, DROP_PREVIOUS, PREVIOUS_NOISE = 0.1, 0.3, 0.25
# Captions name instruments and drums; where they always came with conditions, conditions would only repeat them.
DROP_CAPTION_CONDITIONED = 0.5
# What the caption says is decided near noise (two thirds of what a caption takes off the loss lie above t = 0.8, see
# docs/mini.md), so most training lies there. SPREAD: of the logit of the place on that shifted way.
SHIFT, SPREAD = 3.0, 1.4
# One example in four keeps the times unshifted: fine detail is decided near music.
PLAIN, PLAIN_SPREAD = 0.25, 1.2


@dataclass(slots=True)
class Batch:
    """One batch of training examples, on the training device.

    Attributes:
        clean, noise, previous: [B, C, h, w]. t: [B]. tokens: [B, S, D], mask: [B, S]. previous_mask, triple: [B] bool;
        ``triple`` is None where no clip is in 3/4. conditions: [B, columns, SIZE], zeros where none is given.
    """

    clean: Tensor
    noise: Tensor
    t: Tensor
    tokens: Tensor
    mask: Tensor
    previous: Tensor
    previous_mask: Tensor
    triple: Tensor | None
    conditions: Tensor

    def parts(self, size: int) -> list[Batch]:
        """The same examples, ``size`` at a time."""
        values = [getattr(self, name) for name in Batch.__slots__]
        return [
            Batch(*(None if value is None else value[k : k + size] for value in values))  # type: ignore[arg-type]
            for k in range(0, len(self.clean), size)
        ]


def draw(
    data: LatentSet,
    rows: Tensor,
    size: int,
    seed: int,
    device: torch.device,
    *,
    validation: bool = False,
    one_shape: bool = False,
) -> Batch:
    """Batch number ``seed``: a pure function of its arguments, so that a resumed run sees what the whole one saw.

    Args:
        validation: nothing is dropped by chance: every other clip has its previous one, and no clip its conditions, so
            that the loss compares with that of a model without any; t is spread evenly.
        one_shape: captions keep their padding and ``triple`` is always there, so that compiled code fits every batch.
    """
    generator = torch.Generator().manual_seed(seed)
    if validation:
        pick = rows[torch.linspace(0, len(rows) - 1, size).long()]
        t = (torch.arange(size) + 0.5) / size
        t = t[torch.randperm(size, generator=generator)]
        with_previous = torch.arange(size) % 2 == 0
    else:
        pick = rows[torch.randint(len(rows), (size,), generator=generator)]
        t = training_times(size, generator)
        with_previous = torch.rand(size, generator=generator) >= DROP_PREVIOUS
    clean = data.latents[pick].float()
    noise = torch.randn(clean.shape, generator=generator)
    conditions = data.conditions[pick].float()
    conditions = torch.zeros_like(conditions) if validation else leave_out(conditions, generator)
    dropped = torch.where(conditions.flatten(1).any(1), DROP_CAPTION_CONDITIONED, DROP_CAPTION).tolist()
    captions = []
    which = torch.rand(size, generator=generator).tolist()
    luck = torch.rand(size, generator=generator).tolist()
    for row, chance, u, drop in zip(pick.tolist(), dropped, which, luck, strict=True):
        own = data.captions[row]
        captions.append(own[int(u * len(own))] if own and (validation or drop >= chance) else 0)
    before = data.previous[pick]
    previous = data.latents[before.clamp_min(0)].float()
    blur = 0.0 if validation else PREVIOUS_NOISE * torch.rand(size, 1, 1, 1, generator=generator)
    previous = previous + blur * torch.randn(previous.shape, generator=generator)
    mask = data.mask[captions]
    used = mask.shape[1] if one_shape else max(8, -(-int(mask.sum(1).max()) // 8) * 8)
    triple = data.triple[pick]
    return Batch(
        clean.to(device), noise.to(device), t.to(device), data.tokens[captions][:, :used].float().to(device),
        mask[:, :used].to(device), previous.to(device), (with_previous & (before >= 0)).to(device),
        triple.to(device) if one_shape or bool(triple.any()) else None, conditions.to(device),
    )  # fmt: skip


def training_times(size: int, generator: torch.Generator) -> Tensor:
    """Times t [size] to train at: most of them shifted towards noise."""
    t = shifted_times(torch.sigmoid(SPREAD * torch.randn(size, generator=generator)))
    plain = torch.sigmoid(PLAIN_SPREAD * torch.randn(size, generator=generator))
    return torch.where(torch.rand(size, generator=generator) < PLAIN, plain, t)


def shifted_times(places: Tensor) -> Tensor:
    """Times t [B] at ``places`` [B] in [0, 1] of the way from music to noise."""
    return shifted(places, SHIFT)


def flow_loss(model: nn.Module, batch: Batch, narrow: int) -> Tensor:
    """Mean squared error of ``noise - x_0``, over the cells that a clip fills (``narrow`` columns in 3/4)."""
    t = batch.t[:, None, None, None]
    x = (1 - t) * batch.clean + t * batch.noise
    if batch.triple is not None:
        inside = (torch.arange(x.shape[-1], device=x.device) < narrow) | ~batch.triple[:, None]
        inside = inside[:, None, None, :].float()
        x = x * inside
    with autocast(x.device):
        made = model(x, batch.t, batch.tokens, batch.mask, batch.previous, batch.previous_mask, batch.triple,
                     batch.conditions)  # fmt: skip
    error: Tensor = (made.float() - (batch.noise - batch.clean)).square()
    if batch.triple is None:
        return torch.mean(error)
    return torch.sum(error * inside) / inside.expand_as(error).sum()
