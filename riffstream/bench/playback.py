"""A model of the browser player's buffering (client/src), to include it in measured delays."""

from __future__ import annotations

from typing import Final

from riffstream.protocol import SAMPLE_RATE

__all__ = ["BUFFER_S", "Playback"]

BUFFER_S: Final = 0.2  # buffer before playback
FAR_BEHIND_S: Final = 0.5  # excess over the buffer that causes a skip to live (the browser's limit during filling)
CATCH_UP: Final = 1.005  # reading rate with an excess of 10 % over the buffer


class Playback:
    """Playback position as a function of the wall clock.

    Playback starts with 200 ms in the buffer. An underrun stops it until the buffer is full again. Late audio that then
    arrives at once is skipped; up to 0.5 s of it is played 0.5 % faster instead. An underrun thus does not delay all
    later audio.

    Attributes:
        underruns: number of underruns.
        skips: number of skips.
        received: number of received samples.
        edge: sample position after the last block.
    """

    def __init__(self) -> None:
        self.underruns = self.skips = self.received = 0
        self.edge = 0
        self._start: int | None = None  # start position during buffering
        self._at = 0.0  # time of the last block
        self._anchor: tuple[float, float] | None = None  # (time, sample) of playback
        self._rate = 1.0

    def receive(self, now: float, sample_pos: int, n_samples: int, *, discontinuity: bool = False) -> None:
        """Register a block at the time ``now`` (monotonic seconds)."""
        if self._anchor is not None and (discontinuity or self.position(now) > self.edge):
            self.underruns += not discontinuity
            self._anchor = self._start = None
        self.received += n_samples
        self.edge = sample_pos + n_samples
        self._at = now
        if self._anchor is None:
            self._fill(now, sample_pos, n_samples, discontinuity=discontinuity)
        else:
            self._pace(now, n_samples)

    def _fill(self, now: float, sample_pos: int, n_samples: int, *, discontinuity: bool) -> None:
        if self._start is None or discontinuity:
            self._start = sample_pos
        if self.edge - self._start >= BUFFER_S * SAMPLE_RATE:
            self._anchor, self._rate = (now, self._start), 1.0
            self._pace(now, n_samples)

    def _pace(self, now: float, n_samples: int) -> None:
        position = self.position(now)
        if self.edge - position > (BUFFER_S + FAR_BEHIND_S) * SAMPLE_RATE:
            position = self.edge - BUFFER_S * SAMPLE_RATE
            self.skips += 1
        mean = self.edge - position - n_samples / 2  # the buffer falls by one block between two blocks
        self._anchor = now, position
        self._rate = CATCH_UP if mean > 1.1 * BUFFER_S * SAMPLE_RATE else 1.0

    def position(self, now: float) -> float:
        """The audible sample; before playback, the first one."""
        if self._anchor is None:
            return float(self._start or 0)
        when, sample = self._anchor
        return sample + (now - when) * SAMPLE_RATE * self._rate

    def audible_at(self, sample: int) -> float:
        """The time of a sample's playback, past or future, in monotonic seconds."""
        if self._anchor is not None:
            when, first = self._anchor
            return when + (sample - first) / (SAMPLE_RATE * self._rate)
        first = float(self._start or 0)
        lacking = max(0.0, BUFFER_S - (self.edge - first) / SAMPLE_RATE)
        return self._at + lacking + (sample - first) / SAMPLE_RATE
