"""Base classes of the live encoders: division into codec frames, and the sample position of each packet."""

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
    """One packet of encoded audio.

    Attributes:
        data: one codec frame, or a run of PCM.
        sample_pos: position of the first decoded sample on the input's clock (the encoder's ``start``). The first
            packets are ``priming`` samples before ``start``.
        n_samples: decoded samples. The last packet of a closed encoder counts only samples of the input.
    """

    data: bytes
    sample_pos: int
    n_samples: int


class Encoder(ABC):
    """A live encoder: one continuous stream in, packets out. It never flushes between blocks, which would click.

    Attributes:
        content_type: MIME type of ``header`` followed by packets.
        header: bytes that every listener needs first, at any time of joining; empty for most codecs.
        priming: delay of the codec in samples; ``sample_pos`` accounts for it.
        preroll: samples until the output of a decoder that joins mid-stream is exact. Until then it is quieter or dull,
            not noisy.
        frame_samples: samples in one codec frame.
    """

    content_type: str
    header: bytes = b""
    priming: int = 0
    preroll: int = 0
    frame_samples: int

    @abstractmethod
    def push(self, pcm: ArrayLike) -> list[Packet]:
        """Encode [n, channels]; return the packets that are complete."""

    @abstractmethod
    def close(self) -> list[Packet]:
        """End the stream and return the packets of the remaining input. A second call returns none."""


class FrameEncoder(Encoder):
    """Base class of encoders with frames of a fixed length.

    Args:
        sample_rate: Hz of the input.
        channels: number in the input.
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
        """Encode [frame_samples, channels]; return the packets that are ready, in order."""

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
    """An audio encoder of libav that takes frames of its own fixed length.

    Args:
        name: libav's name of the encoder.
        sample_format: "flt" (interleaved) or "fltp" (planar), the encoder's input format.
        sample_rate: Hz.
        channels: 1 or 2.
        bit_rate: bits a second.
        options: private options of the encoder.
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
        """Samples per call of ``encode``."""
        return int(self._context.frame_size)

    @property
    def extradata(self) -> bytes:
        """Out-of-band header of the codec."""
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
