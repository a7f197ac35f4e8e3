"""The sample clock: the mapping from time to the audible sample of a station. The clock is injected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from riffstream.protocol import SAMPLE_RATE

__all__ = ["SampleClock"]

JUMP_S: Final = 1.0  # a larger difference is a clock jump (a suspended machine): continue from here without catching up


class SampleClock:
    """Clock that advances by 48,000 samples a second while it is started.

    ``live`` is the audible sample of a listener with the standard buffer. Audio is committed ``lead`` samples ahead.

    Args:
        clock: monotonic clock, seconds.
        lead: samples between the audible and the committed position.
        start: sample at the first start.
    """

    def __init__(self, clock: Callable[[], float], lead: int, start: int = 0) -> None:
        self._clock = clock
        self.lead = lead
        self._anchor_s = 0.0
        self._anchor = start
        self.running = False
        self.jumps = 0

    @property
    def live(self) -> int:
        """Sample that is audible now."""
        if not self.running:
            return self._anchor
        return self._anchor + round((self._clock() - self._anchor_s) * SAMPLE_RATE)

    def start(self) -> None:
        """Continue from the current position."""
        if not self.running:
            self._anchor_s = self._clock()
            self.running = True

    def stop(self) -> None:
        """Stand still."""
        self._anchor = self.live
        self.running = False

    def due(self, committed: int) -> int:
        """Number of samples to commit now; a clock jump is corrected first."""
        ahead = self.live + self.lead - committed
        limit = round(JUMP_S * SAMPLE_RATE)
        if self.running and (ahead > limit + self.lead or ahead < -limit):
            self._anchor, self._anchor_s = committed - self.lead, self._clock()
            self.jumps += 1
            return 0
        return max(0, ahead)

    def wait_s(self, committed: int, n: int) -> float:
        """Seconds until ``n`` samples are due."""
        return max(0.0, (committed + n - self.lead - self.live) / SAMPLE_RATE)
