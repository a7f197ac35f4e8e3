"""Removal of drums and bass from the latents of a clip, so that a clip that continues it can rest these parts."""

from __future__ import annotations

from collections.abc import Set
from typing import Final

import torch
from torch import Tensor

from riffstream.diffusion.family import Family
from riffstream.spectrogram.mel import centre_frequencies
from riffstream.spectrogram.separate import drum_mask

__all__ = ["REMOVABLE", "without"]

REMOVABLE: Final = frozenset({"drums", "bass"})  # parts whose sound can be removed
BASS_HZ: Final = (180.0, 255.0)  # the bass is the tonal sound below; half an octave of slope


@torch.no_grad()
def without(family: Family, mel: Tensor, parts: Set[str]) -> Tensor:
    """Latents [C, h, w] of a clip [A, M, T] after removal of parts: of the drums the percussive sound, of the bass the
    tonal sound below 180 Hz."""
    drums = drum_mask(mel, 0, mel.shape[-1])
    kept = torch.ones_like(drums)
    if "bass" in parts:
        low, high = BASS_HZ
        hertz = centre_frequencies(family.params)[1:-1].to(mel)
        slope = ((hertz / low).log2() / torch.tensor(high / low).log2()).clamp(0, 1)[:, None]
        kept = slope + (1 - slope) * drums
    if "drums" in parts:
        kept = kept * (1 - drums)
    return family.encode_mel((mel * kept)[None])[0]
