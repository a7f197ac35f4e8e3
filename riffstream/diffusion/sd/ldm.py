"""The layout of single-file checkpoints (``model.diffusion_model...``, written by the code of CompVis and Stability).

Each function maps diffusers' names of a network's tensors to the names in the file, by the config of a Stable Diffusion
1.x network of any size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from riffstream.errors import CheckpointError

__all__ = ["split_single_file", "unet_layout", "vae_layout"]

UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer."
# Name prefixes in files of other models -> kind of the model.
_OTHERS = {
    "conditioner.embedders.": "Stable Diffusion XL",
    "cond_stage_model.model.": "Stable Diffusion 2 (give its folder in the diffusers layout)",
    "model.diffusion_model.joint_blocks.": "Stable Diffusion 3",
    "model.diffusion_model.double_blocks.": "Flux",
    "double_blocks.": "Flux",
    "lora_unet_": "a LoRA (give it with --lora)",
    "down_blocks.": "a single part in diffusers' names (give the checkpoint's folder)",
    "unet.down_blocks.": "parts in diffusers' names (give the checkpoint's folder)",
}

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def unet_layout(config: Mapping[str, Any]) -> dict[str, str]:
    """Prefixes of the denoiser's tensors: diffusers' prefix -> the file's, without ``model.diffusion_model.``."""
    per_block = int(config["layers_per_block"])
    down, up = list(config["down_block_types"]), list(config["up_block_types"])
    layout = {
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "conv_in": "input_blocks.0.0",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
        "mid_block.attentions.0": "middle_block.1",
    }

    def resnet(ours: str, theirs: str) -> None:
        layout.update({f"{ours}.{name}": f"{theirs}.{old}" for name, old in _RESNET.items()})

    resnet("mid_block.resnets.0", "middle_block.0")
    resnet("mid_block.resnets.1", "middle_block.2")
    for i, kind in enumerate(down):
        for j in range(per_block):
            number = 1 + i * (per_block + 1) + j
            resnet(f"down_blocks.{i}.resnets.{j}", f"input_blocks.{number}.0")
            if "Attn" in kind:
                layout[f"down_blocks.{i}.attentions.{j}"] = f"input_blocks.{number}.1"
        layout[f"down_blocks.{i}.downsamplers.0.conv"] = f"input_blocks.{(i + 1) * (per_block + 1)}.0.op"
    for i, kind in enumerate(up):
        for j in range(per_block + 1):
            number = i * (per_block + 1) + j
            resnet(f"up_blocks.{i}.resnets.{j}", f"output_blocks.{number}.0")
            if "Attn" in kind:
                layout[f"up_blocks.{i}.attentions.{j}"] = f"output_blocks.{number}.1"
        upsampler = 2 if "Attn" in kind else 1
        layout[f"up_blocks.{i}.upsamplers.0.conv"] = f"output_blocks.{(i + 1) * (per_block + 1) - 1}.{upsampler}.conv"
    return layout


def vae_layout(config: Mapping[str, Any]) -> dict[str, str]:
    """Prefixes of the autoencoder's tensors, without ``first_stage_model.``."""
    levels, per_block = len(config["block_out_channels"]), int(config["layers_per_block"])
    layout = {"quant_conv": "quant_conv", "post_quant_conv": "post_quant_conv"}
    for side, block, resnets in (("encoder", "down", per_block), ("decoder", "up", per_block + 1)):
        layout[f"{side}.conv_in"] = f"{side}.conv_in"
        layout[f"{side}.conv_norm_out"] = f"{side}.norm_out"
        layout[f"{side}.conv_out"] = f"{side}.conv_out"
        pairs = [(f"mid_block.resnets.{k}", f"mid.block_{k + 1}") for k in range(2)]
        for i in range(levels):
            level = i if block == "down" else levels - 1 - i  # the file counts the decoder's levels by resolution
            pairs += [(f"{block}_blocks.{i}.resnets.{j}", f"{block}.{level}.block.{j}") for j in range(resnets)]
            layout[f"{side}.{block}_blocks.{i}.{block}samplers.0.conv"] = f"{side}.{block}.{level}.{block}sample.conv"
        for ours, theirs in pairs:
            for name in ("norm1", "conv1", "norm2", "conv2"):
                layout[f"{side}.{ours}.{name}"] = f"{side}.{theirs}.{name}"
            layout[f"{side}.{ours}.conv_shortcut"] = f"{side}.{theirs}.nin_shortcut"
        for name, old in _VAE_ATTENTION.items():
            layout[f"{side}.mid_block.attentions.0.{name}"] = f"{side}.mid.attn_1.{old}"
    return layout


def rename(names: Iterable[str], layout: Mapping[str, str]) -> dict[str, str]:
    """Map each tensor name in the file that the layout covers to diffusers' name."""
    by_file = {theirs: ours for ours, theirs in layout.items()}
    renamed: dict[str, str] = {}
    for name in names:
        head = name
        while head and head not in by_file:
            head = head.rpartition(".")[0]
        if head:
            renamed[name] = by_file[head] + name[len(head) :]
    return renamed


def split_single_file(
    tensors: Mapping[str, Tensor], configs: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Tensor]]:
    """Sort a file's tensors into ``unet``, ``vae`` and ``text_encoder``, under diffusers' names.

    Args:
        tensors: the file's content.
        configs: ``unet`` and ``vae`` configs in diffusers' form.

    Raises:
        CheckpointError: the file has no tensors of a part (a LoRA, a VAE only), or belongs to another model.
    """
    kind = next((kind for mark, kind in _OTHERS.items() if any(name.startswith(mark) for name in tensors)), None)
    if kind is not None:
        raise CheckpointError(f"the file is {kind}; single-file checkpoints must be whole Stable Diffusion 1.x models")
    taken = tensors.get(f"{UNET}input_blocks.0.0.weight")
    channels = int(configs["unet"].get("in_channels", 4))
    if taken is not None and taken.ndim == 4 and taken.shape[1] != channels:
        raise CheckpointError(
            f"the file's unet takes {taken.shape[1]} channels in place of {channels}: inpainting, depth and upscaling "
            "checkpoints cannot be used"
        )
    result: dict[str, dict[str, Tensor]] = {}
    for part, prefix in (("unet", UNET), ("vae", VAE), ("text_encoder", TEXT)):
        own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        if not own:
            raise CheckpointError(
                f"the file holds no {part} (no tensor begins with {prefix}); single-file checkpoints must be whole "
                "Stable Diffusion 1.x models"
            )
        if part == "text_encoder":  # named as in transformers, which accepts both levels
            result[part] = own
        else:
            layout = unet_layout(configs["unet"]) if part == "unet" else vae_layout(configs["vae"])
            result[part] = {ours: own[theirs] for theirs, ours in rename(own, layout).items()}
    return result
