"""Random clips from an audio file, for ``sample-clips`` and its batch."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator
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
    """Options of clips: duration, channels, file format and seed."""

    duration_ms: int
    mono: bool
    extension: str
    seed: int

    @classmethod
    def of(cls, args: argparse.Namespace) -> ClipOptions:
        """Check and collect the parsed arguments. Raises ParameterError."""
        if not 1 <= args.duration_ms <= 3_600_000:
            raise ParameterError("--duration-ms", args.duration_ms, "1 to 3600000")
        extension = args.extension.lower().removeprefix(".")
        if extension not in EXTENSIONS:
            raise ParameterError("--extension", args.extension, ", ".join(EXTENSIONS))
        if args.seed < -1:
            raise ParameterError("--seed", args.seed, "0 or more, or -1 for other clips each time")
        return cls(duration_ms=args.duration_ms, mono=args.mono, extension=extension, seed=args.seed)


def add_clip_options(parser: argparse.ArgumentParser, extension: str) -> None:
    """Add the options of clips: length, channels, format and seed."""
    add = parser.add_argument
    add("--duration-ms", type=int, default=5120, metavar="MS", help="length of a clip (default 5120)")
    add("--mono", action="store_true", help="mix to one channel")
    add("--extension", default=extension, metavar="X", help=f"{', '.join(EXTENSIONS)} (default {extension})")
    add("--seed", type=int, default=-1, metavar="N", help="equal seeds cut equal clips (default -1: random)")


def generator(*seed: int) -> np.random.Generator:
    """Make a random generator; a negative first number takes a seed from the system."""
    import numpy as np

    return np.random.default_rng(None if seed[0] < 0 else seed)


def cut_clips(
    audio: Path, count: int, options: ClipOptions, random: np.random.Generator, name: Callable[[int, int], Path]
) -> list[Path]:
    """Cut ``count`` clips at random positions in whole milliseconds. If the format allows it, only they are decoded.

    Args:
        audio: the file.
        count: number of clips.
        options: see :class:`ClipOptions`.
        random: source of the positions.
        name: function from the index and the start in ms to the path of a clip.

    Returns:
        The files written.

    Raises:
        MediaError: the file is shorter than a clip, or cannot be read.
    """
    from riffstream.audio.files import audio_info, read_audio, write_audio
    from riffstream.audio.writing import FORMATS, MOST_CHANNELS

    info = audio_info(audio)
    rates = FORMATS[options.extension][2]
    rate = info.sample_rate if not rates or info.sample_rate in rates else 48_000
    most = MOST_CHANNELS[options.extension]
    channels = 1 if options.mono else info.channels if info.channels <= most else 2
    seconds = info.seconds if info.exact and info.seconds else _seconds(audio, rate)
    latest = int(seconds * 1000) - options.duration_ms
    if latest < 0:
        raise MediaError(f"{audio} lasts {int(seconds * 1000)} ms, less than a clip of {options.duration_ms} ms")
    starts = random.integers(0, latest, size=count, endpoint=True).tolist()
    paths = [name(index, start_ms) for index, start_ms in enumerate(starts)]
    length_s, wanted = options.duration_ms / 1000, channels if channels <= 2 else None
    if not info.exact:
        for index, clip in _clips_in_order(audio, starts, options.duration_ms, rate, channels):
            write_audio(paths[index], clip, rate)
        return paths
    for path, start_ms in zip(paths, starts, strict=True):
        clip = read_audio(
            audio, sample_rate=rate, channels=wanted, start_s=start_ms / 1000, max_seconds=length_s, cut=True
        ).samples
        write_audio(path, clip, rate)
    return paths


def _seconds(audio: Path, rate: int) -> float:
    """Length in seconds of a file without a reliable stated length, by decoding all of it."""
    from riffstream.audio.files import audio_blocks
    from riffstream.errors import MediaWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MediaWarning)  # the clips are read next and give the same warning
        return sum(len(block) for block in audio_blocks(audio, sample_rate=rate, channels=1)) / rate


def _clips_in_order(
    audio: Path, starts: list[int], duration_ms: int, rate: int, channels: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the index and the samples of each clip by position.

    The file is decoded once, because seeking is not exact in these formats.
    """
    import numpy as np

    from riffstream.audio.files import audio_blocks

    size = round(duration_ms / 1000 * rate)
    waiting = sorted((round(start_ms / 1000 * rate), index) for index, start_ms in enumerate(starts))
    kept: list[np.ndarray] = []
    begin = end = 0  # range of samples in ``kept``
    for block in audio_blocks(audio, sample_rate=rate, channels=channels):
        kept.append(block)
        end += len(block)
        if waiting[0][0] + size > end:
            while kept and begin + len(kept[0]) <= waiting[0][0]:
                begin += len(kept.pop(0))
            continue
        held = np.concatenate(kept)
        while waiting and waiting[0][0] + size <= end:
            start, index = waiting.pop(0)
            yield index, held[start - begin : start - begin + size]
        if not waiting:
            return
        kept = [held]
    held = np.concatenate(kept) if kept else np.zeros((0, channels), np.float32)
    yield from ((index, held[start - begin :]) for start, index in waiting)  # one sample may be missing by rounding
