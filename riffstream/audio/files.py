"""Reading of audio files in any format that libav or libsndfile decodes."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import warnings
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from riffstream.audio.checks import Pcm
from riffstream.audio.decode import Source, downmix, open_source
from riffstream.audio.resample import StreamResampler
from riffstream.audio.writing import AudioFileWriter, file_format, write_audio
from riffstream.errors import MediaError, MediaWarning, ParameterError

__all__ = [
    "MAX_SECONDS",
    "Audio",
    "AudioFileWriter",
    "AudioInfo",
    "audio_blocks",
    "audio_info",
    "file_format",
    "read_audio",
    "write_audio",
]

MAX_SECONDS = 3600.0
# 2 GiB of float32: an hour of stereo at 48 kHz fits, an hour of eight channels at 192 kHz does not.
MAX_VALUES = 2**29
# Full scale of 32-bit integers. A floating point file beyond it is not audio, or its bytes are misaligned.
MAX_LEVEL = 2.0**32


@dataclass(frozen=True, slots=True)
class Audio:
    """Decoded audio in memory.

    Attributes:
        samples: float32 [n, channels], n >= 1, finite; in [-1, 1], unless a floating point file exceeds it.
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
        """Number of channels."""
        return int(self.samples.shape[1])


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """Format of an audio file, as its headers state it.

    Attributes:
        sample_rate: Hz at the beginning.
        channels: number at the beginning.
        seconds: stated length; None if there is none.
        exact: True if the length is exact to the sample and any part is read without decoding the parts before it.
    """

    sample_rate: int
    channels: int
    seconds: float | None
    exact: bool = False


def audio_info(source: str | os.PathLike[str] | bytes | BinaryIO) -> AudioInfo:
    """Sample rate, channels and length of a file, without decoding it.

    Raises:
        MediaError: as :func:`read_audio`.
    """
    with _decoder(source, quiet=True) as (_, opened):
        return AudioInfo(opened.sample_rate, opened.channels, opened.seconds, opened.exact)


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

    The content decides the format, not the name. The readable part of a damaged or truncated file is returned, and a
    :class:`~riffstream.errors.MediaWarning` reports what is missing. If the rate or the channels change, as in joined
    files, everything is converted to those of the beginning. Gaps in the timestamps are closed. A file with NaN or
    infinite samples is refused, because later processing would spread them.

    Args:
        source: path, the file's bytes, or a binary file (which is read into memory).
        sample_rate: Hz of the result; None keeps the file's rate.
        channels: 1 or 2, mixed by :func:`~riffstream.audio.decode.downmix`; None keeps the file's channels.
        mono: same as ``channels=1``.
        start_s: start position in seconds of decoded audio, 0 or more.
        max_seconds: longest duration to read. It bounds the memory, together with a fixed limit of 2 GiB.
        cut: True cuts a longer file at ``max_seconds``; False makes it an error.

    Returns:
        The decoded :class:`Audio`.

    Raises:
        MediaError: missing, not a file, empty, not audio, not finite, too long, too large for the memory, or shorter
            than ``start_s``.
        ParameterError: an argument outside its range.
    """
    channels = 1 if mono else channels
    if channels not in (None, 1, 2):
        raise ParameterError("channels", channels, "1, 2 or none (as in the file)")
    if not 0 < max_seconds < 1e7:
        raise ParameterError("max_seconds", max_seconds, "more than 0")
    if not 0 <= start_s < 1e7:
        raise ParameterError("start_s", start_s, "0 or more")
    with _decoder(source) as (name, opened):
        rate = sample_rate or opened.sample_rate
        return Audio(_read(opened, name, rate, channels or opened.channels, start_s, max_seconds, cut), rate)


def audio_blocks(
    source: str | os.PathLike[str] | bytes | BinaryIO, *, sample_rate: int, channels: int | None = None
) -> Generator[Pcm, None, None]:
    """Decode a file of any length block by block: float32 [n, channels] at ``sample_rate`` Hz.

    Raises:
        MediaError, ParameterError: as :func:`read_audio`.
    """
    with _decoder(source) as (name, opened):
        for block, _ in _resampled(opened, name, sample_rate, channels or opened.channels, 0.0):
            yield block


def _read(opened: Source, name: str, rate: int, channels: int, start_s: float, max_seconds: float, cut: bool) -> Pcm:
    if not cut and opened.seconds is not None:
        _check_length(name, opened.seconds - start_s, max_seconds)
    most = round(max_seconds * rate)
    parts: list[Pcm] = []
    have = 0
    for block, decoded_s in _resampled(opened, name, rate, channels, start_s):
        if not cut:
            _check_length(name, decoded_s, max_seconds)
        parts.append(block[: most - have])
        have += len(parts[-1])
        if have * channels > MAX_VALUES:
            raise MediaError(f"{name} is too large to hold in memory; read a part of it, in mono or at a lower rate")
        if cut and have >= most:
            break
    if not have:
        where = f" from {start_s:g} s on" if start_s else ""
        raise MediaError(f"{name} has no sound that can be decoded{where}")
    return np.concatenate(parts)


def _resampled(opened: Source, name: str, rate: int, channels: int, start_s: float) -> Iterator[tuple[Pcm, float]]:
    """Yield blocks at one rate, each with the seconds decoded so far."""
    resampler: StreamResampler | None = None
    decoded_s = 0.0
    for samples, given, speakers in opened.blocks(start_s):
        _check_samples(name, samples, start_s + decoded_s, given)
        if resampler is None or resampler.in_rate != given:
            if resampler is not None:
                yield resampler.flush(), decoded_s
            resampler = StreamResampler(given, rate, channels)
        decoded_s += len(samples) / given
        yield resampler.push(downmix(samples, channels, speakers)), decoded_s
    if resampler is not None:
        yield resampler.flush(), decoded_s


def _check_samples(name: str, samples: Pcm, at_s: float, rate: int) -> None:
    good = np.isfinite(samples).all(axis=1)
    if not good.all():
        raise MediaError(f"{name} has samples that are not numbers, the first at {at_s + np.argmin(good) / rate:.3f} s")
    if len(samples) and (peak := float(np.abs(samples).max())) > MAX_LEVEL:
        raise MediaError(f"{name} has samples of {peak:.0e}, but full scale is 1: it is damaged or not audio")


def _check_length(name: str, seconds: float, max_seconds: float) -> None:
    if seconds > max_seconds + 1e-6:
        raise MediaError(f"{name} is longer than the {max_seconds:g} s allowed; cut it, or read a part of it")


@contextlib.contextmanager
def _decoder(source: str | os.PathLike[str] | bytes | BinaryIO, *, quiet: bool = False) -> Iterator[tuple[str, Source]]:
    """Name and decoder of a file. Errors of the libraries become a MediaError with the file's name."""
    name, file, owned = _open(source)
    opened: Source | None = None
    try:
        opened = open_source(file)
        if not 1_000 <= opened.sample_rate <= 768_000 or not 1 <= opened.channels <= 64:
            shape = f"{opened.channels} channels at {opened.sample_rate} Hz"
            raise MediaError(f"{shape}; allowed: 1 to 64 channels at 1000 to 768000 Hz")
        try:
            yield name, opened
        except GeneratorExit:  # the caller stopped reading blocks
            _say(name, opened.notes)
            raise
        if not quiet:
            _say(name, opened.notes)
    except ParameterError:
        raise
    except MediaError as error:
        if str(error).startswith(name):
            raise
        raise MediaError(f"cannot read {name}: {error}") from None
    except MemoryError as error:
        raise MediaError(f"cannot read {name}: not enough memory; read a part of it") from error
    except Warning:  # a MediaWarning, if the caller turns warnings into errors
        raise
    except Exception as error:  # of any library
        raise MediaError(f"cannot read {name}: {_what(error)}") from error
    finally:
        if opened is not None:
            opened.close()
        if owned:
            file.close()


def _say(name: str, notes: list[str]) -> None:
    if notes:
        warnings.warn(f"{name}: {'; '.join(dict.fromkeys(notes))}", MediaWarning, stacklevel=5)


def _what(error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(reason).lower()


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
