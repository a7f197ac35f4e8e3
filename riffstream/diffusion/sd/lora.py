"""LoRA: low-rank changes to a checkpoint's weights (Hu et al. 2021, arXiv:2106.09685), merged into the weights.

Merged weights need no time while sampling and no library. Names of layers are compared without separators, because all
naming schemes then agree:

- kohya-ss: ``lora_unet_down_blocks_0_..._to_q.lora_down.weight``, ``.lora_up.weight``, ``.alpha``; also with the names
  of single-file checkpoints (``lora_unet_input_blocks_1_1_...``);
- diffusers with peft: ``unet.down_blocks.0...to_q.lora_A.weight``, ``.lora_B.weight``;
- diffusers until 0.21: ``unet...to_q.lora.down.weight``, or ``unet...attn1.processor.to_q_lora.down.weight``;
- diffusers until 0.16, text encoder: ``text_encoder...self_attn.to_q_lora.down.weight``;
- files with one part only, without the prefix ``unet.``, as saved by peft.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from riffstream.diffusion.sd.ldm import rename, unet_layout
from riffstream.diffusion.sd.lora_files import LoraFile, Pair, read_lora
from riffstream.errors import CheckpointError, ParameterError

__all__ = ["LoraSpec", "merge_lora", "parse_lora"]

_PREFIXES = {
    "lora_unet": "unet",
    "lora_te1": "text_encoder",
    "lora_te": "text_encoder",
    "unet": "unet",
    "text_encoder": "text_encoder",
}


@dataclass(frozen=True, slots=True)
class LoraSpec:
    """A LoRA file or folder with its strength: 1 as trained, 0 none; negative values invert it."""

    path: Path
    scale: float = 1.0


def parse_lora(value: str | Path | LoraSpec | Sequence[object]) -> LoraSpec:
    """Parse a file, a ``(file, scale)`` pair, or ``FILE:SCALE`` from the command line.

    Raises:
        ParameterError: the scale is not a number from -4 to 4.
    """
    if isinstance(value, LoraSpec):
        return value
    scale: object = 1.0
    if isinstance(value, str | Path):
        path = str(value)
        match = re.fullmatch(r"(.+):([+-]?\d*\.?\d+)", path)
        if match and not Path(path).exists():
            path, scale = match[1], float(match[2])
    else:
        path, scale = str(value[0]), value[1]
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not -4 <= scale <= 4:
        raise ParameterError("lora scale", scale, "-4 to 4")
    return LoraSpec(Path(path), float(scale))


def merge_lora(modules: Mapping[str, nn.Module], spec: LoraSpec) -> int:
    """Add a LoRA's change to the weights of ``modules``, in place.

    Each pair changes its layer's weight by ``scale * alpha / rank * up @ down`` (for alpha see ``lora_files.py``). With
    DoRA (Liu et al. 2024, arXiv:2402.09353) the rows of the changed weight are then scaled to the lengths in the file.

    Args:
        modules: ``unet`` and ``text_encoder``.
        spec: file and scale.

    Returns:
        Number of changed layers.

    Raises:
        CheckpointError: the LoRA does not fit this checkpoint: a missing layer, another shape, half a pair, or another
            kind of adapter. The weights are unchanged.
    """
    layers = {part: _layers(module, part) for part, module in modules.items()}
    changed: list[tuple[Tensor, Tensor]] = []
    for file in read_lora(spec.path):
        for name, pair in file.pairs.items():
            part, layer, module = _find(name, layers, file)
            if pair.down is None or pair.up is None:
                raise CheckpointError(f"{file.name}: {name} has only one half of its pair")
            weight = module.weight
            assert isinstance(weight, Tensor)
            what = f"{file.name}: {part} {name}"
            factor = spec.scale * file.factor(pair, part, layer)
            value = weight.float() + factor * _product(pair, weight, what).to(weight.device)
            if pair.magnitude is not None and spec.scale:
                value = _with_lengths(value, pair.magnitude, what)
            if not bool(value.isfinite().all()):
                raise CheckpointError(f"{what}: the result is not finite; the file is damaged")
            changed.append((weight, value))
    with torch.no_grad():
        for weight, value in changed:
            weight.copy_(value)
    return len(changed)


def _layers(module: nn.Module, part: str) -> dict[str, tuple[str, nn.Module]]:
    """Layers with a weight and their names, by every possible name in a file without separators."""
    named = {
        name: layer for name, layer in module.named_modules() if isinstance(getattr(layer, "weight", None), Tensor)
    }
    flat = {_flatten(name): (name, layer) for name, layer in named.items()}
    if part == "text_encoder":  # an optional level of names, in some files and versions of transformers
        for key, found in list(flat.items()):
            bare = key.removeprefix("textmodel")
            flat |= {bare: found, f"textmodel{bare}": found}
        for key, found in list(flat.items()):  # diffusers until 0.16 named attention as in its own networks
            flat[re.sub(r"(?<=selfattn)(q|k|v|out)proj$", r"to\1", key)] = found
    config = getattr(module, "config", None)
    if part == "unet" and config is not None:
        theirs = rename(named, {new: old for old, new in unet_layout(config).items()})
        flat |= {_flatten(old): (name, named[name]) for name, old in theirs.items()}
    return flat


def _flatten(name: str) -> str:
    name = re.sub(r"\.processor(?=[._])", "", name).replace("to_out_lora", "to_out")
    return re.sub(r"[._]", "", name)


def _find(
    name: str, layers: Mapping[str, Mapping[str, tuple[str, nn.Module]]], file: LoraFile
) -> tuple[str, str, nn.Module]:
    """Find a layer by its name in a file: the part, the layer's name in its module, and the layer."""
    parts, rest = ["unet", "text_encoder"], name
    for prefix, owner in _PREFIXES.items():
        if re.match(rf"{prefix}[._]", name):
            parts, rest = [owner], name[len(prefix) + 1 :]
            break
    else:
        if set(file.configs) == {"text_encoder"}:
            parts = ["text_encoder"]
    flat = _flatten(rest.removeprefix("base_model.model."))
    for part in parts:
        for candidate in (flat, f"{flat}0"):  # old files have to_out for to_out.0
            if candidate in layers.get(part, {}):
                return part, *layers[part][candidate]
    raise CheckpointError(
        f"{file.name}: the checkpoint's {parts[0]} has no layer {rest}; the LoRA is for another model"
    )


def _product(pair: Pair, weight: Tensor, what: str) -> Tensor:
    """The product ``up @ down`` in the shape of the layer's weight, float32."""
    assert pair.down is not None
    assert pair.up is not None
    down, up = pair.down.float(), pair.up.float()
    rank = down.shape[0] if down.ndim else 0
    if pair.mid is not None and down.ndim == up.ndim == pair.mid.ndim == 4 and down.shape[2:].numel() == 1:
        mid = pair.mid.float()  # three filters in series: 1 x 1, k x k, 1 x 1
        if mid.shape[1] == rank:
            down = torch.einsum("abkl,bi->aikl", mid, down[..., 0, 0])
            rank = down.shape[0]
    fits = up.ndim in (2, 4) and down.ndim in (2, 4) and up.shape[1] == rank and up.shape[2:].numel() == 1
    change = (up.flatten(1) @ down.flatten(1)) if fits else torch.empty(0)
    if change.numel() != weight.numel() or up.shape[0] != weight.shape[0] or down.shape[1] != weight.shape[1]:
        raise CheckpointError(
            f"{what}: {list(pair.up.shape)} and {list(pair.down.shape)} do not fit the layer's weight "
            f"{list(weight.shape)}"
        )
    return change.reshape(weight.shape)


def _with_lengths(weight: Tensor, magnitude: Tensor, what: str) -> Tensor:
    rows = weight.shape[0]
    if magnitude.numel() != rows or (magnitude.ndim > 1 and magnitude.shape[0] != rows and magnitude.shape[1] != rows):
        raise CheckpointError(
            f"{what}: DoRA's lengths are {list(magnitude.shape)}; only those of the {rows} outputs are read"
        )
    lengths = weight.flatten(1).norm(dim=1).clamp_min(torch.finfo(torch.float32).tiny)
    scale: Tensor = magnitude.float().flatten().to(weight.device) / lengths
    return weight * scale.reshape(rows, *[1] * (weight.ndim - 1))
