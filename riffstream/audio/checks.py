"""Input checks of all streaming objects."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from riffstream.errors import ParameterError

__all__ = ["Pcm", "as_block", "check_format"]

Pcm = NDArray[np.float32]  # [n, channels], interleaved in memory, in [-1, 1]


def as_block(pcm: ArrayLike, channels: int) -> Pcm:
    """Convert ``pcm`` to float32 [n, channels]; a 1-D array is one channel.

    Samples that are not finite become 0, because one NaN would stay in a recursive filter.

    Raises:
        ParameterError: another number of channels or dimensions, or samples that are not floating point (the scale of
            integers is unknown).
    """
    block: NDArray[Any] = np.asarray(pcm)
    if block.ndim == 1:
        block = block[:, None]
    if block.ndim != 2 or block.shape[1] != channels:
        raise ParameterError("pcm", f"array of shape {np.shape(pcm)}", f"shape [n, {channels}]")
    if block.dtype.kind != "f":
        raise ParameterError("pcm", f"array of {block.dtype}", "floating point samples in [-1, 1]")
    block = block.astype(np.float32, copy=False)
    finite = np.isfinite(block)
    return block if finite.all() else np.where(finite, block, np.float32(0))


def check_format(sample_rate: int, channels: int, max_channels: int = 64) -> None:
    """Raise ParameterError unless the rate is 1 to 768 kHz and the channels are 1 to ``max_channels``."""
    if not 1_000 <= sample_rate <= 768_000:
        raise ParameterError("sample_rate", sample_rate, "1000 to 768000 Hz")
    if not 1 <= channels <= max_channels:
        raise ParameterError("channels", channels, f"1 to {max_channels}")
