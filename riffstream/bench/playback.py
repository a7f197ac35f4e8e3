"""A model of the browser player's buffering (client/src), to include it in measured delays."""

from __future__ import annotations

from collections import deque
from typing import Final

from riffstream.protocol import SAMPLE_RATE

__all__ = ["BUFFER_S", "Playback"]

BUFFER_S: Final = 0.2  # buffer before playback
LEAST_S: Final = 0.08  # smallest target on a calm line, or two frames
MOST_S: Final = 0.6
FAR_BEHIND_S: Final = 0.5  # excess over the target that causes a skip to live (the browser's limit during filling)
OFFSET: Final = 0.005  # largest deviation of the reading rate from 1
CLOSE: Final = 0.15  # relative distance from the target that is left alone
MEMORY: Final = 60  # seconds whose dips the target covers
FALL_S: Final = 0.004  # fall of the target a second
CALM_S: Final = 30.0  # time without an underrun that lowers its floor by 10 ms


class Playback:
    """Playback position as a function of the wall clock.

    Playback starts with 200 ms in the buffer. The target then follows the dips of the last minute down to 80 ms. An
    underrun stops playback until the buffer is full again, with a larger target. Late audio that then arrives at once
    is skipped; up to 0.5 s of it is played 0.5 % faster instead. An underrun thus does not delay all later audio.

    Attributes:
        underruns: number of underruns.
        skips: number of skips.
        received: number of received samples.
        edge: sample position after the last block.
        target_s: current target of the buffer, seconds.
    """

    def __init__(self) -> None:
        self.underruns = self.skips = self.received = 0
        self.edge = 0
        self.target_s = BUFFER_S
        self._floor_s = 0.0
        self._start: int | None = None  # start position during buffering
        self._at = 0.0  # time of the last block
        self._anchor: tuple[float, float] | None = None  # (time, sample) of playback
        self._rate = 1.0
        self._average = 0.0  # smoothed fill, seconds
        self._dips: deque[float] = deque(maxlen=MEMORY)  # seconds, one for each second of playback
        self._dip = 0.0  # of the current second
        self._second = self._calm = 0.0

    def receive(self, now: float, sample_pos: int, n_samples: int, *, discontinuity: bool = False) -> None:
        """Register a block at the time ``now`` (monotonic seconds)."""
        if self._anchor is not None and (discontinuity or self.position(now) > self.edge):
            if not discontinuity:
                self.underruns += 1
                self.target_s = self._floor_s = min(MOST_S, max(BUFFER_S, 1.5 * self.target_s))
                self._calm = 0.0
            self._anchor = self._start = None
        fill = (self.edge - self.position(now)) / SAMPLE_RATE
        passed = now - self._at
        self.received += n_samples
        self.edge = sample_pos + n_samples
        self._at = now
        if self._anchor is None:
            self._fill(now, sample_pos, n_samples, discontinuity=discontinuity)
        else:
            self._watch(fill, n_samples / SAMPLE_RATE, passed)
            self._pace(now)

    def _fill(self, now: float, sample_pos: int, n_samples: int, *, discontinuity: bool) -> None:
        if self._start is None or discontinuity:
            self._start = sample_pos
        held = (self.edge - self._start) / SAMPLE_RATE
        if held >= self.target_s:
            self._anchor, self._rate = (now, self._start), 1.0
            self._average = held
            self._dips.clear()
            self._dip = self._second = 0.0
            self._pace(now)

    def _watch(self, fill: float, frame: float, passed: float) -> None:
        """Note the dip of the buffer to ``fill`` seconds before a frame, and move the target once a second."""
        self._average += (fill + frame / 2 - self._average) * min(1.0, passed / 2)
        self._dip = max(self._dip, self._average - fill)
        self._second += passed
        if self._second < 1:
            return
        self._dips.append(self._dip)
        self._calm += self._second
        self._dip = self._second = 0.0
        if self._calm > CALM_S:
            self._calm = 0.0
            self._floor_s -= 0.01
        least = min(MOST_S, max(LEAST_S, 2 * frame))
        wanted = max(least, self._floor_s, min(MOST_S, 1.5 * max(self._dips) + 0.025))
        if wanted > self.target_s:
            self.target_s = wanted
        elif len(self._dips) >= 3:
            self.target_s = max(wanted, self.target_s - FALL_S)

    def _pace(self, now: float) -> None:
        position = self.position(now)
        if self.edge - position > (self.target_s + FAR_BEHIND_S) * SAMPLE_RATE:
            position = self.edge - self.target_s * SAMPLE_RATE
            self._average = self.target_s
            self.skips += 1
        self._anchor = now, position
        error = (self._average - self.target_s) / self.target_s
        self._rate = 1.0 if abs(error) < CLOSE else 1 + max(-1.0, min(1.0, 3 * error)) * OFFSET

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
        lacking = max(0.0, self.target_s - (self.edge - first) / SAMPLE_RATE)
        return self._at + lacking + (sample - first) / SAMPLE_RATE
