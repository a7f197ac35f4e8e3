"""Cutting random clips from an audio file, for ``sample-clips`` and its batch."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from riffstream.errors import MediaError, ParameterError

if TYPE_CHECKING:
    import numpy as np

__all__ = ["EXTENSIONS", "ClipOptions", "add_clip_options", "cut_clips", "generator"]

EXTENSIONS = ("wav", "flac", "ogg", "opus", "mp3")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipOptions:
    """What to cut, and how to keep it."""

    duration_ms: int
    mono: bool
    extension: str
    seed: int

    @classmethod
    def of(cls, args: argparse.Namespace) -> ClipOptions:
        """From parsed arguments, checked."""
        if not 1 <= args.duration_ms <= 3_600_000:
            raise ParameterError("--duration-ms", args.duration_ms, "1 to 3600000")
        extension = args.extension.lower().removeprefix(".")
        if extension not in EXTENSIONS:
            raise ParameterError("--extension", args.extension, ", ".join(EXTENSIONS))
        if args.seed < -1:
            raise ParameterError("--seed", args.seed, "0 or more, or -1 for a different draw each time")
        return cls(duration_ms=args.duration_ms, mono=args.mono, extension=extension, seed=args.seed)


def add_clip_options(parser: argparse.ArgumentParser, extension: str) -> None:
    """Length, channels, format and seed."""
    add = parser.add_argument
    add("--duration-ms", type=int, default=5120, metavar="MS", help="length of a clip (default 5120)")
    add("--mono", action="store_true", help="mix to one channel")
    add("--extension", default=extension, metavar="X", help=f"{', '.join(EXTENSIONS)} (default {extension})")
    add("--seed", type=int, default=-1, metavar="N", help="the same seed cuts the same clips (default -1: any)")


def generator(*seed: int) -> np.random.Generator:
    """A random generator; a negative first number draws a fresh seed from the system."""
    import numpy as np

    return np.random.default_rng(None if seed[0] < 0 else seed)


def cut_clips(
    audio: Path, count: int, options: ClipOptions, random: np.random.Generator, name: Callable[[int, int], Path]
) -> list[Path]:
    """Cut ``count`` clips at random places, in whole milliseconds; only these parts are decoded.

    Args:
        name: path of clip i that starts at a millisecond.

    Raises:
        MediaError: the file is shorter than a clip, or cannot be read.
    """
    from riffstream.audio.files import audio_info, read_audio, write_audio
    from riffstream.audio.writing import FORMATS, MOST_CHANNELS

    info = audio_info(audio)
    seconds = info.seconds or read_audio(audio).seconds
    latest = int(seconds * 1000) - options.duration_ms
    if latest < 0:
        raise MediaError(f"{audio} lasts {int(seconds * 1000)} ms, less than a clip of {options.duration_ms} ms")
    rates = FORMATS[options.extension][2]
    rate = info.sample_rate if not rates or info.sample_rate in rates else 48_000
    channels = 1 if options.mono else None if info.channels <= MOST_CHANNELS[options.extension] else 2
    written = []
    for index, start_ms in enumerate(random.integers(0, latest, size=count, endpoint=True).tolist()):
        clip = read_audio(
            audio,
            sample_rate=rate,
            channels=channels,
            start_s=start_ms / 1000,
            max_seconds=options.duration_ms / 1000,
            cut=True,
        )
        path = name(index, start_ms)
        write_audio(path, clip.samples, rate)
        written.append(path)
    return written
