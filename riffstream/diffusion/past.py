"""The past of a take: the sounds that its next clip can continue.

The network continues the parts of the previous clip, whatever the conditions of the next one say. So where parts rest
or return, a clip continues another sound: the take's last clip with the same resting parts, or the previous clip
without its drums, or none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from riffstream.diffusion.family import Family
from riffstream.journey.keyframe import ClipSpec
from riffstream.spectrogram.separate import drum_mask

__all__ = ["SOUNDS", "Past", "without_drums"]

SOUNDS: Final = 4  # combinations of resting parts whose last clip is kept

_Key = tuple[frozenset[str], tuple[str, ...]]  # resting parts, and the texts of the prompts


@dataclass(frozen=True, slots=True, eq=False)
class Past:
    """A clip and the sounds of its take, immutable.

    Attributes:
        latents: [C, h, w] of the clip.
        resting: parts that rest at its end.
        sounds: latents of the newest clip of each combination of resting parts and prompts, oldest first.
    """

    latents: Tensor
    resting: frozenset[str]
    sounds: tuple[tuple[_Key, Tensor], ...]

    @classmethod
    def after(cls, before: Past | None, spec: ClipSpec, latents: Tensor, bars: int) -> Past:
        """The past after a clip with parameters ``spec`` of ``bars`` bars; ``before``: the past that it continued."""
        resting = spec.resting(bars)[1]
        own = (resting, _texts(spec))
        older = () if before is None else tuple(sound for sound in before.sounds if sound[0] != own)
        return cls(latents, resting, (*older, (own, latents))[-SOUNDS:])

    def continuation(self, spec: ClipSpec, family: Family) -> dict[str, Any]:
        """Fields of a :class:`ClipRequest` for the next clip of the take, with parameters ``spec``."""
        resting = spec.resting(family.bars)[0]
        if resting == self.resting or not family.continues:
            return {"previous": self.latents}
        recalled = next((latents for key, latents in self.sounds if key == (resting, _texts(spec))), None)
        if recalled is None and resting == self.resting | {"drums"}:
            recalled = without_drums(family, self.latents)
        return {"previous": self.latents, "anew": True, "recalled": recalled}


def _texts(spec: ClipSpec) -> tuple[str, ...]:
    return tuple(part.text for keyframe in (spec.start, spec.end) for part in keyframe.prompts)


@torch.no_grad()
def without_drums(family: Family, latents: Tensor) -> Tensor:
    """Latents [C, h, w] of a clip after removal of its percussive sound."""
    mel = family.decode_mel(latents[None])[0]
    return family.encode_mel((mel * (1 - drum_mask(mel, 0, mel.shape[-1])))[None])[0]
