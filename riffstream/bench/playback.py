"""When a listener hears what: the browser player's buffering (client/src), on paper, so that delays include it."""

from __future__ import annotations

from typing import Final

from riffstream.protocol import SAMPLE_RATE

__all__ = ["BUFFER_S", "Playback"]

BUFFER_S: Final = 0.2  # held before playing
FAR_BEHIND_S: Final = 0.5  # more than this beyond the buffer: skip to live (what the browser allows while it fills)
CATCH_UP: Final = 1.005  # rate of reading while there is a tenth more than the buffer


class Playback:
    """The place of playing on the wall clock.

    It begins as soon as 200 ms are there. An underrun stops it until they are there again; what then came late all at
    once is skipped, or, up to half a second of it, caught up with by reading 0.5 % faster. So an underrun does not
    delay everything that comes after it.

    Attributes:
        underruns, skips: counted. received: samples. edge: sample clock behind the last block.
    """

    def __init__(self) -> None:
        self.underruns = self.skips = self.received = 0
        self.edge = 0
        self._start: int | None = None  # where playing will begin, while the buffer fills
        self._at = 0.0  # when the last block came
        self._anchor: tuple[float, float] | None = None  # (when, sample) of playing
        self._rate = 1.0

    def receive(self, now: float, sample_pos: int, n_samples: int, *, discontinuity: bool = False) -> None:
        """A block has come, at ``now`` (monotonic seconds)."""
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
        mean = self.edge - position - n_samples / 2  # between two blocks it falls by one
        self._anchor = now, position
        self._rate = CATCH_UP if mean > 1.1 * BUFFER_S * SAMPLE_RATE else 1.0

    def position(self, now: float) -> float:
        """The sample that is audible; where nothing is yet, the one that will be first."""
        if self._anchor is None:
            return float(self._start or 0)
        when, sample = self._anchor
        return sample + (now - when) * SAMPLE_RATE * self._rate

    def audible_at(self, sample: int) -> float:
        """When (monotonic seconds) a sample is, was or will be audible."""
        if self._anchor is not None:
            when, first = self._anchor
            return when + (sample - first) / (SAMPLE_RATE * self._rate)
        first = float(self._start or 0)
        lacking = max(0.0, BUFFER_S - (self.edge - first) / SAMPLE_RATE)
        return self._at + lacking + (sample - first) / SAMPLE_RATE
