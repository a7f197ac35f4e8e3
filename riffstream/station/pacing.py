"""Real-time control of a timeline: commits each block when it is due, and pauses generation without listeners.

Threading model
  Event loop   makes every call and receives every callback. Nothing here blocks.
  stop()       idempotent; no callback after it.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from riffstream.config import TimelineSettings
from riffstream.generator.messages import ToGenerator
from riffstream.protocol import SAMPLE_RATE, Event
from riffstream.station.audience import Audience
from riffstream.station.block import Block
from riffstream.station.sample_clock import SampleClock
from riffstream.station.timeline import Timeline

__all__ = ["Pacer", "Send"]

log = logging.getLogger(__name__)

SETTLE_S: Final = 30.0  # longest time that a change keeps a station without listeners awake
FAULT_S: Final = 0.5  # pause after a failed step
FAULTS: Final = 8  # failed steps within FAULTS_S or in a row until the timeline starts over
FAULTS_S: Final = 10.0
Send = Callable[[Iterable[ToGenerator]], None]


class Pacer:
    """Real-time driver of one station's timeline.

    Args:
        name: name of the station, for logs.
        settings: settings of the timeline.
        audience: listeners that keep the station awake, and subscribers to its messages.
        clock: monotonic clock, seconds.
        send: function that sends messages to the generator.
        out: function that receives each committed block.
        start: sample clock at the first block.

    Attributes:
        timeline: the timeline; None until the first generator is ready.
        asleep: True while generation is paused without listeners.
        faults: number of failed steps.
    """

    def __init__(
        self,
        name: str,
        settings: TimelineSettings,
        audience: Audience,
        clock: Callable[[], float],
        *,
        send: Send,
        out: Callable[[Block], None],
        start: int = 0,
    ) -> None:
        self.name = name
        self.timeline: Timeline | None = None
        self.asleep = False
        self.faults = 0
        self._settings = settings
        self._audience = audience
        self._clock = clock
        self._send = send
        self._out = out
        self._loop = asyncio.get_running_loop()
        self._frame = settings.frame_ms * SAMPLE_RATE // 1000
        lead = (settings.send_lead_ms + settings.client_buffer_ms) * SAMPLE_RATE // 1000
        self._samples = SampleClock(clock, lead, start)
        self._start = start
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False
        self._changed_at = -math.inf
        self._recent: deque[float] = deque(maxlen=FAULTS)  # when steps failed
        self._jumps = 0

    @property
    def committed(self) -> int:
        """End of the committed audio on the sample clock."""
        return self.timeline.playout.committed if self.timeline is not None else self._start

    @property
    def sample_pos(self) -> int:
        """Sample that is audible now."""
        return min(max(0, self._samples.live), self.committed)

    @property
    def clock_jumps(self) -> int:
        """Number of clock jumps."""
        return self._samples.jumps

    def changed(self) -> None:
        """Stay awake until a new change is audible."""
        self._changed_at = self._clock()
        self.wake()
        self.drive()

    def wake(self) -> None:
        """Resume generation for a listener."""
        if self.asleep:
            self.asleep = False
            self._samples.start()
            self.drive()

    def drive(self) -> None:
        """Commit the due blocks, request missing clips, and schedule the next call for the next block."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._stopped or self.timeline is None:
            return
        wait = FAULT_S
        try:
            wait = self._advance(self.timeline)
        except Exception:  # without further steps the station would stay silent
            self.failed("a step failed; trying again")
        self._timer = self._loop.call_later(wait, self.drive)

    def failed(self, what: str) -> None:
        """Log the current exception of a step or a report. After repeated failures the timeline starts over."""
        self.faults += 1
        log.exception("station %s: %s", self.name, what)
        now = self._clock()
        self._recent.append(now)
        if self.timeline is None or len(self._recent) < FAULTS or now - self._recent[0] > FAULTS_S:
            return
        self._recent.clear()
        log.error("station %s: %d faults in a row; it starts over", self.name, FAULTS)
        try:
            self.timeline.start_over()
        except Exception:  # an error here must not end the timer of the next attempt
            log.exception("station %s: it cannot start over", self.name)

    def stop(self) -> None:
        """Drive no more."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()

    def _advance(self, timeline: Timeline) -> float:
        """Do one step; return the seconds until the next."""
        self._send(timeline.plan(self._clock()))
        if timeline.playout.lead is not None and not self.asleep:
            self._samples.start()
            self._commit(timeline)
            self._send(timeline.plan(self._clock()))
            self._doze(timeline)
        self._announce(timeline)
        return self._samples.wait_s(timeline.playout.committed, self._frame) if self._samples.running else 0.25

    def _commit(self, timeline: Timeline) -> None:
        due = self._samples.due(timeline.playout.committed)
        if self._samples.jumps != self._jumps:
            self._jumps = self._samples.jumps
            timeline.playout.events.append(Event(kind="clock_jump", sample_pos=timeline.playout.committed))
        while due >= self._frame:
            block = timeline.commit(self._frame)
            if block is None:
                return
            due -= self._frame
            try:
                self._out(block)
            except Exception:  # not an error of the timeline
                self.faults += 1
                log.exception("station %s: a block was lost", self.name)

    def _doze(self, timeline: Timeline) -> None:
        idle = self._settings.idle_s
        if not idle or self._audience.listeners or self._clock() - self._audience.left_at < idle:
            return
        if self._changing(timeline) and self._clock() - self._changed_at < SETTLE_S:
            return
        self.asleep = True
        self._samples.stop()

    def _changing(self, timeline: Timeline) -> bool:
        """Whether a change is not audible yet, or became audible less than a burst ago.

        A listener that joins later hears nothing from before the change.
        """
        burst = self._settings.burst_ms * SAMPLE_RATE // 1000
        changed_at = max(timeline.playout.mixer.current.pos, timeline.playout.desk.changed_at)
        return timeline.changing or self.sample_pos < changed_at + burst

    def _announce(self, timeline: Timeline) -> None:
        events, timeline.playout.events = timeline.playout.events, []
        for event in events:
            self._audience.tell(event)
        if self._audience.subscribers and timeline.playout.lead is not None:
            pos = self.sample_pos
            self._audience.show(timeline.moment(pos), lambda: timeline.now(pos))
