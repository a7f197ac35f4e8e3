"""LoRA files and folders: their tensors as pairs of matrices, each with its strength (alpha).

Supported names are those of kohya-ss and related tools, of peft, and of diffusers since 0.13. The alpha of a pair is
the first of:

- its ``.alpha`` tensor;
- the file's header: peft's configuration as written by diffusers, ``lora_alpha``, or kohya's ``ss_network_alpha``;
- ``adapter_config.json`` beside the file;
- the pair's rank, so that the product is added without scaling.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from riffstream.diffusion.mini.files import read_json
from riffstream.diffusion.sd.parts import read_header, read_tensors
from riffstream.errors import CheckpointError, MediaError
from riffstream.text_files import parse_json

__all__ = ["LoraFile", "Pair", "read_lora"]

CONFIG: Final = "adapter_config.json"
_WEIGHTS: Final = ("adapter_model.safetensors", "pytorch_lora_weights.safetensors")
_DOWN = re.compile(r"(.+?)(?:\.lora_A(?:\.[^.]+)?|[._]lora\.down|_lora\.down|\.lora_down|\.lora_linear_layer\.down)")
_UP = re.compile(r"(.+?)(?:\.lora_B(?:\.[^.]+)?|[._]lora\.up|_lora\.up|\.lora_up|\.lora_linear_layer\.up)")
_MAGNITUDE = re.compile(r"(.+?)\.(?:lora_magnitude_vector(?:\.[^.]+)?|dora_scale)")
# Endings of tensor names in other adapters -> kind of the adapter.
_OTHERS: Final = {
    ".hada_w": "LoHa",
    ".hada_t": "LoHa",
    ".lokr_w": "LoKr",
    ".lokr_t": "LoKr",
    ".oft_": "OFT",
    ".oft_diag": "OFT",
    ".boft_": "BOFT",
    ".on_input": "(IA)3",
    ".ia3_": "(IA)3",
    ".a1.": "GLoRA",
    ".w_norm": "norms",
    "bundle_emb.": "textual inversion",
    "emb_params": "textual inversion",
}
_CHECKPOINT: Final = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.", "conditioner.")
# Initialisations of peft that change the base model: the file does not contain the changed weights.
_CHANGED_BASE: Final = ("pissa", "olora", "corda", "loftq")


@dataclass(slots=True)
class Pair:
    """Change of one layer: ``up @ down``, with ``mid`` between them for filters in Tucker form.

    Attributes:
        down, up, mid: the matrices.
        magnitude: length of each row of the changed weight (DoRA).
        alpha: strength; None if it depends on the layer's name (:meth:`LoraFile.factor`).
    """

    down: Tensor | None = None
    up: Tensor | None = None
    mid: Tensor | None = None
    magnitude: Tensor | None = None
    alpha: float | None = None


@dataclass(frozen=True, slots=True)
class LoraFile:
    """Content of a LoRA file.

    Attributes:
        name: name for error messages.
        pairs: pairs by the layer's name in the file.
        configs: peft's settings by part (``unet``, ``text_encoder``; "": all).
        kohya: kohya's settings: ``alpha``, and ``conv_alpha`` for filters.
    """

    name: str
    pairs: dict[str, Pair]
    configs: Mapping[str, Mapping[str, Any]]
    kohya: Mapping[str, float]

    def factor(self, pair: Pair, part: str, layer: str) -> float:
        """Factor of the product of a pair.

        Args:
            pair: the pair.
            part: ``unet`` or ``text_encoder``.
            layer: name of the layer in the module, with dots.
        """
        assert pair.down is not None
        rank = pair.down.shape[0]
        if pair.alpha is not None:
            return pair.alpha / rank
        config = self.configs.get(part, self.configs.get(""))
        if config is not None:
            alpha = _number(_matching(config.get("alpha_pattern"), layer), config.get("lora_alpha"), self.name)
            if alpha is not None:
                return alpha / (math.sqrt(rank) if config.get("use_rslora") in (True, "true", "True") else rank)
        key = (
            "conv_alpha" if pair.down.ndim == 4 and pair.down.shape[-1] > 1 and "conv_alpha" in self.kohya else "alpha"
        )
        return self.kohya[key] / rank if key in self.kohya else 1.0


def read_lora(path: Path) -> list[LoraFile]:
    """Read a ``.safetensors`` file, or a folder written by peft or diffusers (also with a folder for each part).

    Raises:
        CheckpointError: not found, pickled, or another kind of adapter; the message names it.
    """
    files = _files(path) if path.is_dir() else [path]
    return [_read(file, path.name if path.is_dir() else file.name) for file in files]


def _files(folder: Path) -> list[Path]:
    for place in (folder, None):
        folders = [place] if place else [folder / part for part in ("unet", "text_encoder")]
        found = [each / name for each in folders for name in _WEIGHTS if (each / name).is_file()]
        if found:
            return found
    others = sorted(folder.glob("*.safetensors"))
    if len(others) == 1:
        return others
    if others:
        raise CheckpointError(f"{folder} holds several files: give one of them, such as {others[0]}")
    pickled = next((file for pattern in ("*.bin", "*.pt", "*.ckpt") for file in sorted(folder.glob(pattern))), None)
    if pickled is not None:
        return [pickled]  # its error message has the remedy
    raise CheckpointError(f"{folder} holds no {_WEIGHTS[0]}")


def _read(file: Path, name: str) -> LoraFile:
    tensors = read_tensors(file)
    if not tensors:
        raise CheckpointError(f"{name} holds no LoRA weights")
    header = read_header(file)
    configs = _configs(header, name)
    if not configs and (file.parent / CONFIG).is_file():
        beside = read_json(file.parent / CONFIG)
        configs = {_part(beside): beside}
    for config in configs.values():
        _check(config, name)
    pairs = _pairs(tensors, name)
    wants_lengths = any(config.get("use_dora") in (True, "true", "True") for config in configs.values())
    if wants_lengths and all(pair.magnitude is None for pair in pairs.values()):
        raise CheckpointError(f"{name} is DoRA, but holds no lora_magnitude_vector")
    return LoraFile(name, pairs, configs, _kohya(header))


def _pairs(tensors: Mapping[str, Tensor], where: str) -> dict[str, Pair]:
    pairs: dict[str, Pair] = {}

    def place(stem: str, slot: str, value: Any, name: str) -> None:
        pair = pairs.setdefault(stem, Pair())
        if getattr(pair, slot) is not None:
            raise CheckpointError(f"{where} holds several adapters ({name} is the second of its kind); give one a file")
        setattr(pair, slot, value)

    for name, value in tensors.items():
        stem = name.removesuffix(".weight")
        if name.startswith(("lora_te2_", "text_encoder_2.")):
            raise CheckpointError(f"{where} is for Stable Diffusion XL (it has {name}), which cannot be used")
        if ".lora_B" in name and name.endswith(".bias"):
            raise CheckpointError(f"{where}: {name} is a bias (peft's lora_bias), which is not read")
        if match := _DOWN.fullmatch(stem):
            place(match[1], "down", value, name)
        elif match := _UP.fullmatch(stem):
            place(match[1], "up", value, name)
        elif name.endswith(".alpha"):
            place(re.sub(r"(?:[._]lora|\.lora_linear_layer)?\.alpha$", "", name), "alpha", float(value), name)
        elif stem.endswith(".lora_mid"):
            place(stem.removesuffix(".lora_mid"), "mid", value, name)
        elif match := _MAGNITUDE.fullmatch(stem):
            if stem.endswith("dora_scale") and value.ndim > 1 and value.shape[0] == 1 < value.numel():
                raise CheckpointError(f"{where}: {name} is DoRA over the inputs of a layer; only over outputs is read")
            place(match[1], "magnitude", value, name)
        else:
            if name.startswith(_CHECKPOINT):
                raise CheckpointError(f"{where} is a checkpoint, no LoRA (it has {name}): give it with --model")
            kind = next((kind for mark, kind in _OTHERS.items() if mark in name), None)
            if stem.endswith((".diff", ".diff_b")):
                kind = "whole weights (full or LoCon 'diff')"
            what = f"belongs to an adapter of the kind {kind}" if kind else "is no LoRA weight"
            raise CheckpointError(
                f"{where}: {name} {what}; LoRA, LoCon and DoRA are read. Merge it into the checkpoint with the tool "
                "that made it"
            )
    return pairs


def _configs(header: Mapping[str, str], where: str) -> dict[str, dict[str, Any]]:
    """Settings of peft in a header: as JSON under ``lora_adapter_metadata``, or each under its own name."""
    values: dict[str, Any] = {}
    for key, text in header.items():
        if key == "lora_adapter_metadata":
            try:
                told = parse_json(text)
            except MediaError as error:
                raise CheckpointError(f"{where}: lora_adapter_metadata in its header is no JSON: {error}") from None
            values |= told if isinstance(told, dict) else {}
        elif key.rpartition(".")[2] in ("r", "lora_alpha", "alpha_pattern", "use_rslora", "use_dora", "peft_type"):
            try:
                values.setdefault(key, json.loads(text))
            except (ValueError, TypeError):
                values.setdefault(key, text)
    configs: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        part, dot, setting = key.partition(".")
        if not dot or part not in ("unet", "text_encoder"):
            part, setting = "", key.rpartition(".")[2]
        configs.setdefault(part, {})[setting] = value
    return configs


def _part(config: Mapping[str, Any]) -> str:
    kind = str((config.get("auto_mapping") or {}).get("base_model_class", ""))
    return "text_encoder" if "CLIPText" in kind else ""


def _check(config: Mapping[str, Any], where: str) -> None:
    kind = str(config.get("peft_type") or "LORA").upper().rpartition(".")[2]
    if kind != "LORA":
        raise CheckpointError(f"{where} is an adapter of the kind {kind}; LoRA, LoCon and DoRA are read")
    start = str(config.get("init_lora_weights") or "").lower()
    if start.startswith(_CHANGED_BASE):
        raise CheckpointError(
            f"{where} began from {start}, which changes the checkpoint as well: save it with peft's "
            "path_initial_model_for_weight_conversion, which makes a plain LoRA of it"
        )


def _kohya(header: Mapping[str, str]) -> dict[str, float]:
    values = {"alpha": header.get("ss_network_alpha")}
    try:
        more = json.loads(header.get("ss_network_args") or "{}")
        values["conv_alpha"] = more.get("conv_alpha") if isinstance(more, dict) else None
    except ValueError:
        pass
    found: dict[str, float] = {}
    for key, value in values.items():
        try:
            number = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):  # "None"
            continue
        if math.isfinite(number):
            found[key] = number
    return found


def _matching(pattern: Any, layer: str) -> Any:
    """Value of the key that matches a layer's name as in peft: by its end, or by a regular expression."""
    if not isinstance(pattern, Mapping):
        return None
    short = layer.removeprefix("text_model.")
    for key, value in pattern.items():
        try:
            fits = any(re.fullmatch(rf"(?:.*\.)?(?:{key})", name) for name in (layer, short, f"text_model.{short}"))
        except re.error:
            fits = key in (layer, short)
        if fits:
            return value
    return None


def _number(special: Any, general: Any, where: str) -> float | None:
    value = general if special is None else special
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise CheckpointError(f"{where}: lora_alpha is {value!r}; allowed: a number")
    return number
