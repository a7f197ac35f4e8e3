"""Spectrogram images: mel amplitudes as pixels, parameters as EXIF. Riffusion's format.

Frequency runs upwards and time to the right; loud is dark. A mono image is grey. In a stereo image red is 0, green is
the left channel and blue is the right channel. Amplitudes are companded with ``power_for_image``.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from riffstream.errors import MediaError, MediaWarning, ParameterError
from riffstream.spectrogram.params import ExifTag, SpectrogramParams
from riffstream.spectrogram.pictures import as_rgb, colouring, open_picture

__all__ = [
    "MAX_AMPLITUDE",
    "amplitudes_from_image",
    "image_from_amplitudes",
    "image_params",
    "read_image",
    "save_image",
]

MAX_AMPLITUDE = 30e6  # amplitude of black, in int16 units; the level is normalised after decoding
GREY_MEAN = 32  # of 0 to 255; a stereo image darker than this is loud everywhere, not grey


def image_from_amplitudes(
    amplitudes: np.ndarray, params: SpectrogramParams, *, max_value: float | None = None
) -> Image.Image:
    """Draw mel amplitudes, with the parameters as EXIF (``save_image`` writes it).

    Args:
        amplitudes: [A, M, T] float >= 0, A = 1 or 2.
        params: source of the companding exponent and the EXIF tags.
        max_value: amplitude of black; the largest amplitude by default.

    Returns:
        RGB image, T wide and M high. Values are truncated, not rounded, as in Riffusion.

    Raises:
        ParameterError: another shape, or amplitudes that are not finite.
    """
    if amplitudes.ndim != 3 or amplitudes.shape[0] not in (1, 2) or not amplitudes.size:
        raise ParameterError("amplitudes", amplitudes.shape, "[1 or 2 channels, mel bins, frames]")
    peak = float(amplitudes.max()) if max_value is None else float(max_value)
    if not np.isfinite(peak):
        raise ParameterError("amplitudes", peak, "finite numbers")
    share = np.minimum(amplitudes.astype(np.float32) / np.float32(peak if peak > 0 else 1.0), np.float32(1.0))
    companded = np.power(share, np.float32(params.power_for_image))
    pixels = (np.float32(255) - companded * np.float32(255)).astype(np.uint8)[:, ::-1]
    left, right = pixels[0], pixels[-1]
    red = np.zeros_like(left) if len(pixels) == 2 else left
    image = Image.fromarray(np.stack((red, left, right), axis=-1))
    stereo = params.replace(stereo=len(pixels) == 2)
    image.getexif().update(stereo.to_exif(peak))
    return image


def amplitudes_from_image(
    image: Image.Image | np.ndarray, *, power: float = 0.25, stereo: bool = False, max_value: float = MAX_AMPLITUDE
) -> np.ndarray:
    """Mel amplitudes of a spectrogram image.

    Args:
        image: any PIL image (transparent parts are white, 16 bits are scaled to 8), or uint8 [H, W, 3] or [H, W].
        power: companding exponent.
        stereo: read green and blue as left and right instead of red alone.
        max_value: amplitude of black.

    Returns:
        [A, H, W] float32, 0 to ``max_value``.

    Raises:
        MediaError: pixels whose scale is not defined (see ``as_rgb``).
    """
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    pixels = np.asarray(as_rgb(image))[::-1].transpose(2, 0, 1)
    chosen = (pixels[1:3] if stereo else pixels[:1]).astype(np.float32)
    share = (np.float32(255) - chosen) / np.float32(255)
    amplitudes: np.ndarray = np.power(share, np.float32(1 / power)) * np.float32(max_value)
    return amplitudes


def image_params(image: Image.Image, *, name: str = "the image", stereo: bool | None = None) -> SpectrogramParams:
    """Spectrogram parameters from an image's EXIF.

    Missing values default to Riffusion's, with one mel bin for each row of the image, and a ``MediaWarning`` names
    them. The colour planes then decide between mono and stereo.

    Args:
        image: any PIL image.
        name: name of the image in messages.
        stereo: True or False overrides the EXIF and the colour planes.

    Raises:
        ParameterError: an EXIF value out of range.
        MediaError: neither clearly mono nor stereo: a coloured image, or planes that contradict the EXIF.
    """
    exif = dict(image.getexif())
    missing = SpectrogramParams.missing_in_exif(exif)
    if stereo is None:
        stereo = _is_stereo(image, exif, name)
    exif[ExifTag.STEREO] = int(stereo)
    if not missing:
        return SpectrogramParams.from_exif(exif)
    told = len(missing) < len(SpectrogramParams.missing_in_exif({}))
    what = ", ".join(missing) if told else "spectrogram parameters"
    assumed = "for them" if told else f"(44100 Hz, 10 ms hop, {'stereo' if stereo else 'mono'})"
    warnings.warn(f"{name} has no {what} in its EXIF; assuming Riffusion's {assumed}", MediaWarning, stacklevel=2)
    return SpectrogramParams.from_exif({ExifTag.NUM_FREQUENCIES: image.height, **exif})


def _is_stereo(image: Image.Image, exif: dict[int, Any], name: str) -> bool:
    found = colouring(as_rgb(image))
    remedy = "say which it is (--stereo, --mono)"
    if ExifTag.STEREO not in exif:
        if found == "coloured":
            raise MediaError(f"{name} is coloured, neither grey (mono) nor without red (stereo); {remedy}")
        return found == "stereo"
    stereo = SpectrogramParams.from_exif({ExifTag.STEREO: exif[ExifTag.STEREO]}).stereo
    if not stereo and found == "stereo":
        raise MediaError(f"{name} is mono by its EXIF, but its red plane is empty as in a stereo image; {remedy}")
    if stereo and found == "grey" and np.asarray(as_rgb(image)).mean() > GREY_MEAN:
        raise MediaError(f"{name} is stereo by its EXIF, but grey: its channels were mixed by a conversion; {remedy}")
    return stereo


def read_image(path: str | Path) -> Image.Image:
    """Read a spectrogram image as RGB with its EXIF (see :func:`~riffstream.spectrogram.pictures.open_picture`).

    Raises:
        MediaError: the file is missing, not an image, truncated, or has more than 67 million pixels.
    """
    return open_picture(path)


def save_image(image: Image.Image, path: str | Path) -> None:
    """Write an image with its EXIF; the extension (png, jpg, jpeg, webp) chooses the format.

    PNG and WebP are lossless. JPEG is written at quality 95 without chroma subsampling, because the colours of a
    stereo image hold its channels.

    Raises:
        ParameterError: another extension.
    """
    kind = Path(path).suffix.lower()
    options: dict[str, dict[str, object]] = {
        ".png": {"format": "PNG"},
        ".jpg": {"format": "JPEG", "quality": 95, "subsampling": 0},
        ".jpeg": {"format": "JPEG", "quality": 95, "subsampling": 0},
        ".webp": {"format": "WEBP", "lossless": True},
    }
    if kind not in options:
        raise ParameterError("image file", str(path), "a name ending in .png, .jpg, .jpeg or .webp")
    image.save(path, exif=image.getexif(), **options[kind])  # type: ignore[arg-type]
