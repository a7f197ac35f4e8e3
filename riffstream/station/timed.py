"""Steers that name their bar: they wait here until their first clip must be begun.

Until then other changes play as if they were not there. A waiting steer merges into the state when it is due.

Threading model
  One thread makes every call (``timeline.py``'s). Replies are called on it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from riffstream import protocol
from riffstream.journey.prompts import PromptPart
from riffstream.protocol import BARS_AHEAD, SAMPLE_RATE, ProtocolError
from riffstream.station.playout import Playout
from riffstream.station.score import Change

__all__ = ["Timed"]

log: Final = logging.getLogger(__name__)

Answer = Callable[[protocol.ServerMessage], None]

MOST: Final = 16  # steers that wait for their bars at once
SPARE_S: Final = 1.5  # time besides twice the expected rendering time


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A steer that waits for its bar; ``change``: as if it were made at once, for estimates."""

    steer: protocol.Steer
    bar: int
    change: Change
    reply: Answer


class Timed:
    """The steers of a timeline that wait for their bars, earliest first.

    Args:
        playout: the playout, which knows the bars.
        wait_s: function that estimates the time to a change's first audio, seconds.
        merged: function that merges a steer at a station sample into the state; it may raise ProtocolError.
        accept: function that begins a change: its id, the change, "bar", its reply function, the time, its bar.

    Attributes:
        version: increases with every change of the list.
    """

    def __init__(
        self,
        playout: Playout,
        wait_s: Callable[[Change], float],
        merged: Callable[[protocol.Steer, int], Change],
        accept: Callable[[str, Change, str, Answer, float, int], None],
    ) -> None:
        self._playout = playout
        self._wait_s, self._merged, self._accept = wait_s, merged, accept
        self._waiting: list[_Waiting] = []
        self.version = 0

    def waits(self, steer: protocol.Steer, change: Change) -> int | None:
        """The bar for which a steer has to wait; None if it begins at once.

        Raises:
            ProtocolError: its bar is too far ahead, or too many steers wait.
        """
        if steer.bar is None or not self._far(steer.bar, change):
            return None
        playout = self._playout
        most = playout.reaches(playout.mixer.earliest, 0) + BARS_AHEAD
        if steer.bar > most:
            raise ProtocolError("bad_request", f"bar is {steer.bar}; allowed: up to {most} now", field="bar")
        if len(self._waiting) >= MOST:
            text = f"{MOST} changes wait for their bars already, as many as may"
            raise ProtocolError("busy", text, field="bar", retry_after_ms=2000)
        return steer.bar

    def add(self, steer: protocol.Steer, bar: int, change: Change, reply: Answer) -> None:
        """Let a steer wait for its bar."""
        self._waiting.append(_Waiting(steer, bar, change, reply))
        self._waiting.sort(key=lambda each: each.bar)
        self.version += 1

    @property
    def steers(self) -> tuple[protocol.Steer, ...]:
        """The steers that wait, for :meth:`restore`."""
        return tuple(each.steer for each in self._waiting)

    def restore(self, steers: Iterable[protocol.Steer], station: str) -> None:
        """Let the steers of an earlier process wait again. Their senders are gone: what fails is logged."""

        def reply(message: protocol.ServerMessage) -> None:
            if isinstance(message, protocol.Rejected):
                log.warning("station %s: a change that waited for its bar is left out: %s", station, message.message)

        for steer in steers:
            try:
                change = self._merged(steer, self._playout.mixer.earliest)
            except ProtocolError as error:  # the model or the configuration has changed
                reply(error.reply(steer.id))
            else:
                self.add(steer, steer.bar or 0, change, reply)

    def pos(self, bar: int) -> int:
        """Station sample at which a crossfade to the line of ``bar`` begins."""
        playout = self._playout
        return max(playout.mixer.earliest, round(playout.where(playout.line(bar))) - playout.fade)

    def _far(self, bar: int, change: Change) -> bool:
        """Whether a change need not begin yet to reach the line of ``bar``."""
        playout = self._playout
        if playout.lead is None or playout.frozen is not None:
            return playout.line(bar) > playout.beat(playout.mixer.earliest) + 1e-6
        need_s = 2 * self._wait_s(change) + SPARE_S
        return playout.where(playout.line(bar)) - playout.mixer.earliest > need_s * SAMPLE_RATE

    def begin(self, now: float) -> None:
        """Begin the steers whose bars are near."""
        while self._waiting and not self._far(self._waiting[0].bar, self._waiting[0].change):
            self.version += 1
            due = self._waiting.pop(0)
            try:
                change = self._merged(due.steer, self.pos(due.bar))
            except ProtocolError as error:  # the station has changed meanwhile
                due.reply(error.reply(due.steer.id))
            else:
                self._accept(due.steer.id, change, "bar", due.reply, now, due.bar)

    def coming(self) -> Iterator[tuple[int, tuple[PromptPart, ...]]]:
        """Sample and prompts of each waiting change."""
        if self._playout.lead is None or self._playout.frozen is not None:
            return
        for each in self._waiting:
            yield self.pos(each.bar), each.change.score.goal(each.change.index or 0).prompts
