"""The audible position of a relayed station, from the upstream's answers to ``clock``. The clock is injected."""

from __future__ import annotations

from collections.abc import Callable

from riffstream.protocol import SAMPLE_RATE

__all__ = ["Position"]

BACK = SAMPLE_RATE  # a larger step back is another sample clock
SMOOTHING = 0.2
STILL_S = 0.2  # two equal positions in a shorter time mean nothing


class Position:
    """Estimate of the upstream's audible sample.

    Args:
        clock: monotonic clock, seconds.

    Attributes:
        round_trip_s: time from a request to its answer, smoothed; 0 before the first.
        advancing: False while the upstream's position stands still (a station without listeners rests).
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.round_trip_s = 0.0
        self.advancing = False
        self._clock = clock
        self._answer: tuple[float, int] | None = None  # local time and position
        self._shown = 0

    @property
    def sample_pos(self) -> int:
        """Sample that is audible now. It steps back only for another sample clock."""
        if self._answer is None:
            return self._shown
        at, pos = self._answer
        found = pos + round((self._clock() - at) * SAMPLE_RATE) if self.advancing else pos
        if found > self._shown or found < self._shown - BACK:
            self._shown = found
        return self._shown

    def answered(self, t0_s: float, sample_pos: int) -> None:
        """Take an answer to ``clock``.

        Args:
            t0_s: local time of the request, seconds.
            sample_pos: the position in the answer.
        """
        now = self._clock()
        trip = now - t0_s
        self.round_trip_s = trip if not self.round_trip_s else (1 - SMOOTHING) * self.round_trip_s + SMOOTHING * trip
        if self._answer is None or sample_pos > self._answer[1]:
            self.advancing = True
        elif sample_pos < self._answer[1] or now - self._answer[0] > STILL_S:
            self.advancing = False
        self._answer = (t0_s + trip / 2, sample_pos)

    def welcomed(self, sample_pos: int) -> None:
        """Take the position of a ``welcome`` or ``now``, whose time is only roughly known."""
        if self._answer is None or sample_pos < self._answer[1] - BACK:
            self._answer, self.advancing = (self._clock(), sample_pos), False

    def stop(self) -> None:
        """Stand still, because the upstream is lost."""
        if self._answer is not None:
            self._answer, self.advancing = (self._clock(), self.sample_pos), False
