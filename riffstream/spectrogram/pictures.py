"""Pictures from elsewhere as RGB: transparency, depth, orientation, frames, and whether they are stereo.

All code that reads a user's picture uses these functions. Pixel values are used as stored, without colour profile or
gamma: the grey of a spectrogram is a number, not a light intensity.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from riffstream.errors import MediaError, MediaWarning

__all__ = ["MAX_PIXELS", "PICTURE_FORMATS", "as_rgb", "colouring", "is_picture", "open_picture"]

PICTURE_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
MAX_PIXELS = 1 << 26
WHITE_16 = 65535
ORIENTATION = 0x0112  # EXIF
TIFF_BITS, TIFF_PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0
SAMPLED = 1 << 18  # number of pixels inspected
DARK = 40  # mean grey, 0 to 255; real spectrograms have 90 or more
GREY, COLOURED = 8, 40  # mean difference between a pixel's planes, 0 to 255
_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"8BPS", b"\0\0\1\0")
_HEIF = tuple(b"ftyp" + brand for brand in (b"heic", b"heix", b"mif1", b"avif", b"avis"))

_FAILURES = (OSError, SyntaxError, ValueError, KeyError, IndexError, EOFError, TypeError, Image.DecompressionBombError)


def open_picture(
    source: str | Path | bytes,
    *,
    name: str | None = None,
    formats: tuple[str, ...] = PICTURE_FORMATS,
    max_pixels: float = MAX_PIXELS,
) -> Image.Image:
    """Read a picture as RGB, turned upright by its EXIF orientation, with its EXIF.

    Transparent parts become white, which is silence. Only the first frame of an animation is read. A
    :class:`~riffstream.errors.MediaWarning` reports further frames and a picture that looks inverted.

    Args:
        source: path or bytes.
        name: name of the picture in messages; the path by default.
        formats: allowed formats, by Pillow's names.
        max_pixels: largest number of pixels, checked before decoding.

    Raises:
        MediaError: missing, another format, truncated, too large, or pixels of unknown scale.
    """
    name = str(source) if name is None and not isinstance(source, bytes) else name or "the picture"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # ours is checked below
            image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=formats)
        with image:
            if image.width * image.height > max_pixels:
                size = f"{image.width} x {image.height} pixels"
                raise MediaError(f"{name}: {size}; at most {max_pixels / 1e6:.3g} million are read")
            frames = 1 if image.format in ("JPEG", "MPO") else getattr(image, "n_frames", 1)
            image.seek(0)
            exif = image.getexif()
            image.load()
            rgb = as_rgb(ImageOps.exif_transpose(image), name=name)
    except MediaError:
        raise
    except UnidentifiedImageError:
        known = ", ".join(formats)
        raise MediaError(f"{name}: not readable as an image; supported formats: {known}") from None
    except MemoryError as error:
        raise MediaError(f"{name}: not enough memory for this image") from error
    except _FAILURES as error:
        raise MediaError(f"{name}: not readable as an image ({str(error)[:120]})") from error
    rgb.getexif().update({tag: value for tag, value in exif.items() if tag != ORIENTATION})
    if np.asarray(rgb.resize((64, 64), Image.Resampling.BOX)).max(axis=2).mean() < DARK:
        dark = "it is dark nearly everywhere, and dark is loud; invert it if it shows sound as bright"
        warnings.warn(f"{name}: {dark}", MediaWarning, stacklevel=2)
    if frames > 1:
        warnings.warn(f"{name}: it has {frames} frames; the first was read", MediaWarning, stacklevel=2)
    return rgb


def is_picture(start: bytes) -> bool:
    """Whether these first bytes are those of a picture, in a supported format or not."""
    return start.startswith(_MAGIC) or (start[:4] == b"RIFF" and start[8:12] == b"WEBP") or start[4:12] in _HEIF


def as_rgb(image: Image.Image, *, name: str = "the picture") -> Image.Image:
    """Convert a picture of any mode to RGB: transparent parts become white, 16 bits are scaled to 8.

    Raises:
        MediaError: a mode whose range or colours are not defined (32-bit integers, floating point).
    """
    if image.mode.startswith("I;16"):
        return _from_16_bits(image).convert("RGB")
    if image.mode in ("I", "F"):
        what = "32-bit integers" if image.mode == "I" else "floating point numbers"
        raise MediaError(f"{name}: its pixels are {what} without a known white; save it with 8 or 16 bits")
    if image.has_transparency_data:
        if image.mode == "La":
            image = image.convert("LA")
        clear = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", clear.size, _silence(clear)), clear)
    try:
        return image.convert("RGB")
    except ValueError:
        raise MediaError(f"{name}: its colours are {image.mode}; save it as RGB or grey") from None


def _silence(image: Image.Image) -> str:
    """Colour of silence in an RGBA picture: white, without red in a stereo picture."""
    pixels = np.asarray(image)
    opaque = pixels[pixels[..., 3] > 127]
    return "cyan" if len(opaque) and colouring(Image.fromarray(opaque[None, :, :3])) == "stereo" else "white"


def _from_16_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.uint32)
    clear = image.info.get("transparency")
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(TIFF_BITS, (16,))[0]
    values = values * WHITE_16 // (2**bits - 1)
    if tags.get(TIFF_PHOTOMETRIC) == WHITE_IS_ZERO:
        values = WHITE_16 - values
    if isinstance(clear, int):
        values = np.where(values == clear, WHITE_16, values)
    return Image.fromarray(((np.minimum(values, WHITE_16) + 128) // 257).astype(np.uint8))


def colouring(image: Image.Image) -> Literal["grey", "stereo", "coloured", "unclear"]:
    """Classify a picture by its colour planes.

    ``grey`` is mono. ``stereo`` has a red plane near 0, as in Riffusion's format (JPEG leaves a little red).
    ``coloured`` is neither. ``unclear`` may be any of them.

    Args:
        image: RGB.
    """
    step = max(1, round((image.width * image.height / SAMPLED) ** 0.5))
    red, green, blue = np.asarray(image)[:: min(step, image.height), ::step].reshape(-1, 3).T.astype(np.float32)
    both = np.concatenate([green, blue])
    if red.mean() < 0.3 * both.mean() and red.mean() < 48 and both.mean() > 16:
        # A blue or green picture has an empty third plane. In a stereo picture both planes contain silence (white).
        return "stereo" if np.minimum(green, blue).mean() > 2 * red.mean() else "coloured"
    spread = float((np.abs(red - green) + np.abs(green - blue) + np.abs(blue - red)).mean() / 2)
    return "grey" if spread < GREY else "coloured" if spread > COLOURED else "unclear"
