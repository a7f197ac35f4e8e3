"""Picture of a station's sound: link previews, and covers of downloads.

Threading model: no state; a call takes tens of milliseconds and belongs in a thread.
"""

from __future__ import annotations

import io
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from riffstream.audio.spectrum import loudness_picture

__all__ = ["draw_spectrum"]

# From silence to loud; the player's own colours.
COLOURS = np.array(
    [(12, 11, 18), (46, 27, 86), (122, 44, 128), (214, 84, 98), (252, 176, 96), (255, 244, 214)], np.float32
)
SILENCE = 1e-3


def draw_spectrum(mono: NDArray[np.float32] | None, size: tuple[int, int], kind: Literal["PNG", "JPEG"]) -> bytes:
    """Draw the spectrum of audio over time.

    Args:
        mono: [n] float32; None or silence: an empty picture.
        size: width and height in pixels.
        kind: file format.
    """
    width, height = size
    levels = np.zeros((height // 2, width // 2), np.float32)
    if mono is not None and len(mono) and np.abs(mono).max() > SILENCE:
        levels = loudness_picture(mono, width // 2, height // 2)
    place = levels * (len(COLOURS) - 1)
    low = np.minimum(place.astype(int), len(COLOURS) - 2)
    share = (place - low)[..., None]
    pixels = (COLOURS[low] * (1 - share) + COLOURS[low + 1] * share).astype(np.uint8)
    picture = Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)
    target = io.BytesIO()
    if kind == "PNG":
        picture.save(target, kind, compress_level=6)
    else:
        picture.save(target, kind, quality=85)
    return target.getvalue()
