"""A seed image in a model's terms: its latents, and the sound that they were made of."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["SeedClip"]


@dataclass(frozen=True, slots=True, eq=False)
class SeedClip:
    """An encoded seed image.

    Attributes:
        latents: [C, h, w] clean latents.
        sound: [A, M, T] mel amplitudes, float16, for ``Family.restore``; T is a multiple of w. None: unknown, or the
            family does not restore.
    """

    latents: Tensor
    sound: Tensor | None = None

    def fitted(self, width: int) -> SeedClip:
        """The first ``width`` columns. A shorter seed is repeated, because seeds are loops."""
        own = self.latents.shape[-1]
        if own == width:
            return self
        turns = -(-width // own)
        if self.sound is None:
            return SeedClip(self.latents.repeat(1, 1, turns)[..., :width])
        frames = self.sound.shape[-1] * width // own
        return SeedClip(self.latents.repeat(1, 1, turns)[..., :width], self.sound.repeat(1, 1, turns)[..., :frames])

    def rolled(self, columns: int) -> SeedClip:
        """The loop from another place: the last ``columns`` columns come first."""
        sound = self.sound
        if sound is not None:
            sound = sound.roll(columns * sound.shape[-1] // self.latents.shape[-1], -1)
        return SeedClip(self.latents.roll(columns, -1), sound)

    def to(self, device: torch.device) -> SeedClip:
        """On another device, with latents in float32."""
        return SeedClip(self.latents.to(device, torch.float32), None if self.sound is None else self.sound.to(device))
