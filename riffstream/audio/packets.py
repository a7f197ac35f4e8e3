"""What every live encoder has in common: it cuts the stream into codec frames and knows where each packet lies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from numpy.typing import ArrayLike

from riffstream.audio.checks import Pcm, as_block, check_format
from riffstream.errors import ParameterError

__all__ = ["Encoder", "FrameEncoder", "LibavCodec", "Packet", "check_bit_rate"]


@dataclass(frozen=True, slots=True)
class Packet:
    """A piece of encoded audio that can be sent as it is.

    Attributes:
        data: one codec frame or run of PCM.
        sample_pos: the input sample that the first decoded sample of this packet reproduces, on the clock given by
            the encoder's ``start``. A codec's first packets lie before ``start`` by its ``priming``.
        n_samples: decoded samples in the packet; the last packet of a closed encoder counts those of the input only.
    """

    data: bytes
    sample_pos: int
    n_samples: int


class Encoder(ABC):
    """A live encoder: one continuous stream in, packets out. It never flushes between blocks, so nothing clicks.

    Attributes:
        content_type: MIME type of ``header`` followed by packets.
        header: bytes that every listener needs first, whenever it joins; empty for most codecs.
        priming: samples by which the codec delays the sound; ``sample_pos`` accounts for it.
        preroll: samples that a decoder joining in mid-stream needs before its output is exact. What it plays of them is
            quieter or dull, not noise.
        frame_samples: samples in one codec frame.
    """

    content_type: str
    header: bytes = b""
    priming: int = 0
    preroll: int = 0
    frame_samples: int

    @abstractmethod
    def push(self, pcm: ArrayLike) -> list[Packet]:
        """Take [n, channels]; return the packets completed by it."""

    @abstractmethod
    def close(self) -> list[Packet]:
        """End the stream: the packets that cover the rest of the input. A second call returns nothing."""


class FrameEncoder(Encoder):
    """Base of the codecs with frames of a fixed length.

    Args:
        sample_rate, channels: of the input.
        start: position of the first input sample on the caller's clock.
    """

    def __init__(self, sample_rate: int, channels: int, start: int) -> None:
        check_format(sample_rate, channels)
        self.sample_rate, self.channels, self.start = sample_rate, channels, start
        self._buffer: Pcm = np.zeros((0, channels), np.float32)
        self._taken = 0
        self._packets = 0
        self._closed = False

    @abstractmethod
    def _encode(self, frame: Pcm) -> Sequence[bytes]:
        """Encode [frame_samples, channels]; return the packets that came out, in order."""

    def push(self, pcm: ArrayLike) -> list[Packet]:
        if self._closed:
            raise ValueError("the encoder is closed; make a new one")
        block = as_block(pcm, self.channels)
        self._taken += len(block)
        buffer = np.concatenate([self._buffer, block]) if len(self._buffer) else block
        out = []
        used = 0
        while len(buffer) - used >= self.frame_samples:
            for data in self._encode(buffer[used : used + self.frame_samples]):
                out.append(Packet(data, self._position(), self.frame_samples))
                self._packets += 1
            used += self.frame_samples
        self._buffer = buffer[used:].copy()
        return out

    def close(self) -> list[Packet]:
        if self._closed:
            return []
        taken = self._taken
        end = self.start + taken
        out: list[Packet] = []
        while taken and self._position() < end:
            out += self.push(np.zeros((self.frame_samples - len(self._buffer), self.channels), np.float32))
        self._closed = True
        out = [packet for packet in out if packet.sample_pos < end]
        if out and (over := out[-1].sample_pos + out[-1].n_samples - end) > 0:
            out[-1] = Packet(out[-1].data, out[-1].sample_pos, out[-1].n_samples - over)
        return out

    def _position(self) -> int:
        return self.start + self._packets * self.frame_samples - self.priming


class LibavCodec:
    """One of libav's audio encoders, fed with frames of exactly its own length.

    Args:
        name: libav's name of the encoder.
        sample_format: "flt" (interleaved) or "fltp" (planar), as the encoder takes it.
        options: the encoder's private options.
    """

    def __init__(
        self,
        name: str,
        sample_format: str,
        sample_rate: int,
        channels: int,
        bit_rate: int,
        options: Mapping[str, str],
    ) -> None:
        context = av.CodecContext.create(name, "w")
        assert isinstance(context, AudioCodecContext)
        self._layout = "mono" if channels == 1 else "stereo"
        self._format = sample_format
        context.sample_rate = sample_rate
        context.layout = self._layout
        context.format = sample_format
        context.bit_rate = bit_rate
        context.options = dict(options)
        context.open()
        self._context = context
        self._pts = 0

    @property
    def frame_samples(self) -> int:
        """Samples that ``encode`` takes at a time."""
        return int(self._context.frame_size)

    @property
    def extradata(self) -> bytes:
        """The codec's out-of-band header."""
        return bytes(self._context.extradata or b"")

    def encode(self, frame: Pcm) -> list[bytes]:
        """Encode [frame_samples, channels]."""
        planes = frame.T if self._format.endswith("p") else frame.reshape(1, -1)
        audio = av.AudioFrame.from_ndarray(np.ascontiguousarray(planes), format=self._format, layout=self._layout)
        audio.sample_rate = self._context.sample_rate
        audio.pts = self._pts
        self._pts += len(frame)
        return [bytes(packet) for packet in self._context.encode(audio)]


def check_bit_rate(bit_rate: int, low: int, high: int) -> None:
    """Raise ParameterError unless ``bit_rate`` lies in the range, in bits a second."""
    if not low <= bit_rate <= high:
        raise ParameterError("bit_rate", bit_rate, f"{low} to {high} bits a second")
