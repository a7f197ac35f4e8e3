"""The newest seconds of a live input, placed on the station's sample clock.

Threading model: the event loop makes every call.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from riffstream.protocol import SAMPLE_RATE

__all__ = ["InputRing"]

KEPT_S: Final = 20.0  # 8 beats at the slowest tempo take 12 s
DRIFT: Final = SAMPLE_RATE // 10  # distance from the expected position at which audio is placed anew


class InputRing:
    """Ring of samples by station position; missing samples are zeros.

    Consecutive blocks are joined without a gap, so that jitter does not reach the sound. A block that begins more than
    100 ms from the end of the last one (drift, a pause, lost frames) gets its own position.

    Args:
        channels: 1 or 2.
        seconds: length of the ring, seconds.
    """

    def __init__(self, channels: int, seconds: float = KEPT_S) -> None:
        self.channels = channels
        self.size = round(seconds * SAMPLE_RATE)
        self._samples = np.zeros((self.size, channels), np.int16)
        self.end: int | None = None  # position after the newest sample

    def write(self, samples: NDArray[np.int16], pos: int) -> None:
        """Add samples [n, channels] that belong at position ``pos``."""
        samples = samples[-self.size :]
        if self.end is not None and abs(pos - self.end) <= DRIFT:
            pos = self.end
        begin = max(0, pos)
        if self.end is None or begin >= self.end + self.size:
            self._samples[:] = 0
        elif begin > self.end:
            self._put(np.zeros((begin - self.end, self.channels), np.int16), self.end)
        elif begin + self.size <= self.end:  # older than the ring
            return
        self._put(samples, begin)
        self.end = max(self.end or 0, begin + len(samples))

    def _put(self, samples: NDArray[np.int16], pos: int) -> None:
        at = pos % self.size
        first = min(len(samples), self.size - at)
        self._samples[at : at + first] = samples[:first]
        self._samples[: len(samples) - first] = samples[first:]

    def read(self, begin: int, end: int) -> NDArray[np.int16]:
        """Copy of the samples [end - begin, channels]; zeros outside the ring. At most its length."""
        out = np.zeros((max(0, end - begin), self.channels), np.int16)
        if self.end is None:
            return out
        low, high = max(begin, self.end - self.size, 0), min(end, self.end)
        if low < high:
            index = np.arange(low, high) % self.size
            out[low - begin : high - begin] = self._samples[index]
        return out
