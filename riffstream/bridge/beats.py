"""The musical position of a station at the time of this machine.

Threading model
  One event loop makes every call.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from riffstream import protocol
from riffstream.client import Radio
from riffstream.errors import RadioError

__all__ = ["BeatClock"]

ASK_S = 5.0  # between two readings of the server's clock
KEPT = 8  # readings; the one with the shortest way is the most exact
SHORT_S = 0.02  # sleeping is exact to this; longer waits are divided, so that a new tempo counts at once


class BeatClock:
    """Beats of a station: ``now`` gives the musical position, ``clock`` the audible sample.

    Args:
        radio: connection to the station.
    """

    def __init__(self, radio: Radio) -> None:
        self._radio = radio
        self._readings: list[tuple[float, float]] = []  # round trip, offset of the sample clock: seconds
        self._now: protocol.Now | None = None

    def hear(self, now: protocol.Now) -> None:
        """Take a musical position."""
        self._now = now

    async def run(self) -> None:
        """Read the server's clock until cancelled."""
        while True:
            with contextlib.suppress(RadioError):  # the connection is being restored
                sent = time.monotonic()
                reply = await self._radio.clock(timeout_s=ASK_S)
                came = time.monotonic()
                offset = reply.sample_pos / protocol.SAMPLE_RATE - (sent + came) / 2
                if self._readings and abs(offset - self._readings[-1][1]) > 1.0:
                    self._readings.clear()  # another clock: the server was restarted
                self._readings = [*self._readings[1 - KEPT :], (came - sent, offset)]
            await asyncio.sleep(ASK_S if len(self._readings) >= KEPT else 0.3)

    @property
    def state(self) -> protocol.State:
        """Music of the station."""
        return self._radio.state if self._now is None else self._now.state

    @property
    def bpm(self) -> float | None:
        """Tempo in beats per minute; None if the station has none."""
        return self.state.bpm

    @property
    def playing(self) -> bool:
        """Whether the station has a beat, plays, and its position is known."""
        return self._now is not None and bool(self._readings) and bool(self.bpm) and not self.state.paused

    def beat(self, at: float | None = None) -> float | None:
        """Audible beat since the station began.

        Args:
            at: time of ``time.monotonic()``; None: now.
        """
        if not self.playing or self._now is None or not self.bpm:
            return None
        offset = min(self._readings)[1]
        seconds = (time.monotonic() if at is None else at) + offset - self._now.sample_pos / protocol.SAMPLE_RATE
        return self._now.beat + seconds * self.bpm / 60

    async def ticks(self, per_beat: int) -> AsyncIterator[int]:
        """Yield the number of each tick at its time (beat times ``per_beat``). Missed ticks are skipped."""
        last: int | None = None
        while True:
            beat = self.beat()
            if beat is None or not self.bpm:
                last = None
                await asyncio.sleep(0.05)
                continue
            tick = int(beat * per_beat // 1)
            if last is None or tick > last or tick < last - per_beat:  # far behind: a new clock
                first, last = last is None, tick
                if not first:
                    yield tick
                continue
            wait_s = (last + 1 - beat * per_beat) * 60 / self.bpm / per_beat
            await asyncio.sleep(min(max(wait_s, 0.0005), SHORT_S))
