"""Resampling of a stream with one persistent soxr resampler. A new resampler for each block would click."""

from __future__ import annotations

from typing import Literal

import numpy as np
import soxr
from numpy.typing import ArrayLike

from riffstream.audio.checks import Pcm, as_block, check_format

__all__ = ["StreamResampler", "resample"]

Quality = Literal["QQ", "LQ", "MQ", "HQ", "VHQ"]


class StreamResampler:
    """Sample rate conversion of an endless stream.

    Output sample j is at position ``j * in_rate / out_rate`` of the input, without delay; ``push`` holds back samples
    that still depend on later input. After ``flush`` there are ``round(n * out_rate / in_rate)`` samples. Equal rates
    leave the samples unchanged.

    Args:
        in_rate, out_rate: Hz, 1000 to 768000.
        channels: 1 to 64.
        quality: soxr's quality: HQ is transparent at 16 bits, VHQ at 24.
    """

    def __init__(self, in_rate: int, out_rate: int, channels: int = 2, quality: Quality = "HQ") -> None:
        check_format(in_rate, channels)
        check_format(out_rate, channels)
        self.in_rate, self.out_rate, self.channels = in_rate, out_rate, channels
        self._quality = quality
        self.reset()

    def reset(self) -> None:
        """Return to the initial state: the next block starts a new stream."""
        self._soxr = (
            None
            if self.in_rate == self.out_rate
            else soxr.ResampleStream(self.in_rate, self.out_rate, self.channels, dtype="float32", quality=self._quality)
        )

    def push(self, block: ArrayLike) -> Pcm:
        """Take [n, channels]; return the output samples that are now final, [m, channels]."""
        return self._process(as_block(block, self.channels), last=False)

    def flush(self) -> Pcm:
        """End the stream: the samples held back. Afterwards the object is as new."""
        rest = self._process(np.zeros((0, self.channels), np.float32), last=True)
        self.reset()
        return rest

    def _process(self, block: Pcm, *, last: bool) -> Pcm:
        if self._soxr is None:
            return block
        out: Pcm = self._soxr.resample_chunk(np.ascontiguousarray(block), last=last)
        return out.reshape(-1, self.channels)


def resample(pcm: ArrayLike, in_rate: int, out_rate: int, quality: Quality = "HQ") -> Pcm:
    """Resample a whole signal [n, channels]; the result equals that of :class:`StreamResampler`."""
    block = np.asarray(pcm)
    stream = StreamResampler(in_rate, out_rate, block.shape[1] if block.ndim == 2 else 1, quality)
    return np.concatenate([stream.push(block), stream.flush()])
