"""Pictures of the loops of a seed library, drawn from their latents when they are needed. No torch.

The linear part of the codec (``diffusion/mini/codec.py``) suffices: its networks add fine detail.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image
from safetensors import SafetensorError, safe_open

from riffstream.errors import CheckpointError
from riffstream.text_files import parse_json, read_text

__all__ = ["draw_loop", "png"]

RANGE_DB: Final = 80.0  # black to white, as in ``MiniFamily.decode_image``
LINEAR: Final = ("mean", "basis", "latent_mean", "latent_scale")


def draw_loop(latents: np.ndarray, codec: Path) -> np.ndarray:
    """Draw a loop as ``MiniFamily.decode_image`` does.

    Args:
        latents: float32 [C, h, w].
        codec: folder of their codec.

    Returns:
        uint8 [mels, T, 3]: low notes at the bottom, loud is dark; red is the level of both channels, green left, blue
        right.

    Raises:
        CheckpointError: a missing or damaged file, or the codec of other latents.
    """
    try:
        with safe_open(codec / "diffusion_pytorch_model.safetensors", "np") as file:
            linear = {name: file.get_tensor(name).astype(np.float32) for name in LINEAR}
        config = parse_json(read_text(codec / "config.json"))
        return _shade(_mel(_features(latents, linear, config["patch"]), config), config["floor_db"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(f"a loop cannot be drawn with {codec}: {error}") from None


def png(picture: np.ndarray) -> bytes:
    """A picture as a PNG file of 32 colours: a third of the bytes, and the eye sees no difference."""
    file = io.BytesIO()
    drawn = Image.fromarray(picture).convert("P", palette=Image.Palette.ADAPTIVE, colors=32)
    drawn.save(file, "png", optimize=True)
    return file.getvalue()


def _features(latents: np.ndarray, linear: dict[str, np.ndarray], patch: int) -> np.ndarray:
    """Level and balance [2, M, T] of latents [C, h, w]: the linear part of ``Codec.decode``."""
    code = latents * linear["latent_scale"][:, None, None] + linear["latent_mean"][..., None]
    cells = np.einsum("cp,chw->phw", linear["basis"], code)
    _, rows, columns = cells.shape
    grid = cells.reshape(2, patch, patch, rows, columns).transpose(0, 3, 1, 4, 2)
    return np.asarray(grid.reshape(2, rows * patch, columns * patch) + linear["mean"][:, :, None])


def _mel(features: np.ndarray, config: dict[str, Any]) -> np.ndarray:
    """Amplitudes [2, M, T] (``features_to_mel``)."""
    decibels = features[0] * config["span_db"]
    level = 10 ** ((decibels + config["floor_db"]) / 20) * (decibels / 3).clip(0, 1)
    limit = config["balance_limit_db"]
    ratio = 10 ** ((features[1] * (config["span_db"] / config["balance"])).clip(-limit, limit) / 20)
    right = level * np.sqrt(2 / (1 + ratio**2))
    return np.stack([right * ratio, right])


def _shade(mel: np.ndarray, floor_db: float) -> np.ndarray:
    both = np.concatenate([np.sqrt((mel**2).mean(0, keepdims=True)), mel])
    decibels = 20 * np.log10(both.clip(1e-9))
    shade = ((floor_db + RANGE_DB - decibels) / RANGE_DB).clip(0, 1) * 255
    return np.ascontiguousarray(shade.round().astype(np.uint8).transpose(1, 2, 0)[::-1])
