"""Audio files: reading whatever a user has, writing what a player knows."""

from __future__ import annotations

import io
import os
import stat
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from riffstream.audio.blocks import Pcm
from riffstream.audio.decode import Source, downmix, open_source
from riffstream.audio.resample import StreamResampler
from riffstream.audio.writing import AudioFileWriter, file_format, write_audio
from riffstream.errors import MediaError, ParameterError

__all__ = [
    "MAX_SECONDS",
    "Audio",
    "AudioFileWriter",
    "AudioInfo",
    "audio_info",
    "file_format",
    "read_audio",
    "write_audio",
]

MAX_SECONDS = 3600.0
# 2 GiB of float32: an hour of stereo at 48 kHz fits, an hour of eight channels at 192 kHz does not.
MAX_VALUES = 2**29


@dataclass(frozen=True, slots=True)
class Audio:
    """Decoded sound.

    Attributes:
        samples: float32 [n, channels], n >= 1, finite; within [-1, 1] unless a floating point file goes beyond.
        sample_rate: Hz.
    """

    samples: Pcm
    sample_rate: int

    @property
    def seconds(self) -> float:
        """Duration."""
        return len(self.samples) / self.sample_rate

    @property
    def channels(self) -> int:
        """Columns of ``samples``."""
        return int(self.samples.shape[1])


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What a file says about itself; ``seconds`` is None where it does not tell its length."""

    sample_rate: int
    channels: int
    seconds: float | None


def audio_info(source: str | os.PathLike[str] | bytes | BinaryIO) -> AudioInfo:
    """Rate, channels and length of a file, without decoding it.

    Raises:
        MediaError: as :func:`read_audio`.
    """
    name, file, owned = _open(source)
    try:
        opened = _decoder(file, name)
        try:
            length = None if opened.n_samples is None else opened.n_samples / opened.sample_rate
            return AudioInfo(opened.sample_rate, opened.channels, length)
        finally:
            opened.close()
    finally:
        if owned:
            file.close()


def read_audio(
    source: str | os.PathLike[str] | bytes | BinaryIO,
    *,
    sample_rate: int | None = None,
    channels: int | None = None,
    mono: bool = False,
    start_s: float = 0.0,
    max_seconds: float = MAX_SECONDS,
    cut: bool = False,
) -> Audio:
    """Decode an audio file, or a part of it.

    The content decides the format, not the name. What can be decoded of a damaged or truncated file is returned. A file
    with samples that are NaN or infinite is refused, since whatever follows would spread them.

    Args:
        source: path, the file's bytes, or a binary file (which is read into memory).
        sample_rate: resample to this rate; None keeps the file's.
        channels: 1 or 2, by the rule of :func:`~riffstream.audio.decode.downmix`; None keeps the file's.
        mono: the same as ``channels=1``.
        start_s: where to begin, in seconds; exact, but for formats that only libav reads (within 3 ms).
        max_seconds: the longest part that is wanted. Memory is bounded by it, and by 2 GiB in any case.
        cut: whether a longer file is cut there; else it is an error.

    Raises:
        MediaError: missing, not a file, empty, not audio, not finite, too long, or silent past ``start_s``.
        ParameterError: an argument outside its range.
    """
    channels = 1 if mono else channels
    if channels not in (None, 1, 2):
        raise ParameterError("channels", channels, "1, 2 or none (as in the file)")
    if not 0 < max_seconds < 1e7:
        raise ParameterError("max_seconds", max_seconds, "more than 0")
    if not 0 <= start_s < 1e7:
        raise ParameterError("start_s", start_s, "0 or more")
    name, file, owned = _open(source)
    try:
        opened = _decoder(file, name)
        try:
            rate = sample_rate or opened.sample_rate
            return Audio(_read(opened, name, rate, channels or opened.channels, start_s, max_seconds, cut), rate)
        finally:
            opened.close()
    finally:
        if owned:
            file.close()


def _read(opened: Source, name: str, rate: int, channels: int, start_s: float, max_seconds: float, cut: bool) -> Pcm:
    if not cut and opened.n_samples is not None:
        _check_length(name, opened.n_samples / opened.sample_rate - start_s, max_seconds)
    resampler = StreamResampler(opened.sample_rate, rate, channels)
    start, budget = round(start_s * opened.sample_rate), round(max_seconds * opened.sample_rate)
    parts: list[Pcm] = []
    taken = values = 0
    for block in opened.blocks(start):
        if not np.isfinite(block).all():
            at = (start + taken + int(np.argmin(np.isfinite(block).all(axis=1)))) / opened.sample_rate
            raise MediaError(f"{name} has samples that are not numbers, the first at {at:.3f} s")
        if not cut:
            _check_length(name, (taken + len(block)) / opened.sample_rate, max_seconds)
        block = block[: budget - taken]
        taken += len(block)
        parts.append(resampler.push(downmix(block, channels)))
        values += parts[-1].size
        if values > MAX_VALUES:
            raise MediaError(f"{name} is too large to hold in memory; read a part of it, in mono or at a lower rate")
        if taken >= budget:
            break
    parts.append(resampler.flush())
    samples = np.concatenate(parts)
    if not len(samples):
        where = f" from {start_s:g} s on" if start_s else ""
        raise MediaError(f"{name} has no sound that can be decoded{where}")
    return samples


def _check_length(name: str, seconds: float, max_seconds: float) -> None:
    if seconds > max_seconds + 1e-6:
        raise MediaError(f"{name} is longer than the {max_seconds:g} s allowed; cut it, or read a part of it")


def _decoder(file: BinaryIO, name: str) -> Source:
    try:
        opened = open_source(file)
    except MediaError as error:
        raise MediaError(f"cannot read {name}: {error}") from None
    if not 1_000 <= opened.sample_rate <= 768_000 or not 1 <= opened.channels <= 64:
        shape = f"{opened.channels} channels at {opened.sample_rate} Hz"
        opened.close()
        raise MediaError(f"cannot read {name}: {shape}; allowed: 1 to 64 channels at 1000 to 768000 Hz")
    return opened


def _open(source: str | os.PathLike[str] | bytes | BinaryIO) -> tuple[str, BinaryIO, bool]:
    if isinstance(source, (bytes, bytearray, memoryview)):
        if not len(source):
            raise MediaError("cannot read the audio: it is empty")
        return "the audio", io.BytesIO(source), True
    if not isinstance(source, (str, os.PathLike)):
        return _open(source.read())
    name = os.fspath(source)
    try:
        status = os.stat(name)
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
            raise MediaError(f"cannot read {name}: it is {kind}")
        if not status.st_size:
            raise MediaError(f"cannot read {name}: it is empty")
        return name, open(name, "rb"), True
    except (OSError, ValueError) as error:
        if isinstance(error, MediaError):
            raise
        reason = error.strerror if isinstance(error, OSError) else error
        raise MediaError(f"cannot read {name}: {str(reason).lower()}") from None
