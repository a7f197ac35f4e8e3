"""Convert an audio file to a spectrogram image. The EXIF of the image holds the parameters for image-to-audio."""

from __future__ import annotations

import argparse
from pathlib import Path

from riffstream.commands._reports import add_report_options, check_image_name, report, save_image
from riffstream.commands._spectra import ImageOptions, add_image_options, spectrogram_of

EXAMPLES = """examples:
  riffstream audio-to-image --audio song.mp3 --image song.png
  riffstream audio-to-image --audio loop.flac --image loop.png --stereo --num-frequencies 256
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--audio", type=Path, required=True, metavar="FILE", help="audio file to read")
    parser.add_argument("--image", type=Path, required=True, metavar="FILE", help=".png, .jpg or .webp to write")
    parser.add_argument("--stereo", action="store_true", help="left in green, right in blue (default: mono, grey)")
    add_image_options(parser, sample_rate=None)
    add_report_options(parser)


def run(args: argparse.Namespace) -> int:
    """Convert one file."""
    check_image_name(args.image)
    image = spectrogram_of(args.audio, ImageOptions.of(args, stereo=args.stereo))
    save_image(image, args.image)
    report(args, [args.image], width=image.width, height=image.height)
    return 0
