"""The sample clock: which sample of a station is audible at which moment. Pure; the clock is injected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from riffstream.protocol import SAMPLE_RATE

__all__ = ["SampleClock"]

JUMP_S: Final = 1.0  # a clock that is off by more has jumped (a suspended machine): go on from here, do not catch up


class SampleClock:
    """Runs at 48,000 samples a second while it is started, and stands still while it is stopped.

    ``live`` is what is audible to a listener with the standard buffer; audio is committed ``lead`` samples ahead of it.

    Args:
        clock: monotonic seconds.
        lead: samples.
    """

    def __init__(self, clock: Callable[[], float], lead: int) -> None:
        self._clock = clock
        self.lead = lead
        self._anchor_s = 0.0
        self._anchor = 0
        self.running = False
        self.jumps = 0

    @property
    def live(self) -> int:
        """The sample that is audible now."""
        if not self.running:
            return self._anchor
        return self._anchor + round((self._clock() - self._anchor_s) * SAMPLE_RATE)

    def start(self) -> None:
        """Run on from where it stands."""
        if not self.running:
            self._anchor_s = self._clock()
            self.running = True

    def stop(self) -> None:
        """Stand still."""
        self._anchor = self.live
        self.running = False

    def due(self, committed: int) -> int:
        """Samples that have to be committed now; a clock that jumped is set right first."""
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
