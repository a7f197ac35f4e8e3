"""Pictures of clips: with parameters as EXIF, or as a JPEG file in the size of Riffusion's pictures. No torch here."""

from __future__ import annotations

import io
from typing import Final

import numpy as np
from PIL import Image

from riffstream.spectrogram.image import MAX_AMPLITUDE, image_from_amplitudes
from riffstream.spectrogram.params import SpectrogramParams

__all__ = ["SIZE", "jpeg", "picture"]

SIZE: Final = (512, 512)  # width, height
QUALITY: Final = 75


def picture(mel: np.ndarray, params: SpectrogramParams) -> Image.Image:
    """Draw a clip with its parameters as EXIF (``image-to-audio`` plays it).

    Args:
        mel: [A, M, T] amplitudes of a clip.
        params: the model's spectrogram parameters. Amplitudes of models with a beat grid have their own scale; black is
            the loudest one. Riffusion's models have a fixed scale (:data:`MAX_AMPLITUDE`).
    """
    loudest = None if params.frames_per_beat is not None else MAX_AMPLITUDE
    return image_from_amplitudes(mel, params, max_value=loudest)


def jpeg(mel: np.ndarray, params: SpectrogramParams) -> bytes:
    """Draw a clip as a grey JPEG of :data:`SIZE`: low notes at the bottom, loud is dark.

    Stereo clips are drawn as their mean, because clients of Riffusion read the red plane, which its stereo pictures
    leave empty. Arguments as in :func:`picture`.
    """
    drawn = picture(mel.mean(0, keepdims=True), params)
    if drawn.size != SIZE:
        drawn = drawn.resize(SIZE, Image.Resampling.BICUBIC)
    file = io.BytesIO()
    drawn.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
