"""LoRA files: low-rank changes to a checkpoint's weights (Hu et al. 2021, arXiv:2106.09685), merged into them.

Merged weights cost nothing while sampling, and need no library. Four ways of naming the tensors are read:

- kohya-ss: ``lora_unet_down_blocks_0_..._to_q.lora_down.weight``, ``.lora_up.weight``, ``.alpha``;
- diffusers with peft: ``unet.down_blocks.0...to_q.lora_A.weight``, ``.lora_B.weight``;
- diffusers until 0.21: ``unet...to_q.lora.down.weight``, or ``unet...attn1.processor.to_q_lora.down.weight``;
- files of the denoiser alone, without ``unet.`` in front.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from riffstream.diffusion.sd_parts import read_tensors
from riffstream.errors import CheckpointError, ParameterError

__all__ = ["LoraSpec", "merge_lora", "parse_lora"]

_DOWN = (".lora_down", ".lora_A", ".lora_A.default", ".lora.down", "_lora.down", ".lora_linear_layer.down")
_UP = (".lora_up", ".lora_B", ".lora_B.default", ".lora.up", "_lora.up", ".lora_linear_layer.up")
_KOHYA = {"lora_unet_": "unet", "lora_te_": "text_encoder", "lora_te1_": "text_encoder"}


@dataclass(frozen=True, slots=True)
class LoraSpec:
    """A LoRA file and how strongly it is applied (1 as trained; 0 not at all; negative values invert it)."""

    path: Path
    scale: float = 1.0


def parse_lora(value: str | Path | LoraSpec | Sequence[object]) -> LoraSpec:
    """A file, a ``(file, scale)`` pair, or ``FILE:SCALE`` as on the command line.

    Raises:
        ParameterError: the scale is no number from -4 to 4.
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


@dataclass(slots=True)
class _Pair:
    down: Tensor | None = None
    up: Tensor | None = None
    alpha: float | None = None


def merge_lora(modules: Mapping[str, nn.Module], spec: LoraSpec) -> int:
    """Add a LoRA's change to the weights of ``modules``, in place.

    Each pair changes its layer's weight by ``scale * alpha / rank * up @ down``; ``alpha`` is the rank where the file
    does not say.

    Args:
        modules: ``unet`` and ``text_encoder``.
        spec: file and scale.

    Returns:
        How many layers were changed.

    Raises:
        CheckpointError: the file is no LoRA of such a checkpoint: a layer that the checkpoint lacks, a shape that does
            not fit, half a pair, or an unknown kind of adapter. The weights are then untouched.
    """
    where = spec.path.name
    pairs = _pairs(read_tensors(spec.path), where)
    if not pairs:
        raise CheckpointError(f"{where} holds no LoRA weights")
    layers = {part: _layers(module, part) for part, module in modules.items()}
    changes: list[tuple[Tensor, Tensor]] = []
    for name, pair in pairs.items():
        part, layer = _find(name, layers, where)
        if pair.down is None or pair.up is None:
            raise CheckpointError(f"{where}: {name} has only one half of its pair")
        weight = layer.weight
        assert isinstance(weight, Tensor)
        changes.append((weight, _change(pair.down, pair.up, pair.alpha, weight, f"{where}: {part} {name}")))
    with torch.no_grad():
        for weight, change in changes:
            weight.copy_(weight.float() + spec.scale * change.to(weight.device))
    return len(changes)


def _pairs(tensors: Mapping[str, Tensor], where: str) -> dict[str, _Pair]:
    pairs: dict[str, _Pair] = {}
    for name, value in tensors.items():
        stem = name.removesuffix(".weight")
        down = next((end for end in _DOWN if stem.endswith(end)), None)
        up = next((end for end in _UP if stem.endswith(end)), None)
        if down:
            pairs.setdefault(stem.removesuffix(down), _Pair()).down = value
        elif up:
            pairs.setdefault(stem.removesuffix(up), _Pair()).up = value
        elif name.endswith(".alpha"):
            pairs.setdefault(name.removesuffix(".alpha"), _Pair()).alpha = float(value)
        else:
            raise CheckpointError(f"{where}: {name} is no LoRA weight (LoHa, LoKr, DoRA and whole models are not read)")
    return pairs


def _layers(module: nn.Module, part: str) -> dict[str, nn.Module]:
    """Layers with a weight, by their name with all separators removed, which every naming agrees on."""
    named = {
        name: layer for name, layer in module.named_modules() if isinstance(getattr(layer, "weight", None), Tensor)
    }
    flat = {_flatten(name): layer for name, layer in named.items()}
    if part == "text_encoder":  # transformers 5 dropped the level that all files still name
        flat |= {f"textmodel{name}": layer for name, layer in flat.items() if not name.startswith("textmodel")}
    return flat


def _flatten(name: str) -> str:
    name = name.replace(".processor.", ".").replace("to_out_lora", "to_out")
    return re.sub(r"[._]", "", name)


def _find(name: str, layers: Mapping[str, Mapping[str, nn.Module]], where: str) -> tuple[str, nn.Module]:
    part, rest = "unet", name
    for prefix, owner in (*_KOHYA.items(), ("unet.", "unet"), ("text_encoder.", "text_encoder")):
        if name.startswith(prefix):
            part, rest = owner, name.removeprefix(prefix)
            break
    flat = _flatten(rest.removeprefix("base_model.model."))
    for candidate in (flat, f"{flat}0"):  # old files say to_out for to_out.0
        layer = layers.get(part, {}).get(candidate)
        if layer is not None:
            return part, layer
    raise CheckpointError(f"{where}: the checkpoint's {part} has no layer {rest}; the LoRA is for another model")


def _change(down: Tensor, up: Tensor, alpha: float | None, weight: Tensor, what: str) -> Tensor:
    rank = down.shape[0]
    fits = up.ndim == down.ndim and down.ndim in (2, 4) and up.shape[1] == rank and up.shape[2:].numel() == 1
    change = (up.float().flatten(1) @ down.float().flatten(1)) if fits else torch.empty(0)
    if change.numel() != weight.numel() or up.shape[0] != weight.shape[0]:
        raise CheckpointError(
            f"{what}: {list(up.shape)} and {list(down.shape)} do not fit the layer's weight {list(weight.shape)}"
        )
    return change.reshape(weight.shape) * ((rank if alpha is None else alpha) / rank)
