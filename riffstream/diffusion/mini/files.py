"""Reading and writing of the JSON and safetensors files of an embedded model. Errors name the part."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from riffstream.errors import CheckpointError, MediaError, out_of_memory
from riffstream.text_files import parse_json, read_text

__all__ = [
    "dequantised",
    "load_module",
    "pack_fingerprint",
    "quantise",
    "read_config",
    "read_json",
    "read_tensors",
    "row_scale",
    "unpack_fingerprint",
    "write_config",
    "write_tensors",
]

T = TypeVar("T")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; CheckpointError if the file is missing or not an object."""
    try:
        value = parse_json(read_text(path))
    except FileNotFoundError:
        raise CheckpointError(f"{path.parent} holds no {path.name}") from None
    except (OSError, MediaError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds no JSON object")
    return value


def read_config(folder: Path, kind: type[T]) -> T:
    """Read ``folder/config.json`` as the dataclass ``kind``; keys with a leading underscore are comments."""
    data = {key: value for key, value in read_json(folder / "config.json").items() if not key.startswith("_")}
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    for key in data:
        if key not in known:
            raise CheckpointError(f"{folder.name}/config.json has an unknown key {key}; known: {', '.join(known)}")
    for name, field in known.items():
        if name not in data and field.default is MISSING and field.default_factory is MISSING:
            raise CheckpointError(f"{folder.name}/config.json lacks {name}")
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in data.items()})


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file by name, on the CPU. Raises CheckpointError."""
    from safetensors.torch import load_file

    if not path.is_file():
        raise CheckpointError(f"{path.parent} holds no {path.name}")
    try:
        return load_file(str(path))
    except Exception as error:  # safetensors' own exception type derives only from Exception
        if out_of_memory(error):
            raise
        raise CheckpointError(f"{path.parent.name}/{path.name} cannot be read: {error}") from None


def quantise(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Quantise matrices to int8 with a scale a row (``name`` and ``name.scale`` [rows] float32), others to float16."""
    stored: dict[str, Tensor] = {}
    for name, value in weights.items():
        if value.ndim == 2:
            scale = value.float().abs().amax(dim=1).clamp_min(1e-12) / 127
            stored[name] = (value.float() / scale[:, None]).round().to(torch.int8)
            stored[f"{name}.scale"] = scale
        else:
            stored[name] = value.half()
    return stored


def row_scale(tensors: Mapping[str, Tensor], name: str, part: str) -> Tensor:
    """Scale [rows] of an int8 matrix; CheckpointError if it is missing or has another length."""
    scale, rows = tensors.get(f"{name}.scale"), len(tensors[name])
    if scale is None or scale.shape != (rows,):
        raise CheckpointError(f"{part}: tensor {name}.scale is missing or not [{rows}]")
    return scale


def pack_fingerprint(digits: str) -> Tensor:
    """A fingerprint in hexadecimal digits as a tensor of a file, uint8."""
    return torch.tensor(list(bytes.fromhex(digits)), dtype=torch.uint8)


def unpack_fingerprint(stored: Tensor | None) -> str:
    """Inverse of :func:`pack_fingerprint`; "" where a file has none."""
    return "" if stored is None else bytes(stored.flatten().to(torch.uint8).tolist()).hex()


def dequantised(tensors: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    """Inverse of :func:`quantise`, up to rounding. Raises CheckpointError where a scale is missing."""
    small = {name for name, value in tensors.items() if value.dtype == torch.int8}
    scaled = {name: tensors[name].float() * row_scale(tensors, name, part)[:, None] for name in small}
    return {**{name: tensors[name] for name in set(tensors) - {f"{name}.scale" for name in small}}, **scaled}


def load_module(module: nn.Module, tensors: Mapping[str, Tensor], part: str) -> None:
    """Fill ``module`` with ``tensors`` (floats, or quantised by :func:`quantise`) in the module's own dtype.

    Raises:
        CheckpointError: names or shapes do not match exactly.
    """
    tensors = dequantised(tensors, part)
    own = module.state_dict()
    for name, value in own.items():
        if name not in tensors:
            raise CheckpointError(f"{part}: tensor {name} is missing")
        if tensors[name].shape != value.shape:
            given, expected = tuple(tensors[name].shape), tuple(value.shape)
            raise CheckpointError(f"{part}: tensor {name} is {given}; the config asks for {expected}")
    extra = sorted(set(tensors) - set(own))
    if extra:
        raise CheckpointError(f"{part}: tensor {extra[0]} is unknown (of {len(extra)} such)")
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(tensors[name])


def write_config(folder: Path, config: Mapping[str, Any], name: str = "config.json") -> None:
    """Write the JSON file ``folder/name`` atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{name}.part"
    part.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    os.replace(part, folder / name)


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file atomically."""
    from safetensors.torch import save

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    # Not save_file: it ignores the umask and makes files that only their owner may read.
    part.write_bytes(save({name: value.detach().cpu().contiguous() for name, value in tensors.items()}))
    os.replace(part, path)
