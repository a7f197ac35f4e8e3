"""Cut random clips from all audio files in a folder. Files that fail are reported; the exit code is then 1. With --seed
the clips of a file depend only on its name and the seed."""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from riffstream.commands._reports import add_report_options, make_folder

if TYPE_CHECKING:
    from riffstream.commands._clips import ClipOptions

EXAMPLES = """examples:
  riffstream sample-clips-batch --audio-dir music --output-dir clips --num-clips-per-file 5
  riffstream sample-clips-batch --audio-dir music --glob '*.flac' --output-dir clips --extension wav --seed 7
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    from riffstream.commands._batch import add_batch_options
    from riffstream.commands._clips import add_clip_options

    add_batch_options(parser)
    parser.add_argument("--num-clips-per-file", type=int, default=1, metavar="N", help="clips per file (default 1)")
    add_clip_options(parser, "mp3")
    add_report_options(parser)


def run(args: argparse.Namespace) -> int:
    """Write clips of all files of the folder."""
    from riffstream.commands._batch import find_audio, output_stems, run_batch
    from riffstream.commands._clips import ClipOptions
    from riffstream.errors import ParameterError

    options = ClipOptions.of(args)
    if not 1 <= args.num_clips_per_file <= 100_000:
        raise ParameterError("--num-clips-per-file", args.num_clips_per_file, "1 to 100000")
    files = find_audio(args)
    make_folder(args.output_dir)
    return run_batch(args, partial(_cut, options, args.num_clips_per_file, args.output_dir, output_stems(files)), files)


def _cut(options: ClipOptions, count: int, folder: Path, stems: Mapping[Path, str], path: Path) -> list[Path]:
    from riffstream.commands._clips import cut_clips, generator

    def name(index: int, start_ms: int) -> Path:
        return folder / f"{stems[path]}_{index}_start_{start_ms}_ms_dur_{options.duration_ms}_ms.{options.extension}"

    random = generator(options.seed, zlib.crc32(path.name.encode("utf-8", "surrogateescape")))
    return cut_clips(path, count, options, random, name)
