"""Where audio lies before it is committed: takes on tapes, loops, silence.

A *source* gives samples by its own count (local samples). Pure numpy; one thread at a time.
"""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np

from riffstream.station.messages import Pcm

__all__ = ["FOREVER", "Loop", "Silence", "Source", "Tape"]

FOREVER: Final = 2**62


class Source(Protocol):
    """Sound addressed by local sample."""

    @property
    def end(self) -> int:
        """Local sample before which everything can be read."""

    def read(self, start: int, n: int) -> Pcm:
        """Samples [start, start + n), [n, 2] float32."""


class Tape:
    """Append-only audio of a take; the far past can be trimmed.

    Attributes:
        begin, end: local samples between which it can be read.
    """

    def __init__(self) -> None:
        self._data: Pcm = np.zeros((0, 2), np.float32)
        self._used = 0
        self.begin = 0

    @property
    def end(self) -> int:
        return self.begin + self._used

    def append(self, pcm: Pcm) -> None:
        """Add [n, 2] at the end."""
        need = self._used + len(pcm)
        if need > len(self._data):
            grown = np.empty((max(need, 2 * len(self._data), 48_000), 2), np.float32)
            grown[: self._used] = self._data[: self._used]
            self._data = grown
        self._data[self._used : need] = pcm
        self._used = need

    def trim(self, before: int) -> None:
        """Forget what lies before a local sample. Space is given back in steps, so that trimming stays cheap."""
        drop = min(before, self.end) - self.begin
        if drop > self._used // 2 and drop > 48_000:
            self._data = self._data[drop : self._used].copy()
            self._used -= drop
            self.begin += drop

    def read(self, start: int, n: int) -> Pcm:
        """Samples [start, start + n). Raises IndexError outside [begin, end)."""
        if start < self.begin or start + n > self.end:
            raise IndexError(f"samples {start} to {start + n} of a tape that holds {self.begin} to {self.end}")
        return self._data[start - self.begin : start - self.begin + n]


class Loop:
    """The last ``length`` samples before ``end`` of a tape, over and over, without a seam.

    The loop's last ``fade`` samples are crossfaded with what came before its first sample, so that going round is
    continuous; and since a loop is entered at its very end minus the fade, so is entering it. Local samples are the
    tape's: sample ``end`` is the loop's first sample again.
    """

    end = FOREVER

    def __init__(self, tape: Source, end: int, length: int, fade: int) -> None:
        self.first = end - length
        self.length = length
        body = tape.read(end - length, length).copy()
        before = tape.read(end - length - fade, fade)
        # Equal power: bars of music are alike but not in phase.
        angle = ((np.arange(fade, dtype=np.float32) + 0.5) / fade * np.float32(np.pi / 2))[:, None]
        body[length - fade :] = body[length - fade :] * np.cos(angle) + before * np.sin(angle)
        self._body = body

    def read(self, start: int, n: int) -> Pcm:
        """Samples from local sample ``start``, round and round."""
        return self._body[(np.arange(start, start + n) - self.first) % self.length]


class Silence:
    """Zeros."""

    end = FOREVER

    def read(self, start: int, n: int) -> Pcm:
        """``n`` zeros."""
        return np.zeros((n, 2), np.float32)
