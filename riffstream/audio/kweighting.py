"""K-weighting and the 100 ms grid on which every loudness of ITU-R BS.1770-4 and EBU Tech 3341 is built."""

from __future__ import annotations

import copy
import math

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from riffstream.audio.blocks import Pcm, check_format
from riffstream.errors import ParameterError

__all__ = ["STEPS_PER_SECOND", "StepPower", "channel_weights", "k_weighting", "lufs"]

STEPS_PER_SECOND = 10

# The analogue prototypes behind the two 48 kHz biquads that BS.1770 tabulates, recovered from its coefficients by
# inverting the bilinear transform; transforming them again at 48 kHz reproduces the table to 1e-8 (a test), and at any
# other rate gives the filter that the recommendation asks for.
SHELF_HZ, SHELF_DB, SHELF_Q = 1681.9744509555319, 3.99984385397, 0.7071752369554193
SHELF_SLOPE = 0.499666774155
HIGHPASS_HZ, HIGHPASS_Q = 38.13547087613982, 0.5003270373253953


def k_weighting(sample_rate: int) -> NDArray[np.float64]:
    """Second-order sections [2, 6] of the K filter at ``sample_rate`` Hz, for ``scipy.signal.sosfilt``."""
    k = math.tan(math.pi * SHELF_HZ / sample_rate)
    high = 10 ** (SHELF_DB / 20)
    band = high**SHELF_SLOPE
    norm = 1 + k / SHELF_Q + k * k
    shelf = [
        (high + band * k / SHELF_Q + k * k) / norm,
        2 * (k * k - high) / norm,
        (high - band * k / SHELF_Q + k * k) / norm,
        1.0,
        2 * (k * k - 1) / norm,
        (1 - k / SHELF_Q + k * k) / norm,
    ]
    k = math.tan(math.pi * HIGHPASS_HZ / sample_rate)
    norm = 1 + k / HIGHPASS_Q + k * k
    # The recommendation's numerator is 1, -2, 1 without the usual 1/norm.
    highpass = [1.0, -2.0, 1.0, 1.0, 2 * (k * k - 1) / norm, (1 - k / HIGHPASS_Q + k * k) / norm]
    return np.array([shelf, highpass])


def channel_weights(channels: int) -> tuple[float, ...]:
    """BS.1770 weights in WAVE order: 5.0 and 5.1 have surrounds at +1.5 dB, and the LFE does not count."""
    if channels == 5:
        return (1.0, 1.0, 1.0, 1.41, 1.41)
    if channels == 6:
        return (1.0, 1.0, 1.0, 0.0, 1.41, 1.41)
    return (1.0,) * channels


def lufs(power: float) -> float:
    """Loudness in LUFS of a weighted mean square; -inf for silence."""
    return -0.691 + 10 * math.log10(power) if power > 0 else -math.inf


class StepPower:
    """K-weighted mean square of each 100 ms step of a stream, summed over the weighted channels.

    Args:
        sample_rate: Hz. Step k covers the samples from ``round(k * rate / 10)`` on.
        channels: 1 to 64.
        weights: one per channel; :func:`channel_weights` by default.
    """

    def __init__(self, sample_rate: int, channels: int, weights: tuple[float, ...] | None = None) -> None:
        check_format(sample_rate, channels)
        self.sample_rate, self.channels = sample_rate, channels
        self._weights = np.array(channel_weights(channels) if weights is None else weights)
        if len(self._weights) != channels:
            raise ParameterError("weights", weights, f"{channels} numbers, one a channel")
        shelf, highpass = k_weighting(sample_rate)
        # One filter of order four costs half of two of order two; in double precision it is as exact (a test).
        self._b, self._a = np.convolve(shelf[:3], highpass[:3]), np.convolve(shelf[3:], highpass[3:])
        self.reset()

    def reset(self) -> None:
        """Start a new stream."""
        self._zi = np.zeros((self.channels, 4))
        self._pending: tuple[NDArray[np.float64], ...] = ()  # filtered samples of the step that is not complete
        self._held = 0
        self.steps = 0

    def copy(self) -> StepPower:
        """An independent meter in the same state (arrays are replaced, never written into)."""
        return copy.copy(self)

    def boundary(self, step: int) -> int:
        """Sample at which ``step`` starts."""
        return round(step * self.sample_rate / STEPS_PER_SECOND)

    def push(self, block: Pcm) -> list[float]:
        """Take [n, channels]; return the powers of the steps completed by it. The same for any cutting into blocks."""
        filtered, zi = lfilter(self._b, self._a, block.T.astype(np.float64, order="C"), axis=1, zi=self._zi)
        # Silence decays into denormal numbers, which are a hundred times slower to compute.
        self._zi = np.where(np.abs(zi) < 1e-30, 0.0, zi)
        self._pending = (*self._pending, filtered)
        self._held += filtered.shape[1]
        if self._held < self._length():
            return []
        pending = np.concatenate(self._pending, axis=1)
        powers = []
        used = 0
        while (length := self._length()) <= self._held - used:
            step = pending[:, used : used + length]
            powers.append(float(self._weights @ (step * step).sum(axis=1)) / length)
            used += length
            self.steps += 1
        self._pending, self._held = (pending[:, used:].copy(),), self._held - used
        return powers

    def _length(self) -> int:
        return self.boundary(self.steps + 1) - self.boundary(self.steps)
