"""Simple sampling for pictures of a model in training. For audio, use the engine (``riffstream render``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from riffstream.diffusion.family import TextEmbedding
from riffstream.diffusion.mini.denoiser import Denoiser
from riffstream.diffusion.mini.family import MiniFamily
from riffstream.training.latents import LatentSet

__all__ = ["PROMPTS", "sample_latents", "write_pictures", "write_samples"]

PROMPTS = (
    "slow jazz ballad, grand piano and upright bass",
    "driving techno, acid synth and 909 drums",
    "lo-fi hip hop, electric piano, dusty drums, vinyl crackle",
    "bossa nova, nylon guitar and flute",
    "solo piano, calm and sad",
    "church organ hymn",
    "deep house, warm and smooth",
    "country rock, electric guitar and drums",
    "ambient pads, something calm for studying",
    "drums only",
)


@torch.no_grad()
def sample_latents(
    family: MiniFamily,
    prompts: Sequence[str],
    *,
    steps: int = 16,
    guidance: float = 3.0,
    seed: int = 0,
    previous: Tensor | None = None,
    frames: int | None = None,
) -> Tensor:
    """Latents [B, C, h, w] of one clip per prompt, by Euler steps of equal size; guidance 1 evaluates one branch."""
    text = family.encode_text(list(prompts))
    empty = family.encode_text([""])
    pair = TextEmbedding.stack([*(text.row(i) for i in range(len(prompts))), *[empty] * len(prompts)])
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(len(prompts), *family.latent_shape(frames), generator=generator).to(family.device)
    for k in range(steps):
        t = torch.full((len(x),), 1 - k / steps)
        if guidance == 1:
            velocity = family.denoise(x, t, text, previous=previous)
        else:
            twice = None if previous is None else previous.repeat(2, 1, 1, 1)
            both = family.denoise(x.repeat(2, 1, 1, 1), t.repeat(2), pair, previous=twice)
            own, none = both.chunk(2)
            velocity = none + guidance * (own - none)
        x = x - velocity / steps
    return x


def write_pictures(family: MiniFamily, latents: Tensor, path: Path, columns: int = 5) -> None:
    """One PNG with all clips side by side."""
    pictures = family.decode_image(latents)
    rows = [np.concatenate(list(pictures[k : k + columns]), axis=1) for k in range(0, len(pictures), columns)]
    widest = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, 8), (0, widest - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(padded)).save(path)


def write_samples(
    model: Denoiser, data: LatentSet, path: Path, prompts: Sequence[str], *, guidance: float, steps: int = 8
) -> None:
    """Pictures of a training denoiser's samples of these prompts, always from the same noise."""
    twin = Denoiser(model.config)  # the model's blocks may be compiled for the shape of training batches
    twin.load_state_dict(model.state_dict())
    family = MiniFamily(data.text, twin, data.codec, device=data.codec.basis.device, dtype=torch.float32)
    write_pictures(family, sample_latents(family, prompts, steps=steps, guidance=guidance), path)
