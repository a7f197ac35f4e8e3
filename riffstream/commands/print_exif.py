"""Print the spectrogram parameters in an image's EXIF."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

EXAMPLES = """examples:
  riffstream print-exif --image song.png
  riffstream print-exif --image song.png --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--image", type=Path, required=True, metavar="FILE", help="spectrogram image to read")
    parser.add_argument("--quiet", action="store_true", help="print only errors; the exit code is the result")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print the parameters of each image."""
    from riffstream.errors import MediaError
    from riffstream.spectrogram.image import read_image
    from riffstream.spectrogram.params import ExifTag

    exif = read_image(args.image).getexif()
    values = {tag.name: exif[tag] for tag in ExifTag if tag in exif}
    if not values:
        raise MediaError(f"{args.image} has no spectrogram parameters in its EXIF")
    if args.quiet:
        return 0
    if args.json:
        print(json.dumps({name.lower(): value for name, value in values.items()}))
        return 0
    for name, value in values.items():
        print(f"{name:<20} = {value!s:>15}")
    return 0
