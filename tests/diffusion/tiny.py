"""A Stable Diffusion checkpoint of a few hundred kilobytes with random weights, in the diffusers layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from riffstream import _torchaudio  # noqa: F401  (before transformers)

PARAMS = {"num_frequencies": 64}
SCHEDULER = {
    "_class_name": "PNDMScheduler",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
}
UNET: dict[str, Any] = {
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": [8, 16],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 2,
    "cross_attention_dim": 16,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
}
VAE: dict[str, Any] = {
    "block_out_channels": [4, 8, 8, 8],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "latent_channels": 4,
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "sample_size": 64,
    "scaling_factor": 0.18215,
}
TINY_VAE: dict[str, Any] = {
    "encoder_block_out_channels": [4, 4, 4, 4],
    "decoder_block_out_channels": [4, 4, 4, 4],
    "num_encoder_blocks": [1, 1, 1, 1],
    "num_decoder_blocks": [1, 1, 1, 1],
    "latent_channels": 4,
}
MERGES = ["a n", "i n", "s o", "so n", "j a", "z z</w>", "ja zz</w>", "d r", "u m</w>", "dr um</w>"]


def _alphabet() -> list[str]:
    """The 256 characters that stand for bytes in byte-level tokenizers: printable ones for themselves."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    shifted = {byte: 256 + index for index, byte in enumerate(byte for byte in range(256) if byte not in plain)}
    return [chr(shifted.get(byte, byte)) for byte in [*plain, *shifted]]


def write_tokenizer(folder: Path) -> int:
    """Write a CLIP tokenizer over bytes with a few merges; its number of tokens."""
    folder.mkdir(parents=True)
    letters = _alphabet()
    words = [*letters, *(f"{letter}</w>" for letter in letters), *(merge.replace(" ", "") for merge in MERGES)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(MERGES) + "\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "pad_token": "<|endoftext|>"})
    )
    return len(words)


def text_config(vocabulary: int) -> dict[str, Any]:
    """A one-layer CLIP text encoder."""
    return {
        "vocab_size": vocabulary,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 77,
        "hidden_act": "quick_gelu",
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
        "pad_token_id": vocabulary - 1,
    }


def write_part(folder: Path, config: dict[str, Any], module: torch.nn.Module, *, prefix: str = "") -> None:
    """Write ``config.json`` and the weights, under the file name that the module's library uses."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    name = "model.safetensors" if prefix else "diffusion_pytorch_model.safetensors"
    save_file({prefix + key: value.contiguous() for key, value in module.state_dict().items()}, str(folder / name))


def write_tiny_sd(folder: Path, *, seed: int = 0) -> Path:
    """Write the whole checkpoint: latents 4 x 8 x 8, images 64 x 64, one layer of everything."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = write_tokenizer(folder / "tokenizer")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet, vae = UNet2DConditionModel(**UNET), AutoencoderKL(**VAE)
        text = CLIPTextModel(CLIPTextConfig(**text_config(vocabulary)))
        # Fresh weights hardly react to text; trained ones do.
        for name, value in [*text.named_parameters(), *unet.named_parameters()]:
            if "embedding.weight" in name:
                value.data *= 10
            if "attn2" in name:
                value.data *= 3
            if "layer_norm.bias" in name:  # a mean of exactly 0 could not be preserved by weights in a prompt
                value.data.normal_(0.1, 0.5)
    write_part(folder / "unet", UNET, unet)
    write_part(folder / "vae", VAE, vae)
    write_part(folder / "text_encoder", text_config(vocabulary), text, prefix="text_model.")
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULER))
    (folder / "riffstream_spectrogram.json").write_text(json.dumps(PARAMS))
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    return folder


def write_tiny_vae(folder: Path) -> Path:
    """Write an ``AutoencoderTiny`` that fits the checkpoint."""
    from diffusers import AutoencoderTiny

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        write_part(folder, TINY_VAE, AutoencoderTiny(**TINY_VAE))
    return folder
