"""Reading of the parts of a Stable Diffusion checkpoint: configs and safetensors to modules. Errors name the part.

The modules are built without initial values and filled from the files, so that every tensor is checked and nothing is
computed twice. diffusers' own loader would need the hub's metadata and fills missing tensors with random numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from riffstream import _torchaudio  # noqa: F401  (before transformers, which imports torchaudio)
from riffstream.diffusion.mini.files import read_json
from riffstream.errors import CheckpointError, out_of_memory

__all__ = ["build", "read_header", "read_part", "read_tensors", "text_encoder_names", "vae_names"]

WEIGHT_FILES = ("diffusion_pytorch_model.safetensors", "model.safetensors")
_PICKLES = ("*.bin", "*.ckpt", "*.pt", "*.pth")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read all tensors of a safetensors file on the CPU, in their stored dtype.

    Raises:
        CheckpointError: the file is missing, damaged, or not safetensors.
    """
    from safetensors.torch import load_file

    if path.suffix != ".safetensors":
        raise CheckpointError(
            f"{path.name} is not a safetensors file; pickled weights (.bin, .ckpt, .pt) can run code when they are "
            "loaded and are refused: convert them first (docs/checkpoints.md)"
        )
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}")
    try:
        return dict(load_file(str(path)))
    except Exception as error:  # safetensors' own exception type derives from Exception alone
        if out_of_memory(error):
            raise
        raise CheckpointError(f"{path} cannot be read: {_what_it_is(path) or error}") from None


def _what_it_is(path: Path) -> str | None:
    """Recognise common substitutes for weights (a Git LFS pointer, a web page), with the remedy; None otherwise."""
    with path.open("rb") as file:
        start = file.read(64).lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, not the weights; run 'git lfs pull' in its folder"
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it is a web page, not the weights; download it again"
    return None


def read_header(path: Path) -> dict[str, str]:
    """Metadata in the header of a safetensors file: strings by name; other values are ignored."""
    from safetensors import safe_open

    try:
        with safe_open(str(path), "pt") as file:
            return {key: value for key, value in (file.metadata() or {}).items() if isinstance(value, str)}
    except Exception as error:  # safetensors' own exception type derives from Exception alone
        raise CheckpointError(f"{path} cannot be read: {error}") from None


def read_part(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read the config and the tensors of one part (such as ``unet/``); the weights may be split into shards.

    Raises:
        CheckpointError: the folder, its config or its weights are missing, or the weights are pickled.
    """
    if not folder.is_dir():
        raise CheckpointError(f"the checkpoint has no {folder.name}: there is no folder {folder}")
    config = read_json(folder / "config.json")
    weights = _weights(folder)
    if weights is not None and weights.suffix == ".safetensors":
        return config, read_tensors(weights)
    if weights is not None:
        tensors: dict[str, Tensor] = {}
        for shard in sorted(set(read_json(weights).get("weight_map", {}).values())):
            if Path(shard).name != shard:
                raise CheckpointError(f"{weights} names a file outside its folder: {shard}")
            tensors.update(read_tensors(folder / shard))
        return config, tensors
    pickles = sorted(file.name for pattern in _PICKLES for file in folder.glob(pattern))
    if pickles:
        raise CheckpointError(
            f"{folder.name} holds only pickled weights ({pickles[0]}), which can run code when they are loaded and are "
            "refused: convert them to safetensors first (docs/checkpoints.md)"
        )
    raise CheckpointError(f"{folder} holds no {WEIGHT_FILES[0]} or {WEIGHT_FILES[1]}")


def _weights(folder: Path) -> Path | None:
    """File of a part's weights, or index of its shards: the default variant, else fp16, else another one."""
    stems = [name.removesuffix(".safetensors") for name in WEIGHT_FILES]
    for variant in ("", ".fp16", ".*"):
        for stem in stems:
            for pattern in (
                f"{stem}{variant}.safetensors",
                f"{stem}.safetensors.index{variant}.json",
                f"{stem}{variant}.safetensors.index.json",
            ):
                found = [path for path in sorted(folder.glob(pattern)) if path.is_file()]
                if len(found) > 1:
                    names = ", ".join(path.name for path in found)
                    raise CheckpointError(f"{folder.name} holds several variants ({names}): remove all but one")
                if found:
                    return found[0]
    return None


def build(
    part: str,
    make: Callable[[], nn.Module],
    tensors: Mapping[str, Tensor],
    dtype: torch.dtype,
) -> Any:
    """Build a module in evaluation mode on the CPU and fill it with ``tensors``.

    Args:
        part: name of the part, for errors.
        make: function that builds the module from its config; called on the meta device without allocation.
        tensors: tensors by name; unknown ones are ignored (old files contain position tables).
        dtype: dtype of the module's floating-point parameters.

    Raises:
        CheckpointError: the config is invalid, or a tensor is missing or has another shape.
    """
    try:
        with torch.device("meta"):
            module = make()
    except Exception as error:  # the library has many checks of a config, with many types of exceptions
        if out_of_memory(error):
            raise
        raise CheckpointError(f"{part}: its config.json does not describe a usable model: {error}") from None
    expected = module.state_dict()
    missing = [name for name in expected if name not in tensors]
    if missing:
        raise CheckpointError(f"{part}: tensor {missing[0]} is missing ({len(missing)} of {len(expected)} are)")
    filled: dict[str, Tensor] = {}
    for name, slot in expected.items():
        value = tensors[name]
        if value.shape != slot.shape:
            raise CheckpointError(
                f"{part}: tensor {name} is {list(value.shape)}; its config.json asks for {list(slot.shape)}"
            )
        filled[name] = value.to(dtype) if value.is_floating_point() else value
    module.load_state_dict(filled, assign=True)
    _fill_position_tables(part, module)
    return module.eval().requires_grad_(False)


def _fill_position_tables(part: str, module: nn.Module) -> None:
    """Compute the tables that are not stored in files and are still on the meta device."""
    for owner in module.modules():
        for name, buffer in list(owner.named_buffers(recurse=False)):
            if not buffer.is_meta:
                continue
            if name != "position_ids":
                raise CheckpointError(f"{part}: table {name} is not in the file and cannot be computed")
            setattr(owner, name, torch.arange(buffer.shape[-1]).expand(buffer.shape))


def text_encoder_names(tensors: Mapping[str, Tensor], wanted: Mapping[str, Any]) -> dict[str, Tensor]:
    """Rename CLIP's tensors for the installed transformers: with or without ``text_model.``."""
    prefix = "text_model."
    plain = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return {name: plain[name.removeprefix(prefix)] for name in wanted if name.removeprefix(prefix) in plain}


_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def vae_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the autoencoder's tensors to current names.

    Until 2023 diffusers had other names for the parts of its attention, and the original code stored their matrices as
    1x1 filters.
    """
    renamed: dict[str, Tensor] = {}
    for name, value in tensors.items():
        match = re.fullmatch(r"(.*mid_block\.attentions\.\d+)\.(query|key|value|proj_attn)\.(weight|bias)", name)
        new = f"{match[1]}.{_OLD_ATTENTION[match[2]]}.{match[3]}" if match else name
        is_matrix = ".attentions." in new and ".to_" in new and new.endswith("weight")
        renamed[new] = value[..., 0, 0] if is_matrix and value.ndim == 4 else value
    return renamed
