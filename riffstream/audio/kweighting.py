"""K-weighted power on a 100 ms grid, the basis of all loudness in ITU-R BS.1770-4 and EBU Tech 3341."""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import NDArray

from riffstream.audio.checks import Pcm, check_format
from riffstream.errors import ParameterError

__all__ = ["STEPS_PER_SECOND", "StepPower", "channel_weights", "k_weighting", "lufs"]

STEPS_PER_SECOND = 10

# The analogue prototypes of the two 48 kHz biquads in BS.1770, recovered from its coefficients by inverting the
# bilinear transform. The transform at 48 kHz reproduces the table to 1e-8 (a test); at any other rate it gives the
# filter that the recommendation requires.
SHELF_HZ, SHELF_DB, SHELF_Q = 1681.9744509555319, 3.99984385397, 0.7071752369554193
SHELF_SLOPE = 0.499666774155
HIGHPASS_HZ, HIGHPASS_Q = 38.13547087613982, 0.5003270373253953


def k_weighting(sample_rate: int) -> NDArray[np.float64]:
    """Second-order sections [2, 6] of the K filter at ``sample_rate`` Hz, in ``scipy.signal.sosfilt``'s layout."""
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
    """BS.1770 channel weights in WAVE order: surrounds of 5.0 and 5.1 have +1.5 dB, the LFE has 0."""
    if channels == 5:
        return (1.0, 1.0, 1.0, 1.41, 1.41)
    if channels == 6:
        return (1.0, 1.0, 1.0, 0.0, 1.41, 1.41)
    return (1.0,) * channels


def lufs(power: float) -> float:
    """Loudness in LUFS of a weighted mean square; -inf for silence."""
    return -0.691 + 10 * math.log10(power) if power > 0 else -math.inf


class _Filter:
    """The K filter over a fixed number of samples, as a few matrix products.

    In state-space form the outputs of a block are linear in its inputs and in the previous state, so the loop over
    blocks carries only the state. ``scipy.signal.sosfilt`` computes the same, but its import takes more than half of
    the server's start-up time.

    Args:
        sections: [2, 6], from :func:`k_weighting`.
        length: samples per call.
    """

    BLOCK = 96

    def __init__(self, sections: NDArray[np.float64], length: int) -> None:
        size = min(self.BLOCK, length)
        self._lead = length % size
        # Two biquads in transposed direct form II, in series. The poles are so close to 1 that powers of the transition
        # lose half of their digits in double precision at 192 kHz. So they are computed in long double.
        (b, a), (c, d) = ((each[:3].astype(np.longdouble), each[3:].astype(np.longdouble)) for each in sections)
        move = np.zeros((4, 4), np.longdouble)
        move[:2, 0], move[0, 1] = -a[1:], 1
        move[2:, 2], move[2, 3] = -d[1:], 1
        into = c[1:] - d[1:] * c[0]  # from the second biquad's input to its state
        move[2:, 0] += into
        drive = np.concatenate([b[1:] - a[1:] * b[0], into * b[0]])
        out = np.array([c[0], 0, 1, 0], np.longdouble)
        powers = [np.eye(4, dtype=np.longdouble)]
        for _ in range(size):
            powers.append(move @ powers[-1])
        response = np.array([c[0] * b[0], *(out @ power @ drive for power in powers[: size - 1])])
        lag = np.subtract.outer(np.arange(size), np.arange(size))
        through = np.where(lag >= 0, response[np.maximum(lag, 0)], 0).T
        to_state = np.array([power @ drive for power in powers[:size]][::-1])
        self._of_input = np.concatenate([through, to_state], axis=1).astype(np.float64)  # [in, out and state]
        self._of_state = np.array([out @ power for power in powers[:size]]).T.astype(np.float64)  # [state, out]
        self._skip, self._move = (powers[n].T.astype(np.float64) for n in (self._lead, size))

    def __call__(self, x: NDArray[np.float64], state: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
        """Filter x [channels, length] from ``state`` [channels, 4]; returns outputs and the state after them."""
        lead, size, channels = self._lead, len(self._of_input), len(x)
        head = x[:, :lead]
        first = head @ self._of_input[:lead, :lead] + state @ self._of_state[:, :lead]
        state = state @ self._skip + head @ self._of_input[size - lead :, size:]
        given = x[:, lead:].reshape(-1, size) @ self._of_input
        driven = given[:, size:].reshape(channels, -1, 4)
        states = np.empty_like(driven)
        for k in range(driven.shape[1]):
            states[:, k] = state
            state = state @ self._move + driven[:, k]
        rest = given[:, :size] + states.reshape(-1, 4) @ self._of_state
        return np.concatenate([first, rest.reshape(channels, -1)], axis=1), state


@functools.lru_cache(maxsize=16)
def _filter(sample_rate: int, length: int) -> _Filter:
    return _Filter(k_weighting(sample_rate), length)


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
        self.reset()

    def reset(self) -> None:
        """Start a new stream."""
        self._state = np.zeros((self.channels, 4))
        self._pending: tuple[Pcm, ...] = ()  # samples of the step that is not complete
        self._held = 0
        self.steps = 0

    def boundary(self, step: int) -> int:
        """Sample at which ``step`` starts."""
        return round(step * self.sample_rate / STEPS_PER_SECOND)

    def push(self, block: Pcm) -> list[float]:
        """Take [n, channels]; return the powers of the completed steps. The result does not depend on the blocks."""
        self._pending = (*self._pending, block)
        self._held += len(block)
        if self._held < self._length():
            return []
        # Only whole steps, so that the arithmetic does not depend on how the stream was cut.
        pending = np.concatenate(self._pending).T.astype(np.float64, order="C")
        powers = []
        used = 0
        while (length := self._length()) <= self._held - used:
            filtered, state = _filter(self.sample_rate, length)(pending[:, used : used + length], self._state)
            # Silence decays into denormal numbers, which are a hundred times slower to compute.
            self._state = np.where(np.abs(state) < 1e-30, 0.0, state)
            powers.append(float(self._weights @ (filtered * filtered).sum(axis=1)) / length)
            used += length
            self.steps += 1
        rest = pending[:, used:].T.astype(np.float32)
        self._pending, self._held = (rest,), self._held - used
        return powers

    def _length(self) -> int:
        return self.boundary(self.steps + 1) - self.boundary(self.steps)
