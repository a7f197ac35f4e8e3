"""True peaks: the peaks of the reconstructed waveform, estimated by 4x oversampling (BS.1770-4, annex 2)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from riffstream.audio.checks import Pcm, as_block, check_format

__all__ = ["HALF", "STEP", "TruePeakMeter", "step_peaks"]

STEP = 16  # samples per peak value
HALF = 8  # taps on either side of the interpolated point


def _interpolators() -> NDArray[np.float64]:
    """[3, 2 HALF] filters for the points 1/4, 1/2 and 3/4 after a sample: sinc under a Kaiser window, unity at DC.

    Sixteen taps keep the error under 0.1 dB up to 0.42 of the rate (20 kHz at 48 kHz).
    """
    taps = np.arange(1 - HALF, HALF + 1)
    rows = []
    for phase in (0.25, 0.5, 0.75):
        distance = taps - phase
        window = np.i0(5.0 * np.sqrt(np.clip(1 - (distance / HALF) ** 2, 0, None)))
        row = np.sinc(distance) * window
        rows.append(row / row.sum())
    return np.array(rows)


def _toeplitz() -> NDArray[np.float64]:
    """[STEP + 2 HALF - 1, 3 STEP] matrix that maps a step with its neighbours to its interpolated points."""
    matrix = np.zeros((STEP + 2 * HALF - 1, STEP, 3))
    for sample in range(STEP):
        matrix[sample : sample + 2 * HALF, sample] = _interpolators().T
    return matrix.reshape(len(matrix), -1)


# In double precision, so that the float32 result does not depend on the order of summation in the matrix product.
POINTS = _toeplitz()
# No interpolated point can exceed the largest sample under the filter by more than this factor.
BOUND = float(np.abs(POINTS).sum(axis=0).max())


def step_peaks(padded: Pcm, threshold: float) -> NDArray[np.float32]:
    """True peak over all channels of each step of ``STEP`` samples.

    Args:
        padded: [HALF - 1 + k * STEP + HALF, channels]: the k steps with their neighbours on both sides.
        threshold: peaks below this value need not be exact: the sample peak is returned. This saves most of the work,
            because few passages are loud.

    Returns:
        float32 [k], >= 0. Peaks of ``threshold`` or more depend only on their own step and its neighbours.
    """
    steps = (len(padded) - 2 * HALF + 1) // STEP
    if steps < 1:
        return np.zeros(0, np.float32)
    sizes = np.abs(padded[:, 0])
    for channel in range(1, padded.shape[1]):
        np.maximum(sizes, np.abs(padded[:, channel]), out=sizes)
    peaks: NDArray[np.float32] = sizes[HALF - 1 : -HALF].reshape(steps, STEP).max(axis=1)
    around = np.concatenate([[sizes[: HALF - 1].max()], peaks, [sizes[-HALF:].max()]])
    around = np.maximum(np.maximum(around[:-2], around[2:]), peaks)
    loud = np.nonzero(around * BOUND >= threshold)[0]
    if len(loud):
        rows, columns = padded.strides
        spans = np.lib.stride_tricks.as_strided(
            padded,
            (steps, padded.shape[1], STEP + 2 * HALF - 1),
            (STEP * rows, columns, rows),
            writeable=False,
        )[loud].astype(np.float64)
        between = np.abs(spans.reshape(-1, len(POINTS)) @ POINTS)
        peaks[loud] = np.maximum(peaks[loud], between.reshape(len(loud), -1).max(axis=1))
    return peaks


class TruePeakMeter:
    """Meter of the largest true peak of a stream so far.

    Attributes:
        peak: linear, >= 0; 1.0 is full scale (0 dBTP). Points between the last ``HALF`` samples count when later
            samples arrive.
    """

    def __init__(self, channels: int = 2) -> None:
        check_format(48_000, channels)
        self.channels = channels
        self.reset()

    def reset(self) -> None:
        """Start a new stream."""
        self._pending = np.zeros((HALF - 1, self.channels), np.float32)
        self.peak = 0.0

    def push(self, block: Pcm) -> None:
        """Take [n, channels]."""
        block = as_block(block, self.channels)
        if len(block):
            self.peak = max(self.peak, float(np.abs(block).max()))
        pending = np.concatenate([self._pending, block])
        steps = (len(pending) - 2 * HALF + 1) // STEP
        if steps > 0:
            peaks = step_peaks(pending[: steps * STEP + 2 * HALF - 1], self.peak)
            self.peak = max(self.peak, float(peaks.max()))
            pending = pending[steps * STEP :].copy()
        self._pending = pending
