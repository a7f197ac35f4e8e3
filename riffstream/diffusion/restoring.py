"""What the codec loses of a seed image, given back where a clip stays near to it.

A codec smooths noise, consonants and quiet detail of a recording. At a small distance from the seed image (denoising)
this loss is larger than the change that was asked for. So a clip gets a share of the loss: all of it where its latents
are the seed image's, none where they are other music. Kept regions of a mask, too, sound like the recording.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from riffstream.diffusion.family import Family
from riffstream.diffusion.seed_clip import SeedClip

__all__ = ["mixed", "restored"]

FAR: Final = 0.6  # change around a place (root mean square of latents) at which 37 % of the loss is given back
QUIET: Final = 0.03  # amplitude: -30 dB, silence in mixes
LEAST: Final = 0.01  # a smaller share is not worth another decoding


def restored(
    family: Family, mel: Tensor, seed: SeedClip, latents: Tensor, lead: Tensor | None, window: tuple[int, int]
) -> Tensor:
    """A decoded clip with its share of what the codec lost of the seed image.

    Args:
        family: the model.
        mel: [A, M, T] decoded amplitudes of the window.
        seed: the seed image, as long as the clip.
        latents: [C, h, w] of the clip.
        lead: [C, h, columns], the end of the previous clip, decoded with the clip.
        window: first and last column that were decoded; 0 is the first one of the lead.
    """
    if seed.sound is None:
        return mel
    change = (latents - seed.latents).square().mean(0)
    share = torch.exp(-F.avg_pool2d(F.pad(change[None], (1, 1, 1, 1), mode="replicate"), 3, 1)[0] / FAR**2)
    if float(share.max()) < LEAST:
        return mel
    columns = 0 if lead is None else lead.shape[-1]
    both = seed.latents if lead is None else torch.cat([lead, seed.latents], -1)
    # Decoded with the same neighbours as the clip, because the decoder looks across columns.
    decoded = family.decode_mel(both[None, ..., window[0] : window[1]])[0]
    frames = seed.sound.shape[-1] // latents.shape[-1]
    share = F.interpolate(share[None, None], seed.sound.shape[1:], mode="bilinear")[0, 0]
    before, span = (columns * frames, 0), slice(window[0] * frames, window[1] * frames)
    sound, share = F.pad(seed.sound, before)[..., span].float(), F.pad(share, before)[..., span]
    return family.restore(mel, decoded, sound, share)


def mixed(family: Family, one: SeedClip, other: SeedClip, alpha: float) -> SeedClip:
    """A mix of two seed images of the same length, ``alpha`` of the other.

    Latents follow levels in dB, so levels are mixed, too. Beside a recording, a loop of the library has the sound of
    its latents.
    """
    latents = torch.lerp(one.latents, other.latents, alpha)
    if one.sound is None and other.sound is None:
        return SeedClip(latents)
    sounds = [
        family.decode_mel(clip.latents[None])[0] if clip.sound is None else clip.sound.float() for clip in (one, other)
    ]
    levels = [sound.clamp_min(QUIET).log() for sound in sounds]
    return SeedClip(latents, torch.lerp(levels[0], levels[1], alpha).exp().half())
