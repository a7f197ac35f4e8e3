"""The musical position of a station at the time of this machine.

Threading model
  One event loop makes every call.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import NamedTuple

from riffstream import protocol
from riffstream.client import Radio
from riffstream.errors import RadioError

__all__ = ["Bar", "BeatClock"]

ASK_S = 5.0  # between two readings of the server's clock
KEPT = 8  # readings; the one with the shortest way is the most exact
POSITIONS = 64  # musical positions that wait to be audible; a desk in motion makes many
SHORT_S = 0.02  # sleeping is exact to this; longer waits are divided, so that a new tempo counts at once


class Bar(NamedTuple):
    """A bar line of a station: its beat, the number of the bar behind it, and the beats of each bar from there on."""

    line: int
    number: int
    beats: int


class BeatClock:
    """Beats of a station: ``now`` gives the musical position, ``clock`` the audible sample.

    The server sends a position before it is audible, so each one counts from its own sample on.

    Args:
        radio: connection to the station.
    """

    def __init__(self, radio: Radio) -> None:
        self._radio = radio
        self._readings: list[tuple[float, float]] = []  # round trip, offset of the sample clock: seconds
        self._positions: deque[protocol.Now] = deque(maxlen=POSITIONS)

    def hear(self, now: protocol.Now) -> None:
        """Take a musical position."""
        if self._positions and now.sample_pos < self._positions[-1].sample_pos:
            self._positions.clear()  # another clock: the server was restarted
        self._positions.append(now)

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
        """Audible music of the station."""
        now = self._audible()
        return self._radio.state if now is None else now.state

    @property
    def bpm(self) -> float | None:
        """Tempo in beats per minute; None if the station has none."""
        return self.state.bpm

    @property
    def playing(self) -> bool:
        """Whether the station has a beat, plays, and its position is known."""
        return bool(self._positions) and bool(self._readings) and bool(self.bpm) and not self.state.paused

    @property
    def bar(self) -> Bar:
        """The last bar line before the audible position, in the station's metre at present."""
        now = self._audible()
        if now is None:
            return Bar(0, 0, self._radio.state.beats_per_bar)
        return Bar(round(now.beat - now.bar_beat), now.bar, now.state.beats_per_bar)

    def beat(self, at: float | None = None) -> float | None:
        """Audible beat since the station began.

        Args:
            at: time of ``time.monotonic()``; None: now.
        """
        now = self._audible()
        if not self.playing or now is None or not now.state.bpm:
            return None
        return now.beat + (self._second(at) - now.sample_pos / protocol.SAMPLE_RATE) * now.state.bpm / 60

    def _second(self, at: float | None = None) -> float:
        """The audible second of the station's clock."""
        return (time.monotonic() if at is None else at) + min(self._readings)[1]

    def _audible(self) -> protocol.Now | None:
        """The newest position that is audible. The older ones are dropped."""
        if not self._positions:
            return None
        if self._readings:
            audible = self._second() * protocol.SAMPLE_RATE
            while len(self._positions) > 1 and self._positions[1].sample_pos <= audible:
                self._positions.popleft()
        return self._positions[0]

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
