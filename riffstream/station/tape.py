"""Audio sources of the mixer: tapes (audio of takes), loops and silence.

A *source* is addressed by its own sample count (local samples). Pure numpy; one thread at a time.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol

import numpy as np

from riffstream.generator.messages import Pcm

__all__ = ["FOREVER", "Loop", "Silence", "Source", "Tape"]

FOREVER: Final = 2**62


class Source(Protocol):
    """Audio addressed by local sample."""

    @property
    def end(self) -> int:
        """Local sample at the end of the available audio."""

    def read(self, start: int, n: int) -> Pcm:
        """Samples [start, start + n) as [n, 2] float32, or [n, 4] with the drums."""


class Tape:
    """Append-only audio of a take, [n, 2] or with its drums [n, 4]; its beginning can be trimmed.

    Storage is in blocks of one size, which avoids fragmentation in a process that runs for weeks.

    Args:
        start: local sample of the first audio.

    Attributes:
        begin: first readable local sample.
        end: local sample after the last.
    """

    BLOCK: Final = 24_000

    def __init__(self, start: int = 0) -> None:
        self._blocks: deque[Pcm] = deque()
        self._first = start  # local sample at the start of the first block
        self._columns = 2
        self.begin = start
        self.end = start

    def append(self, pcm: Pcm) -> None:
        """Append [n, 2] or [n, 4], always the same number of columns."""
        self._columns = pcm.shape[1]
        done = 0
        while done < len(pcm):
            place = (self.end - self._first) % self.BLOCK
            if place == 0 and self.end - self._first == len(self._blocks) * self.BLOCK:
                self._blocks.append(np.empty((self.BLOCK, self._columns), np.float32))
            m = min(self.BLOCK - place, len(pcm) - done)
            self._blocks[-1][place : place + m] = pcm[done : done + m]
            done += m
            self.end += m

    def trim(self, before: int) -> None:
        """Discard the audio before a local sample."""
        self.begin = max(self.begin, min(before, self.end))
        while self._blocks and self._first + self.BLOCK <= self.begin:
            self._blocks.popleft()
            self._first += self.BLOCK

    def read(self, start: int, n: int) -> Pcm:
        """Samples [start, start + n). Raises IndexError outside [begin, end)."""
        if start < self.begin or start + n > self.end:
            raise IndexError(f"samples {start} to {start + n} of a tape that holds {self.begin} to {self.end}")
        parts = []
        while n > 0:
            number, place = divmod(start - self._first, self.BLOCK)
            parts.append(self._blocks[number][place : place + n])
            start += len(parts[-1])
            n -= len(parts[-1])
        if not parts:
            return np.zeros((0, self._columns), np.float32)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


class Loop:
    """Seamless repetition of the last ``length`` samples before ``end`` of a tape.

    The last ``fade`` samples of the loop are crossfaded with the samples before its start, so that each repetition is
    continuous. The entry is continuous too: playback enters the loop ``fade`` samples before ``end``, where its samples
    equal those of the tape. Local samples are the tape's: sample ``end`` is the first sample of the loop.
    """

    end = FOREVER

    def __init__(self, tape: Source, end: int, length: int, fade: int) -> None:
        self.first = end - length
        self.length = length
        body = tape.read(end - length, length).copy()
        before = tape.read(end - length - fade, fade)
        # Equal power: bars of music are similar but not in phase.
        angle = ((np.arange(fade, dtype=np.float32) + 0.5) / fade * np.float32(np.pi / 2))[:, None]
        body[length - fade :] = body[length - fade :] * np.cos(angle) + before * np.sin(angle)
        self._body = body

    def read(self, start: int, n: int) -> Pcm:
        """Samples [start, start + n) as [n, 2] float32."""
        return self._body[(np.arange(start, start + n) - self.first) % self.length]


class Silence:
    """Zeros."""

    end = FOREVER

    def read(self, start: int, n: int) -> Pcm:
        """``n`` zeros."""
        return np.zeros((n, 2), np.float32)
