"""Inpainting masks on the latent grid: 1 repaints a cell, 0 keeps the seed image."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from riffstream.errors import MediaError, ParameterError
from riffstream.ranges import nearest
from riffstream.spectrogram.pictures import as_rgb

__all__ = ["NAMES", "latent_mask", "named_mask", "overlap_mask"]

_SHARES = {"half": 1 / 2, "third": 1 / 3, "quarter": 1 / 4, "fifth": 1 / 5}
_SIDES = ("top", "bottom", "left", "right")
NAMES: tuple[str, ...] = (
    *(f"{side}_{share}" for side in _SIDES for share in _SHARES),
    *(f"gradient_{side}" for side in _SIDES),
    *(f"gradient_{side}_{share}" for side in ("top", "bottom") for share in _SHARES),
    "gradient_dark",
    "beat_lines",
)
LINE = 1 / 8  # width of a beat line in beats


def named_mask(name: str, size: tuple[int, int], *, low_first: bool = False, beats: float = 8) -> Tensor:
    """Mask by name with an optional strength in percent (``top_third_75``), like Riffusion's ``mask_...`` images.

    ``top_half`` (``third``, ``quarter``, ``fifth``; ``bottom_``, ``left_``, ``right_``) repaints that part: the top is
    the treble, the left is the beginning. ``gradient_top`` fades from repainted at the top to kept at the bottom
    (``gradient_top_fifth``: kept below the top fifth). ``gradient_dark`` goes from kept at the beginning to half
    repainted at the end. ``beat_lines`` keeps a line around each beat and repaints the rest, so that the rhythm stays.

    Args:
        name: see above; a leading ``mask_`` is ignored.
        size: (h, w) of the latent grid.
        low_first: True if row 0 holds the lowest notes.
        beats: number of beats in the clip.

    Returns:
        [h, w] float32, 0 to 1. A cell on an edge has its covered share.

    Raises:
        ParameterError: an unknown name (naming the nearest) or a strength above 100.
    """
    match = re.fullmatch(r"(?:mask_)?(.+?)(?:_(\d+))?", name)
    kind, percent = (match[1], int(match[2] or 100)) if match else ("", 0)
    if kind not in NAMES or percent > 100:
        raise ParameterError("mask", name, f"{', '.join(NAMES)}, each with _0 to _100{nearest(kind, NAMES)}")
    height, width = size
    down, across = _centres(height).unsqueeze(1), _centres(width).unsqueeze(0)
    if kind == "beat_lines":
        mask = 1 - _lines(width, beats).unsqueeze(0).expand(height, width)
    elif kind == "gradient_dark":
        mask = (across / 2).expand(height, width)
    elif kind.startswith("gradient_"):
        _, side, *share = kind.split("_")
        ramp = {"top": 1 - down, "bottom": down, "left": 1 - across, "right": across}[side]
        reach = _SHARES[share[0]] if share else 1.0
        mask = (1 - (1 - ramp) / reach).clamp(0, 1).expand(height, width)
    else:
        side, share_name = kind.split("_")
        length, share_of = (height if side in ("top", "bottom") else width), _SHARES[share_name]
        covered = (share_of * length - torch.arange(length)).clamp(0, 1)
        if side in ("bottom", "right"):
            covered = covered.flip(0)
        mask = covered.unsqueeze(1 if side in ("top", "bottom") else 0).expand(height, width)
    mask = mask.float() * (percent / 100)
    return (mask.flip(0) if low_first else mask).contiguous()


def latent_mask(
    mask: Tensor | np.ndarray | bytes | Path | str,
    size: tuple[int, int],
    *,
    low_first: bool = False,
    beats: float = 8,
    files: bool = False,
) -> Tensor:
    """Mask of any kind on the latent grid.

    Args:
        mask: a name; an array or tensor [H, W] (0 to 1, or uint8); the bytes of an image file; a path, or with
            ``files`` a string that is not a name. White and transparent parts are repainted. Pictures have the treble
            at the top.
        size: (h, w) of the latent grid; pictures are averaged over its cells.
        low_first: True if row 0 of the grid holds the lowest notes.
        beats: number of beats in the clip, for ``beat_lines``.
        files: True allows paths of this machine as strings.

    Returns:
        [h, w] float32, 0 to 1.

    Raises:
        ParameterError: an unknown name, or values outside 0 to 1.
        MediaError: not a readable image.
    """
    if isinstance(mask, str):
        if not (files and Path(mask).suffix and Path(mask).is_file()):
            return named_mask(mask, size, low_first=low_first, beats=beats)
        mask = Path(mask)
    if isinstance(mask, bytes | Path):
        mask = _read(mask)
    values = torch.as_tensor(np.array(mask) if isinstance(mask, np.ndarray) else mask)
    values = values.float() / 255 if values.dtype == torch.uint8 else values.float()
    if values.ndim != 2 or not bool(((values >= 0) & (values <= 1)).all()):
        raise ParameterError("mask", f"{tuple(values.shape)} array", "[H, W] of values 0 to 1, or of uint8")
    grid = F.adaptive_avg_pool2d(values[None, None], size)[0, 0]
    return (grid.flip(0) if low_first else grid).contiguous()


def overlap_mask(width: int, columns: int) -> Tensor:
    """Mask that keeps the first ``columns`` columns, the last one by half for a soft edge: [w] float32."""
    mask = torch.ones(width)
    mask[:columns] = 0.0
    if columns > 1:
        mask[columns - 1] = 0.5
    return mask


def _centres(count: int) -> Tensor:
    return (torch.arange(count) + 0.5) / count


def _lines(width: int, beats: float) -> Tensor:
    """Share of each column on a beat line, [w]. A line is centred on its beat."""
    fine = 16
    place = (torch.arange(width * fine) + 0.5) / (width * fine) * beats
    on = ((place + LINE / 2) % 1 < LINE).float()
    return on.view(width, fine).mean(1)


def _read(source: bytes | Path) -> np.ndarray:
    name = str(source) if isinstance(source, Path) else "the given bytes"
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            return np.array(as_rgb(image, name=f"mask {name}").convert("L"))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise MediaError(f"mask {name}: {error}") from None
