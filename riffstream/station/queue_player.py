"""Plays a station's queue: requests each item so early that it begins at its bar line.

Threading model: as :mod:`riffstream.station.station`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import UNSET

from riffstream import protocol
from riffstream.protocol import Event, QueueItem
from riffstream.ranges import RANGES
from riffstream.station.prompt_queue import PromptQueue
from riffstream.station.timeline import Timeline

__all__ = ["QueuePlayer"]

log: Final = logging.getLogger(__name__)


class QueuePlayer:
    """The link between a queue and a timeline.

    Args:
        station: name of the station.
        queue: its queue.
        tell: function that receives the messages about it.
        clock: monotonic clock, seconds.
    """

    def __init__(
        self,
        station: str,
        queue: PromptQueue,
        tell: Callable[[protocol.QueueState | Event], None],
        clock: Callable[[], float],
    ) -> None:
        self._station = station
        self._queue = queue
        self._tell = tell
        self._clock = clock

    def restore(self, kept: dict[str, Any] | None) -> None:
        """Continue a queue of :meth:`PromptQueue.to_dict`, if there is one."""
        try:
            if kept is not None:
                self._queue.restore(kept)
        except msgspec.ValidationError as error:  # a saved state must not keep a station from its music
            log.warning("station %s: its saved queue cannot be read: %s", self._station, error)

    def announce(self) -> None:
        """Tell everybody the queue."""
        self._tell(protocol.QueueState(queue=self._queue.shown()))

    def step(self, timeline: Timeline) -> None:
        """Request the next item if it is due. Call it after each committed block; without items it costs nothing."""
        if not self._queue.active or timeline.paused:
            return
        playout = timeline.playout
        if self._queue.over(playout.beat(playout.committed)):
            self.announce()
            return
        item = self._queue.due(timeline.next_bar())
        if item is None:
            return
        try:
            self._request(timeline, item)
        except Exception:  # an internal error: the music and the rest of the queue continue
            log.exception("station %s: an item of the queue failed", self._station)
            self._queue.failed(item)
            self._tell(Event(kind="queue", reason="an internal error; see the server's log"))
        self.announce()

    def _request(self, timeline: Timeline, item: QueueItem) -> None:
        def reply(message: protocol.ServerMessage) -> None:
            if isinstance(message, protocol.Rejected):
                log.warning("station %s: an item of the queue was left out: %s", self._station, message.message)
                self._queue.failed(item)
                self._tell(Event(kind="queue", reason=message.message))
                self.announce()
            elif isinstance(message, protocol.Scheduled | protocol.Applied):
                beat = timeline.playout.beat(message.audible_at + timeline.playout.fade)
                line = timeline.playout.bars(beat).next(beat - 0.5)
                self._queue.begins(item, line, timeline.playout.bars(line).beats(line))
                if isinstance(message, protocol.Applied):
                    self.announce()

        state = timeline.target()
        bar_s = state.beats_per_bar * 60 / (item.bpm or state.bpm or 120.0)
        steer = protocol.Steer(
            id=f"queue:{item.id}",
            prompts=item.prompts,
            bpm=UNSET if item.bpm is None else item.bpm,
            at="bar",
            ramp_s=min(item.ramp_bars * bar_s, RANGES["ramp_s"].high),
        )
        timeline.steer(steer, reply, self._clock())
