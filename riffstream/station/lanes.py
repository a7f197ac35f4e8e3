"""Lanes: values that move in ramps on the sample clock.

Pure functions of their ramps: the values do not depend on the blocks in which they are read.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Lane", "Values"]

Values = float | NDArray[np.float32]  # a constant, or one value a sample


class _Ramp(NamedTuple):
    pos: int
    start: float
    goal: float
    length: int

    def at(self, pos: float) -> float:
        if pos >= self.pos + self.length:
            return self.goal
        return self.start + (self.goal - self.start) * (pos - self.pos) / self.length


class Lane:
    """One value over time, with linear ramps.

    Args:
        neutral: the value without effect, with which the lane begins.

    Attributes:
        goal: end of the last ramp.
    """

    def __init__(self, neutral: float) -> None:
        self.neutral = self.goal = neutral
        self._ramps = [_Ramp(0, neutral, neutral, 0)]

    def move(self, pos: int, goal: float, length: int) -> None:
        """Move to ``goal`` over ``length`` samples from ``pos`` on. Later calls have a later ``pos``, or replace it."""
        start = self.at(pos)
        while len(self._ramps) > 1 and self._ramps[-1].pos >= pos:
            start = self._ramps.pop().start
        self._ramps.append(_Ramp(pos, start, goal, length))
        self.goal = goal

    def at(self, pos: int) -> float:
        """Value at a sample."""
        return self._ramp(pos).at(pos)

    def _ramp(self, pos: int) -> _Ramp:
        return next((ramp for ramp in reversed(self._ramps) if ramp.pos <= pos), self._ramps[0])

    def quiet(self, pos: int) -> float:
        """The sample until which the lane has no effect from ``pos`` on; ``pos`` itself if it has one."""
        ramp = self._ramp(pos)
        moving = ramp.start != ramp.goal and pos < ramp.pos + ramp.length
        if moving or ramp.goal != self.neutral:
            return pos
        return next((each.pos for each in self._ramps if each.pos > pos), math.inf)

    def first_move(self, start: int, stop: int) -> int:
        """First sample from ``start`` on, before ``stop``, at which the value moves; ``stop`` without any."""
        for ramp, following in itertools.zip_longest(self._ramps, self._ramps[1:]):
            end = ramp.pos + ramp.length if following is None else min(ramp.pos + ramp.length, following.pos)
            if ramp.start != ramp.goal and ramp.pos < stop and end > start:
                return max(ramp.pos, start)
        return stop

    def span(self, start: int, n: int) -> Values:
        """Values at the samples [start, start + n)."""
        if self.first_move(start, start + n) == start + n and self._ramp(start) is self._ramp(start + n - 1):
            return self.at(start)
        values = np.empty(n, np.float64)
        for ramp in self._ramps:
            first = max(0, ramp.pos - start)
            if first < n:
                share = (np.arange(start + first, start + n) - ramp.pos) / max(1, ramp.length)
                values[first:] = ramp.start + (ramp.goal - ramp.start) * np.clip(share, 0, 1)
                if not ramp.length:
                    values[first:] = ramp.goal
        return values.astype(np.float32)

    def forget(self, before: int) -> None:
        """Drop the ramps that end the lane's past before a sample."""
        while len(self._ramps) > 1 and self._ramps[1].pos <= before:
            del self._ramps[0]
