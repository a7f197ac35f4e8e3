"""Decoding audio files block by block: libsndfile first, libav for what it does not know.

A file is judged by its content, never by its name. libav gets a list of container formats that cannot refer to other
files or to the network.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import BinaryIO, Protocol

import av
import numpy as np
import soundfile
from av.audio.stream import AudioStream

from riffstream.audio.blocks import Pcm
from riffstream.errors import MediaError

__all__ = ["Source", "downmix", "open_source"]

BLOCK = 65_536
FORMATS = "aac,aiff,amr,ape,asf,avi,caf,flac,flv,matroska,webm,mov,mp4,mp3,mpegts,ogg,tta,w64,wav,wv"
ROOT_HALF = 0.7071067811865476


class Source(Protocol):
    """A file being decoded.

    Attributes:
        sample_rate, channels: of the file.
        n_samples: its length, exact or as its header claims; None if it does not say.
    """

    sample_rate: int
    channels: int
    n_samples: int | None

    def blocks(self, start: int) -> Iterator[Pcm]:
        """The samples from ``start`` on, [n, channels] at a time, as far as the file can be decoded."""

    def close(self) -> None:
        """Release the file."""


class _Libsndfile:
    def __init__(self, file: BinaryIO) -> None:
        self._raw = file
        # A descriptor or a buffer has no name from which libsndfile could take the format.
        self._file = soundfile.SoundFile(file if isinstance(file, io.BytesIO) else file.fileno(), closefd=False)
        self.sample_rate, self.channels = int(self._file.samplerate), int(self._file.channels)
        self.n_samples: int | None = int(self._file.frames)

    def blocks(self, start: int) -> Iterator[Pcm]:
        position = start
        with contextlib.suppress(soundfile.LibsndfileError):
            if start:
                self._file.seek(start)
            while len(block := self._file.read(BLOCK, dtype="float32", always_2d=True)):
                position += len(block)
                yield block
            if position > start:
                return
        # Damaged or cut short: libsndfile gives up a whole block (FLAC) or the file (Ogg), libav saves what it can.
        with contextlib.suppress(av.FFmpegError, MediaError):
            rescue = _Libav(self._raw)
            try:
                if (rescue.sample_rate, rescue.channels) == (self.sample_rate, self.channels):
                    yield from rescue.blocks(position)
            finally:
                rescue.close()

    def close(self) -> None:
        self._file.close()


class _Libav:
    def __init__(self, file: BinaryIO) -> None:
        file.seek(0)
        self._container = av.open(file, "r", options={"format_whitelist": FORMATS})
        if not self._container.streams.audio:
            self._container.close()
            raise MediaError("it holds no audio")
        self._stream: AudioStream = self._container.streams.audio[0]
        self.sample_rate, self.channels = int(self._stream.rate or 0), int(self._stream.channels)
        duration, base = self._stream.duration, self._stream.time_base
        self.n_samples = int(duration * base * self.sample_rate) if duration and base else None

    def blocks(self, start: int) -> Iterator[Pcm]:
        origin = (self._stream.start_time or 0) * (self._stream.time_base or 0)
        if start:
            # Codecs with memory need a moment before they are exact.
            self._container.seek(int(max(0.0, start / self.sample_rate - 0.5 + float(origin)) * 1e6))
        resampler = av.AudioResampler(format="flt", layout=self._stream.layout, rate=self.sample_rate)
        position: int | None = None
        for frame in self._frames():
            if position is None:
                at = float(frame.pts * frame.time_base - origin) if frame.pts and frame.time_base else 0.0
                position = round(at * self.sample_rate)
            for plain in resampler.resample(frame):
                block = plain.to_ndarray().reshape(-1, self.channels).astype(np.float32, copy=False)
                skip = min(max(start - position, 0), len(block))
                position += len(block)
                if skip < len(block):
                    yield block[skip:]

    def _frames(self) -> Iterator[av.AudioFrame]:
        packets = self._container.demux(self._stream)
        damaged = 0
        while True:
            try:
                frames = next(packets).decode()
            except (StopIteration, EOFError):
                return
            except av.FFmpegError:
                damaged += 1  # one bad packet is a click; a file that only fails is at its end
                if damaged > 100:
                    return
                continue
            damaged = 0
            yield from (frame for frame in frames if isinstance(frame, av.AudioFrame))

    def close(self) -> None:
        self._container.close()


def open_source(file: BinaryIO) -> Source:
    """Open a binary file for decoding.

    Raises:
        MediaError: nothing here can decode it; the message is a clause without the file's name.
    """
    try:
        return _Libsndfile(file)
    except soundfile.LibsndfileError:
        pass
    try:
        return _Libav(file)
    except (av.FFmpegError, ValueError, IndexError) as error:
        if isinstance(error, MediaError):
            raise
        raise MediaError("it is not audio in any known format, or its start is damaged") from None


# Who speaks into the left channel, by number of channels in WAVE order; the right mirrors it. The LFE is left out,
# centre and surrounds come in at -3 dB as in ITU-R BS.775, and the sum is scaled so that nothing can clip.
_LEFT = {
    3: (1, 0, ROOT_HALF),  # L R C
    4: (1, 0, ROOT_HALF, 0),  # L R Ls Rs
    5: (1, 0, ROOT_HALF, ROOT_HALF, 0),  # L R C Ls Rs
    6: (1, 0, ROOT_HALF, 0, ROOT_HALF, 0),  # L R C LFE Ls Rs
    7: (1, 0, ROOT_HALF, 0, 0.5, ROOT_HALF, 0),  # L R C LFE Cs Ls Rs
    8: (1, 0, ROOT_HALF, 0, ROOT_HALF, 0, ROOT_HALF, 0),  # L R C LFE Lb Rb Ls Rs
}
_RIGHT = {
    3: (0, 1, ROOT_HALF),
    4: (0, 1, 0, ROOT_HALF),
    5: (0, 1, ROOT_HALF, 0, ROOT_HALF),
    6: (0, 1, ROOT_HALF, 0, 0, ROOT_HALF),
    7: (0, 1, ROOT_HALF, 0, 0.5, 0, ROOT_HALF),
    8: (0, 1, ROOT_HALF, 0, 0, ROOT_HALF, 0, ROOT_HALF),
}


def downmix(block: Pcm, channels: int) -> Pcm:
    """Bring [n, any] to [n, channels], channels being 1 or 2.

    One channel is copied to two. Three to eight are mixed by the matrices of ITU-R BS.775 in WAVE order, scaled so that
    the sum cannot clip; of more than eight, even channels go left and odd ones right. Mono is the mean of left and
    right.
    """
    given = block.shape[1]
    if given == channels:
        return block
    if given == 1:
        return np.repeat(block, 2, axis=1)
    if given > 2:
        if given in _LEFT:
            matrix = np.array([_LEFT[given], _RIGHT[given]], np.float32).T
        else:
            matrix = np.zeros((given, 2), np.float32)
            matrix[0::2, 0] = matrix[1::2, 1] = 1
        block = block @ (matrix / matrix.sum(axis=0))
    mixed: Pcm = block if channels == 2 else block.mean(axis=1, keepdims=True, dtype=np.float32)
    return mixed
