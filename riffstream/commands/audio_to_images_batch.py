"""Convert all audio files in a folder to spectrogram images. Files that fail are reported; the exit code is then 1."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from riffstream.commands._reports import IMAGE_EXTENSIONS, add_report_options, make_folder, save_image
from riffstream.commands._spectra import ImageOptions, add_image_options, check_device, spectrogram_of

EXAMPLES = """examples:
  riffstream audio-to-images-batch --audio-dir clips --output-dir images
  riffstream audio-to-images-batch --audio-dir music --glob '**/*.flac' --output-dir images --mono --num-threads 8
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    from riffstream.commands._batch import add_batch_options

    add_batch_options(parser)
    extensions = ", ".join(IMAGE_EXTENSIONS)
    parser.add_argument("--image-extension", default="jpg", metavar="X", help=f"{extensions} (default jpg)")
    parser.add_argument("--mono", action="store_true", help="grey images of the mono mix (default: stereo)")
    add_image_options(parser, sample_rate=44_100)
    add_report_options(parser)


def run(args: argparse.Namespace) -> int:
    """Convert all files of the folder."""
    from riffstream.commands._batch import find_audio, output_stems, run_batch
    from riffstream.errors import ParameterError

    extension = args.image_extension.lower().removeprefix(".")
    if extension not in IMAGE_EXTENSIONS:
        raise ParameterError("--image-extension", args.image_extension, ", ".join(IMAGE_EXTENSIONS))
    options = ImageOptions.of(args, stereo=not args.mono)
    options.params(args.sample_rate)  # bad options are reported once, not for every file
    files = find_audio(args)
    check_device(args.device)
    make_folder(args.output_dir)
    targets = {path: args.output_dir / f"{stem}.{extension}" for path, stem in output_stems(files).items()}
    return run_batch(args, partial(_convert, options, targets), files)


def _convert(options: ImageOptions, targets: Mapping[Path, Path], path: Path) -> list[Path]:
    save_image(spectrogram_of(path, options), targets[path])
    return [targets[path]]
