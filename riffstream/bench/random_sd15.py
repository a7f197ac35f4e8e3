"""A checkpoint of Stable Diffusion 1.5's size with random weights in memory: speed does not depend on weights."""

from __future__ import annotations

import importlib
import zlib
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from riffstream import _torchaudio  # noqa: F401  (before transformers, which imports torchaudio)
from riffstream.diffusion.family import TrainingSchedule
from riffstream.diffusion.sd import sd15
from riffstream.diffusion.sd.family import SdOptions, StableDiffusion
from riffstream.spectrogram.params import SpectrogramParams

__all__ = ["random_sd15"]

# Sizes of tiny networks of the same structure, which show on any CPU that a benchmark works.
_SMALL = {"block_out_channels": [32, 32, 32, 32], "layers_per_block": 1}
_SMALL_TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2}


class _WordTokenizer:
    """One token per word, by checksum: the text encoder's cost does not depend on the tokens."""

    bos_token_id, eos_token_id, pad_token_id = 49406, 49407, 49407
    model_max_length = 77

    def __call__(self, text: str, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(input_ids=[zlib.crc32(word.encode()) % self.bos_token_id for word in text.split()])


def random_sd15(
    device: torch.device, dtype: torch.dtype, *, options: SdOptions | None = None, seed: int = 0, small: bool = False
) -> StableDiffusion:
    """The family with 1.07 billion random parameters in ``dtype`` on ``device``; ``small``: tiny networks."""
    diffusers: Any = importlib.import_module("diffusers")
    transformers: Any = importlib.import_module("transformers")

    sizes, text_sizes = (_SMALL, _SMALL_TEXT) if small else ({}, {})
    width = (sd15.TEXT_ENCODER | text_sizes)["hidden_size"]
    with torch.device("meta"):
        unet = diffusers.UNet2DConditionModel(**(sd15.UNET | sizes | {"cross_attention_dim": width}))
        vae = diffusers.AutoencoderKL(**(sd15.VAE | sizes))
    text_encoder = transformers.CLIPTextModel(transformers.CLIPTextConfig(**(sd15.TEXT_ENCODER | text_sizes)))
    generator = torch.Generator(device).manual_seed(seed)
    return StableDiffusion(
        unet=_filled(unet, device, dtype, generator),
        vae=_filled(vae, device, dtype, generator),
        text_encoder=text_encoder.eval().requires_grad_(False),
        tokenizer=_WordTokenizer(),
        schedule=TrainingSchedule("ddpm", "epsilon"),
        params=SpectrogramParams.riffusion(),
        device=device,
        dtype=dtype,
        options=options,
    )


def _filled(module: nn.Module, device: torch.device, dtype: torch.dtype, generator: torch.Generator) -> nn.Module:
    """Weights of variance 1 / fan-in, for activations of size 1; norms are 1 and biases 0."""
    module = module.to(dtype).to_empty(device=device).eval().requires_grad_(False)
    for name, parameter in module.named_parameters():
        if parameter.ndim > 1:
            parameter.normal_(0, parameter[0].numel() ** -0.5, generator=generator)
        else:
            parameter.fill_(1.0 if name.endswith("weight") else 0.0)
    return module
