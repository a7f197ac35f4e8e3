"""Common parts of the file commands: options, atomic writing of images, and reports."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from riffstream.errors import MediaError, ParameterError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "IMAGE_EXTENSIONS",
    "add_report_options",
    "check_image_name",
    "make_folder",
    "note",
    "report",
    "save_image",
]

IMAGE_EXTENSIONS = ("png", "jpg", "jpeg", "webp")


def add_report_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--quiet`` and ``--json``, and keep the command's name for messages."""
    parser.set_defaults(prog=parser.prog)
    parser.add_argument("--quiet", action="store_true", help="print errors only")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object on stdout")


def note(args: argparse.Namespace, text: str) -> None:
    """Print a remark for the user on stderr."""
    if not args.quiet:
        print(f"{args.prog}: {text}", file=sys.stderr)


def report(args: argparse.Namespace, written: Sequence[Path], **more: Any) -> None:
    """Print the files written on stdout; ``more`` values appear with ``--json`` only."""
    if args.json:
        print(json.dumps({"written": [str(path) for path in written], **more}))
    elif not args.quiet:
        for path in written:
            print(f"Wrote {path}")


def check_image_name(path: Path) -> None:
    """Raise ParameterError unless the extension is a supported image format."""
    if path.suffix.lower().removeprefix(".") not in IMAGE_EXTENSIONS:
        raise ParameterError("--image", path.name, "a name that ends in .png, .jpg, .jpeg or .webp")


def save_image(image: Image, path: Path) -> None:
    """Write a spectrogram image with its EXIF to a temporary file, then rename it."""
    from riffstream.spectrogram import image as codec

    temporary = path.with_name(f".{secrets.token_hex(8)}.part{path.suffix}")
    try:
        codec.save_image(image, temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise MediaError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from None
    finally:
        temporary.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Create an output folder and its parents."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MediaError(f"cannot create the folder {path}: {error.strerror or error}") from None
