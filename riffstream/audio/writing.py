"""Writing of audio files: streamed to disk, tagged, and complete as soon as they have their final name."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, cast

import mutagen
import numpy as np
import soundfile
from numpy.typing import ArrayLike

from riffstream.audio.checks import as_block, check_format
from riffstream.audio.tags import write_tags
from riffstream.errors import MediaError, ParameterError

__all__ = ["FORMATS", "AudioFileWriter", "file_format", "write_audio"]

# name -> (libsndfile's container, subtype, rates it takes; empty: any)
FORMATS: Mapping[str, tuple[str, str, tuple[int, ...]]] = {
    "wav": ("WAV", "PCM_16", ()),
    "flac": ("FLAC", "PCM_16", ()),
    "ogg": ("OGG", "VORBIS", ()),
    "opus": ("OGG", "OPUS", (8_000, 12_000, 16_000, 24_000, 48_000)),
    "mp3": (
        "MP3",
        "MPEG_LAYER_III",
        (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000),
    ),
}
MOST_CHANNELS = {"wav": 64, "flac": 8, "ogg": 8, "opus": 8, "mp3": 2}
WAV_BYTES = 0xFFFFFFFF - 65_536  # leaves room for the header and the tags
# libsndfile's Vorbis encoder takes a whole write on the stack.
BLOCK = 65_536


class AudioFileWriter:
    """Writer of [n, channels] blocks to a WAV, FLAC, Ogg (Vorbis or Opus) or MP3 file.

    The samples stream to a temporary file beside the target. ``close`` renames it to the target, so that other programs
    see either the old file or the complete new one. An exception inside a ``with`` block discards it.

    Args:
        target: a path, or a binary file open for writing. A binary file need not be seekable, receives everything in
            ``close`` and stays open.
        sample_rate: Hz. MP3 takes 8 to 48 kHz, Opus 8, 12, 16, 24 and 48 kHz.
        channels: 1 to 64 (WAV), 8 (FLAC, Ogg) or 2 (MP3).
        tags: "title", "artist", "album", "date", "genre", "bpm", "key", "copyright"; others are kept under their own
            names.
        format: "wav", "flac", "ogg", "opus" or "mp3"; by default the path's extension.
        bits: 16 or 24, for WAV and FLAC. Samples outside [-1, 1] are clipped.

    Raises:
        ParameterError: an unknown format, or a rate or a number of channels that the format does not support.
        MediaError: the disk is full, or the folder is missing or not writable.
    """

    def __init__(
        self,
        target: str | os.PathLike[str] | BinaryIO,
        sample_rate: int,
        channels: int = 2,
        tags: Mapping[str, str] | None = None,
        *,
        format: str | None = None,  # noqa: A002  (the word that soundfile and the command line use)
        bits: int = 16,
    ) -> None:
        self._path = Path(target) if isinstance(target, (str, os.PathLike)) else None
        self._target = None if isinstance(target, (str, os.PathLike)) else target
        if format is None and self._path is None:
            raise ParameterError("format", None, f"{', '.join(FORMATS)} (required, because the target has no name)")
        self.format = file_format(str(self._path) if format is None else f".{format}")
        container, subtype, rates = FORMATS[self.format]
        check_format(sample_rate, channels, MOST_CHANNELS[self.format])
        if rates and sample_rate not in rates:
            allowed = ", ".join(map(str, rates))
            raise ParameterError("sample_rate", sample_rate, f"{allowed} Hz in {self.format} files")
        if bits not in (16, 24):
            raise ParameterError("bits", bits, "16 or 24")
        self.sample_rate, self.channels, self.tags = sample_rate, channels, dict(tags or {})
        self.n_samples = 0
        self._bytes_per_sample = channels * bits // 8
        self._sink = _Sink(*_temporary_for(self._path))
        kind = "PCM_24" if bits == 24 and subtype == "PCM_16" else subtype
        try:
            self._file = soundfile.SoundFile(
                self._sink, "w", sample_rate, channels, subtype=kind, format=container, closefd=False
            )
        except (soundfile.LibsndfileError, ValueError, AssertionError) as error:
            self._sink.discard()
            raise MediaError(f"cannot write {self.name}: {self._sink.error or error}") from None

    @property
    def name(self) -> str:
        """Name of the target in messages."""
        return str(self._path) if self._path is not None else str(getattr(self._target, "name", "the audio file"))

    def write(self, pcm: ArrayLike) -> None:
        """Append [n, channels]."""
        block = as_block(pcm, self.channels)
        if self._sink.file.closed:
            raise ValueError("the writer is closed")
        if self.format == "wav" and (self.n_samples + len(block)) * self._bytes_per_sample > WAV_BYTES:
            raise MediaError(f"{self.name} would exceed 4 GiB, the limit of a WAV file; write FLAC instead")
        for at in range(0, len(block), BLOCK):
            self._try(partial(self._file.write, np.ascontiguousarray(block[at : at + BLOCK])))
        self.n_samples += len(block)

    def close(self) -> None:
        """Finish the file, tag it and rename it to the target. A second call does nothing."""
        if self._sink.file.closed:
            return
        self._try(self._file.close)
        self._try(self._deliver)
        self._sink.file.close()

    def discard(self) -> None:
        """Delete everything written so far. After ``close`` it does nothing."""
        if not self._sink.file.closed:
            self._sink.mute()
            self._file.close()
            self._sink.discard()

    def _deliver(self) -> None:
        file = self._sink.file
        if self.tags:
            file.seek(0)
            write_tags(file, self.format, self.tags)
        file.flush()
        if self._target is not None:
            file.seek(0)
            shutil.copyfileobj(file, self._target)
        elif self._path is not None and self._sink.path is not None:
            os.replace(self._sink.path, self._path)

    def _try(self, action: Callable[[], object]) -> None:
        problem: Exception | None = None
        try:
            action()
        except (OSError, AssertionError, soundfile.LibsndfileError, mutagen.MutagenError) as error:
            problem = error
        problem = self._sink.error or problem
        if problem is not None:
            self.discard()
            raise MediaError(f"cannot write {self.name}: {_reason(problem)}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


class _Sink:
    """File object for libsndfile. It keeps exceptions for the caller, because they cannot pass through C code."""

    def __init__(self, file: BinaryIO, path: Path | None) -> None:
        self.file, self.path = file, path
        self.error: OSError | None = None
        self._muted = False
        self.seek, self.tell, self.read = file.seek, file.tell, file.read

    def write(self, data: bytes) -> int:
        if self._muted:
            return len(data)
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            return 0

    def flush(self) -> None:
        """Do nothing: soundfile calls it, but the file is flushed once at the end."""

    def mute(self) -> None:
        """Ignore all further data."""
        self._muted = True

    def discard(self) -> None:
        try:
            self.file.close()
        except OSError as error:  # no space for its buffer either
            self.error = self.error or error
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def _temporary_for(path: Path | None) -> tuple[BinaryIO, Path | None]:
    if path is None:
        return cast(BinaryIO, tempfile.TemporaryFile()), None
    temporary = path.with_name(f".{secrets.token_hex(8)}.part")  # the target's name may have the maximum length
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        # Not from the tempfile module: only the owner may read its files.
        return open(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), "w+b"), temporary
    except OSError as error:
        raise MediaError(f"cannot write {path}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def file_format(name: str) -> str:
    """Format of a file name's extension.

    Raises:
        ParameterError: an extension that is not in :data:`FORMATS`.
    """
    extension = Path(name).suffix.lower().removeprefix(".") or Path(name).name.lower().removeprefix(".")
    if extension not in FORMATS:
        raise ParameterError("format", extension or name, ", ".join(FORMATS))
    return extension


def write_audio(
    target: str | os.PathLike[str] | BinaryIO,
    pcm: ArrayLike,
    sample_rate: int,
    tags: Mapping[str, str] | None = None,
    *,
    format: str | None = None,  # noqa: A002
) -> None:
    """Write a whole signal [n, channels] to a file; see :class:`AudioFileWriter`."""
    block = np.asarray(pcm)
    channels = block.shape[1] if block.ndim == 2 else 1
    with AudioFileWriter(target, sample_rate, channels, tags, format=format) as writer:
        writer.write(block)
