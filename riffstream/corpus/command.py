"""Render the training corpus: music that this program composes, plays and captions, as beat-synchronous spectrograms.

Existing songs in the folder are kept: an interrupted run continues, and a larger --hours extends a smaller corpus.
docs/corpus.md describes the output.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = """examples:
  riffstream train corpus --out runs/corpus --hours 30
  riffstream train corpus --out runs/smoke --preset smoke
  riffstream train corpus --out runs/listen --styles lofi,techno,church_bells --songs 3 --keep-audio
"""

# preset -> (hours, soundfonts in order of preference, styles; empty: all)
PRESETS: dict[str, tuple[float, tuple[str, ...], tuple[str, ...]]] = {
    "full": (30.0, ("fluidr3", "musescore"), ()),
    "smoke": (2 / 60, ("fluidr3",), ("techno", "funk", "chiptune", "drum_and_bass", "solo_piano")),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``riffstream train corpus``."""
    parser.add_argument("--out", type=Path, default=Path("corpus"), help="output folder")
    parser.add_argument("--preset", choices=PRESETS, default="full", help="smoke: two minutes of music in seconds")
    parser.add_argument("--hours", type=float, default=None, help="total hours of music (preset full: 30)")
    parser.add_argument("--songs", type=int, default=0, help="maximum number of songs; default: no limit")
    parser.add_argument("--seed", type=int, default=0, help="seed of the songs")
    parser.add_argument("--workers", type=int, default=0, help="number of processes; default: one per core")
    parser.add_argument("--styles", default="", help="comma-separated names; default: all")
    parser.add_argument("--list-styles", action="store_true", help="print the names of the styles and exit")
    parser.add_argument("--synths-only", action="store_true", help="use neither soundfonts nor MMA")
    parser.add_argument("--keep-audio", action="store_true", help="also write .flac files")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("--json", action="store_true", help="print the manifest as JSON")


def run(args: argparse.Namespace) -> int:
    """``riffstream train corpus``.

    Raises:
        ParameterError: an option outside its range.
        RiffstreamError: a Debian package is missing.
    """
    from riffstream.corpus.building import CorpusOptions, build_corpus
    from riffstream.corpus.soundfont import find_soundfonts, library_available
    from riffstream.corpus.sources import all_sources
    from riffstream.errors import ParameterError

    hours, soundfonts, styles = PRESETS[args.preset]
    hours = hours if args.hours is None else args.hours
    if not 0 < hours <= 10_000:
        raise ParameterError("hours", hours, "more than 0, at most 10000")
    for name in ("songs", "workers", "seed"):
        if getattr(args, name) < 0:
            raise ParameterError(name, getattr(args, name), "0 or more")
    if args.preset == "smoke" and not (library_available() and soundfonts[0] in find_soundfonts()):
        print("fluidsynth or its soundfont is not installed: this corpus uses synthesisers only", file=sys.stderr)
        soundfonts = ()
    if args.synths_only:
        soundfonts = ()
    if args.list_styles:
        names = [source.name for source in all_sources(bool(soundfonts))]
        print(json.dumps(names) if args.json else "\n".join(names))
        return 0
    styles = tuple(name.strip() for name in args.styles.split(",") if name.strip()) or styles
    manifest = build_corpus(
        CorpusOptions(
            out=args.out,
            hours=hours,
            songs=args.songs,
            seed=args.seed,
            workers=args.workers,
            soundfonts=soundfonts,
            styles=styles,
            keep_audio=args.keep_audio,
        ),
        quiet=args.quiet,
    )
    if args.json:
        print(json.dumps(manifest))
    elif not args.quiet:
        print(f"{args.out}: {manifest['hours']:.2f} h, {manifest['songs']} songs, {len(manifest['styles'])} styles")
    return 0
