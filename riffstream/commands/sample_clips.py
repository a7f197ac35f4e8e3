"""Cut random clips from an audio file."""

from __future__ import annotations

import argparse
from pathlib import Path

from riffstream.commands._reports import add_report_options, make_folder, report

EXAMPLES = """examples:
  riffstream sample-clips --audio song.mp3 --output-dir clips --num-clips 10
  riffstream sample-clips --audio song.mp3 --output-dir clips --duration-ms 5000 --mono --extension flac --seed 7
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    from riffstream.commands._clips import add_clip_options

    parser.add_argument("--audio", type=Path, required=True, metavar="FILE", help="audio file to read")
    parser.add_argument("--output-dir", type=Path, required=True, metavar="DIR", help="folder for the clips")
    parser.add_argument("--num-clips", type=int, default=1, metavar="N", help="number of clips (default 1)")
    add_clip_options(parser, "wav")
    add_report_options(parser)


def run(args: argparse.Namespace) -> int:
    """Write the clips."""
    from riffstream.commands._clips import ClipOptions, cut_clips, generator
    from riffstream.errors import ParameterError

    options = ClipOptions.of(args)
    if not 1 <= args.num_clips <= 100_000:
        raise ParameterError("--num-clips", args.num_clips, "1 to 100000")
    make_folder(args.output_dir)

    def name(index: int, start_ms: int) -> Path:
        stem = f"clip_{index}_start_{start_ms}_ms_duration_{options.duration_ms}_ms"
        folder: Path = args.output_dir
        return folder / f"{stem}.{options.extension}"

    written = cut_clips(args.audio, args.num_clips, options, generator(options.seed), name)
    report(args, written)
    return 0
