"""MP3 at a constant bit rate, which every player and browser supports."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from types import ModuleType

import numpy as np

from riffstream.audio.checks import Pcm
from riffstream.audio.packets import FrameEncoder, LibavCodec
from riffstream.errors import ParameterError

lameenc: ModuleType | None
try:
    lameenc = importlib.import_module("lameenc")
except ImportError:  # no wheel for this platform: LAME in libav gives the same result at three times the CPU
    lameenc = None

__all__ = ["Mp3Encoder", "split_frames"]

BIT_RATES = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)  # kbit/s, MPEG-1 layer III, index 1 on
RATES = (44_100, 48_000, 32_000)  # by index
FRAME = 1152
# Encoder delay of LAME (576 samples) plus the decoder's filter bank (528 + 1 samples).
PRIMING = 576 + 529


class Mp3Encoder(FrameEncoder):
    """Live MP3 encoder: MPEG-1 layer III frames at a constant rate, joinable at any frame, without ID3 or Xing header.

    A frame may keep part of its data in earlier frames (the bit reservoir, up to 511 bytes). A decoder that joins
    mid-stream therefore plays one or two frames of silence, 24 ms each; after ``preroll`` its output is exact.

    Args:
        sample_rate: 32000, 44100 or 48000 Hz.
        channels: 1 or 2.
        bit_rate: bits a second, an MP3 rate from 32000 to 320000.
        quality: LAME quality, 2 (best) to 7 (fastest).
        start: sample clock at the first input sample.
        backend: "lame" (the lameenc package), "libav", or None for the first that is installed.
    """

    content_type = "audio/mpeg"
    frame_samples = FRAME
    priming = PRIMING
    preroll = 4 * FRAME

    def __init__(
        self,
        sample_rate: int = 48_000,
        channels: int = 2,
        *,
        bit_rate: int = 192_000,
        quality: int = 5,
        start: int = 0,
        backend: str | None = None,
    ) -> None:
        super().__init__(sample_rate, channels, start)
        if sample_rate not in RATES:
            raise ParameterError("sample_rate", sample_rate, "32000, 44100 or 48000 Hz")
        if channels not in (1, 2):
            raise ParameterError("channels", channels, "1 or 2")
        if bit_rate % 1000 or bit_rate // 1000 not in BIT_RATES:
            allowed = ", ".join(str(rate * 1000) for rate in BIT_RATES)
            raise ParameterError("bit_rate", bit_rate, f"{allowed} bits a second")
        if not 2 <= quality <= 7:
            raise ParameterError("quality", quality, "2 to 7")
        backend = backend or ("libav" if lameenc is None else "lame")
        if backend == "lame" and lameenc is not None:
            self._bytes_of = _lame(sample_rate, channels, bit_rate, quality)
        elif backend == "libav":
            self._bytes_of = _libav(sample_rate, channels, bit_rate, quality)
        else:
            raise ParameterError("backend", backend, "lame (needs the lameenc package) or libav")
        self._stream = b""

    def _encode(self, frame: Pcm) -> Sequence[bytes]:
        frames, self._stream = split_frames(self._stream + self._bytes_of(frame))
        return frames


def _lame(sample_rate: int, channels: int, bit_rate: int, quality: int) -> Callable[[Pcm], bytes]:
    assert lameenc is not None
    encoder = lameenc.Encoder()
    encoder.set_in_sample_rate(sample_rate)
    encoder.set_out_sample_rate(sample_rate)
    encoder.set_channels(channels)
    encoder.set_bit_rate(bit_rate // 1000)
    encoder.set_quality(quality)
    encoder.silence()

    def encode(frame: Pcm) -> bytes:
        scaled = np.rint(np.clip(frame, -1, 1) * np.float32(32767)).astype("<i2")
        return bytes(encoder.encode(scaled.tobytes()))

    return encode


def _libav(sample_rate: int, channels: int, bit_rate: int, quality: int) -> Callable[[Pcm], bytes]:
    options = {"compression_level": str(quality)}
    codec = LibavCodec("libmp3lame", "fltp", sample_rate, channels, bit_rate, options)
    return lambda frame: b"".join(codec.encode(frame))


def split_frames(data: bytes) -> tuple[list[bytes], bytes]:
    """Split a run of MPEG-1 layer III frames.

    Returns:
        The complete frames, and the bytes of the incomplete last one.

    Raises:
        ValueError: ``data`` does not start with a frame header.
    """
    frames = []
    at = 0
    while len(data) - at >= 4:
        if data[at] != 0xFF or data[at + 1] & 0xFE != 0xFA:
            raise ValueError(f"no MPEG-1 layer III frame header at byte {at}")
        rate, index, padding = RATES[data[at + 2] >> 2 & 3], data[at + 2] >> 4, data[at + 2] >> 1 & 1
        length = 144_000 * BIT_RATES[index - 1] // rate + padding
        if len(data) - at < length:
            break
        frames.append(data[at : at + length])
        at += length
    return frames, data[at:]
