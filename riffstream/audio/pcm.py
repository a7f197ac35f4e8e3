"""Plain PCM, 16 bits little-endian, bare or behind a WAV header of unknown length."""

from __future__ import annotations

import struct
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from riffstream.audio.checks import as_block, check_format
from riffstream.audio.packets import Encoder, Packet
from riffstream.errors import ParameterError

__all__ = ["PcmEncoder", "wav_header"]


class PcmEncoder(Encoder):
    """Live encoder of interleaved s16le: one packet for each block, joinable anywhere, without delay.

    Args:
        sample_rate: Hz.
        channels: 1 to 64.
        dither: "none" rounds to the nearest step (an error at -98 dBFS, inaudible under music). "tpdf" adds triangular
            noise of one step, which keeps fades and silence free of distortion.
        start: sample clock at the first input sample. The dither depends on the sample clock only.
    """

    content_type = "audio/L16"
    frame_samples = 1

    def __init__(
        self,
        sample_rate: int = 48_000,
        channels: int = 2,
        *,
        dither: Literal["none", "tpdf"] = "none",
        start: int = 0,
    ) -> None:
        check_format(sample_rate, channels)
        if dither not in ("none", "tpdf"):
            raise ParameterError("dither", dither, "none or tpdf")
        self.sample_rate, self.channels = sample_rate, channels
        self._position = start
        self._noise = None
        if dither == "tpdf":
            self._noise = np.random.default_rng([abs(start), 0]), np.random.default_rng([abs(start), 1])

    def push(self, pcm: ArrayLike) -> list[Packet]:
        block = as_block(pcm, self.channels)
        if not len(block):
            return []
        scaled = block * np.float32(32767)
        if self._noise is not None:
            one, other = self._noise
            scaled += (one.random(block.shape) - other.random(block.shape)).astype(np.float32)
        data = np.clip(np.rint(scaled), -32768, 32767).astype("<i2").tobytes()
        packet = Packet(data, self._position, len(block))
        self._position += len(block)
        return [packet]

    def close(self) -> list[Packet]:
        return []


def wav_header(sample_rate: int, channels: int, n_samples: int | None = None) -> bytes:
    """Header of a 16-bit WAV file, 44 bytes.

    Args:
        sample_rate: Hz.
        channels: number of channels.
        n_samples: length of the file; None writes the largest possible length, and players then play until the
            connection ends.

    Raises:
        ParameterError: more than 4 GiB.
    """
    check_format(sample_rate, channels)
    size = 0xFFFFFFFF - 36 if n_samples is None else n_samples * channels * 2
    if not 0 <= size <= 0xFFFFFFFF - 36:
        raise ParameterError("n_samples", n_samples, "less than 4 GiB of samples")
    form = struct.pack(
        "<4sIHHIIHH", b"fmt ", 16, 1, channels, sample_rate, sample_rate * channels * 2, channels * 2, 16
    )
    return struct.pack("<4sI4s", b"RIFF", size + 36, b"WAVE") + form + struct.pack("<4sI", b"data", size)
