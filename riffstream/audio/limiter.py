"""A look-ahead limiter that keeps the true peak of an endless stream under a ceiling without audible pumping."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from riffstream.audio.checks import Pcm, as_block, check_format
from riffstream.audio.true_peak import HALF, STEP, step_peaks
from riffstream.errors import ParameterError

__all__ = ["TruePeakLimiter"]

# A margin, because the gain moves during a peak and other meters interpolate with other filters.
MARGIN_DB = 0.15


# An interpolated peak depends on the adjacent steps, so the gain of a boundary covers two steps on each side.
REACH = 4


def _windows(values: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    """[length, n] view whose column i is ``values[i : i + length]``."""
    (stride,) = values.strides
    return np.lib.stride_tricks.as_strided(
        values, (length, len(values) - length + 1), (stride, stride), writeable=False
    )


class TruePeakLimiter:
    """Streaming look-ahead limiter that keeps the true peak at or below ``ceiling_db`` dBTP.

    The gain is computed on steps of 16 samples. It is the lowest gain needed in the next ``lookahead_s``, followed by
    an exponential release and a moving average as long as the look-ahead. An average of sufficiently low gains is
    sufficiently low, so the ceiling holds without a clipper. This is the classic look-ahead design; Giannoulis,
    Massberg, Reiss, "Digital Dynamic Range Compressor Design", JAES 2012, discuss the release.

    Args:
        sample_rate: Hz.
        channels: 1 to 64; one gain for all, so that the stereo image does not move.
        ceiling_db: dBTP, -30 to 0.
        lookahead_s: 0.001 to 0.05.
        release_s: time constant of the release, 0.01 to 2.

    Attributes:
        latency: delay of the output in samples. ``push`` returns nothing until the input is longer. ``flush`` returns
            the rest, so that a whole stream keeps its length and its sample positions.
        reduction_db: gain reduction at the last output sample, >= 0.
    """

    def __init__(
        self,
        sample_rate: int,
        channels: int = 2,
        *,
        ceiling_db: float = -1.0,
        lookahead_s: float = 0.005,
        release_s: float = 0.12,
    ) -> None:
        check_format(sample_rate, channels)
        for field, value, low, high in (
            ("ceiling_db", ceiling_db, -30, 0),
            ("lookahead_s", lookahead_s, 0.001, 0.05),
            ("release_s", release_s, 0.01, 2),
        ):
            if not low <= value <= high:
                raise ParameterError(field, value, f"{low} to {high}")
        self.channels = channels
        self._ceiling = 10 ** ((ceiling_db - MARGIN_DB) / 20)
        self._ahead = max(1, math.ceil(lookahead_s * sample_rate / STEP))
        self._recover = 1 - math.exp(-STEP / (release_s * sample_rate))
        self.latency = (self._ahead + 3) * STEP + HALF
        self.reset()

    def reset(self) -> None:
        """Start a new stream."""
        self._input = np.zeros((HALF - 1, self.channels), np.float32)  # from before the first step without a peak on
        self._delayed = np.zeros((0, self.channels), np.float32)  # samples not yet returned
        self._needed = np.ones(2, np.float32)  # gain that each step needs, from two steps before the next boundary
        self._smooth = np.ones(self._ahead, np.float32)  # the released gains under the moving average
        self._released = 1.0
        self._edge: float | None = None  # gain at the start of the next step to return
        self.reduction_db = 0.0

    def push(self, block: ArrayLike) -> Pcm:
        """Take [n, channels]; return the samples that are now final, [m, channels]."""
        pcm = as_block(block, self.channels)
        pending = np.concatenate([self._input, pcm])
        self._delayed = np.concatenate([self._delayed, pcm])
        steps = max(0, (len(pending) - 2 * HALF + 1) // STEP)
        peaks = step_peaks(pending[: steps * STEP + 2 * HALF - 1], self._ceiling)
        self._input = pending[steps * STEP :].copy()
        asked = np.ones(steps, np.float32)
        np.divide(np.float32(self._ceiling), peaks, out=asked, where=peaks > self._ceiling)
        self._needed = np.concatenate([self._needed, asked])
        return self._apply(self._gains())

    def flush(self) -> Pcm:
        """End the stream: the samples held back. Afterwards the object is as new."""
        held = len(self._delayed)
        rest = self.push(np.zeros((self.latency + STEP, self.channels), np.float32))[:held]
        self.reset()
        return rest

    def _gains(self) -> NDArray[np.float32]:
        """Gains at the step boundaries that are now final."""
        ready = len(self._needed) - REACH + 1 - self._ahead
        if ready <= 0:
            return np.zeros(0, np.float32)
        if self._released == 1.0 and self._needed.min() == 1.0 and self._smooth.min() == 1.0:
            self._needed = self._needed[ready:]
            return np.ones(ready, np.float32)
        wanted = _windows(self._needed, self._ahead + REACH).min(axis=0)
        released = self._release(wanted)
        if self._edge is None:  # the gain falls to an early peak before the stream begins
            self._smooth = np.full(self._ahead, released[0])
        smooth = np.concatenate([self._smooth, released])
        self._needed = self._needed[ready:].copy()
        self._smooth = smooth[ready:].copy()
        # A fixed order of summation: numpy's order depends on the shape, and so on the block.
        total: NDArray[np.float32] = smooth[:ready].astype(np.float32)
        for place in range(1, self._ahead + 1):
            total += smooth[place : place + ready]
        total /= np.float32(self._ahead + 1)
        return total

    def _release(self, wanted: NDArray[np.float32]) -> NDArray[np.float32]:
        gains = []
        gain = self._released
        for want in wanted.tolist():
            gain = min(want, gain + (1 - gain) * self._recover)
            if gain > 0.99999:
                gain = 1.0
            gains.append(gain)
        self._released = gain
        return np.array(gains, np.float32)

    def _apply(self, gains: NDArray[np.float32]) -> Pcm:
        if self._edge is not None:
            gains = np.concatenate([np.array([self._edge], np.float32), gains])
        if len(gains) == 0:
            return self._delayed[:0]
        self._edge = float(gains[-1])
        self.reduction_db = -20 * math.log10(self._edge)
        n = (len(gains) - 1) * STEP
        out, self._delayed = self._delayed[:n], self._delayed[n:].copy()
        if gains.min() == 1.0:
            return out
        ramp = np.arange(STEP, dtype=np.float32) / STEP
        curve = gains[:-1, None] + (gains[1:] - gains[:-1])[:, None] * ramp
        limited: Pcm = (out * curve.reshape(-1, 1)).astype(np.float32, copy=False)
        return limited
