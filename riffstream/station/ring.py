"""The ring of recent committed audio.

Threading model
  One thread    (the event loop) pushes.
  Any thread    reads, without a lock: samples that are overwritten during a read are left out at the beginning.
"""

from __future__ import annotations

import numpy as np

from riffstream.generator.messages import Pcm
from riffstream.station.block import Block

__all__ = ["PcmRing"]


class PcmRing:
    """Ring buffer of committed audio as int16, the resolution of all listeners, in half the memory.

    Args:
        samples: capacity in samples.
        start: sample clock at the first sample.
    """

    def __init__(self, samples: int, start: int = 0) -> None:
        # Filled at once: pages allocated on first use would look like a leak.
        self._data = np.full((samples, 2), 0, np.int16)
        self._start = start
        self.end = start
        self._claimed = start  # end of the data after the push in progress

    @property
    def begin(self) -> int:
        """Sample clock of the oldest sample."""
        return max(self._start, self.end - len(self._data))

    def push(self, pcm: Pcm) -> None:
        """Append [n, 2]; n is at most the capacity."""
        first = self.end % len(self._data)
        self._claimed = self.end + len(pcm)
        whole = np.clip(np.rint(pcm * 32767.0), -32768, 32767).astype(np.int16)
        head = whole[: len(self._data) - first]
        self._data[first : first + len(head)] = head
        self._data[: len(whole) - len(head)] = whole[len(head) :]
        self.end = self._claimed

    def read(self, start: int, end: int) -> Pcm:
        """Samples [start, end) as float32 [n, 2], limited to the available range."""
        start, end = max(start, self.begin), min(end, self.end)
        index = np.arange(start, max(start, end)) % len(self._data)
        pcm = self._data[index]
        overwritten = self._claimed - len(self._data) - start  # while they were copied
        return pcm[max(0, overwritten) :].astype(np.float32) / np.float32(32767.0)

    def blocks(self, seconds: float, size: int, rev: int) -> list[Block]:
        """Newest ``seconds`` as blocks of ``size`` samples."""
        first = max(self.begin, self.end - round(seconds * 48_000 / size) * size)
        first += (self.end - first) % size
        out = []
        for pos in range(first, self.end, size):
            pcm = self.read(pos, pos + size)
            out.append(Block(pos, pcm, rev, not pcm.any()))
        return out
