"""Masks: which part of a clip is made anew (1) and which part of the seed image stays (0), on the latent grid."""

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
from riffstream.journey.ranges import nearest
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
LINE = 1 / 8  # of a beat: how much around each beat a beat line keeps


def named_mask(name: str, size: tuple[int, int], *, low_first: bool = False, beats: float = 8) -> Tensor:
    """A mask by name, each with an optional strength in percent (``top_third_75``), as Riffusion's ``mask_...`` images.

    ``top_half`` (``third``, ``quarter``, ``fifth``; ``bottom_``, ``left_``, ``right_``) makes that part anew: the top
    is the treble, left is the beginning. ``gradient_top`` fades from all anew at the top to all kept at the bottom
    (``gradient_top_fifth``: kept from there on). ``gradient_dark`` goes from kept at the beginning to half anew at the
    end. ``beat_lines`` keeps a line around each beat and makes the rest anew, so that the rhythm stays.

    Args:
        name: see above; a leading ``mask_`` is ignored.
        size: (h, w) of the latent grid.
        low_first: whether row 0 holds the lowest notes.
        beats: in the clip.

    Returns:
        [h, w] float32, 0 to 1. A cell that an edge crosses gets the share that is covered.

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
    """Any mask on the latent grid.

    Args:
        mask: a name; an array or tensor [H, W] (0 to 1, or uint8); the bytes of an image file; a path, or with
            ``files`` a string that is not a name. White and transparent parts are made anew.
            Pictures have the treble at the top.
        size: (h, w) of the latent grid; pictures are averaged over its cells.
        low_first: whether row 0 of the grid holds the lowest notes.
        beats: in the clip, for ``beat_lines``.
        files: whether strings may name files of this machine.

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
    """[w] float32: keeps the first ``columns`` columns, the last of them only half, so that new music grows out of
    them without an edge."""
    mask = torch.ones(width)
    mask[:columns] = 0.0
    if columns > 1:
        mask[columns - 1] = 0.5
    return mask


def _centres(count: int) -> Tensor:
    return (torch.arange(count) + 0.5) / count


def _lines(width: int, beats: float) -> Tensor:
    """[w] the share of each column that lies on a beat line: half a line before each beat, half after it."""
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
