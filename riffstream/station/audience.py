"""Listeners of a station, and subscribers to its messages. Event loop only."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from riffstream.protocol import Event, Now, QueueState, RequestsState

__all__ = ["Audience", "Lease", "Sink"]

log: Final = logging.getLogger(__name__)
Sink = Callable[[Now | Event | QueueState | RequestsState], None]


class Lease:
    """A counted listener. Call ``close()`` when it leaves; idempotent."""

    def __init__(self, leave: Callable[[], None]) -> None:
        self._leave: Callable[[], None] | None = leave

    def close(self) -> None:
        """Stop counting the listener."""
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Audience:
    """Counter of listeners by kind, and list of subscribers to messages.

    Args:
        station: name of the station, for logs.
        clock: monotonic clock, seconds.

    Attributes:
        left_at: time at which the last listener left or the station was opened.
    """

    def __init__(self, station: str, clock: Callable[[], float]) -> None:
        self.station = station
        self.left_at = clock()
        self._clock = clock
        self._kinds: dict[str, int] = {}
        self._sinks: dict[int, Sink] = {}
        self._next_sink = 0
        self._moment: tuple[object, ...] = ()
        self._shown: tuple[object, ...] = ()

    @property
    def listeners(self) -> int:
        """Listeners of every kind."""
        return sum(self._kinds.values())

    @property
    def by_kind(self) -> dict[str, int]:
        """Number of listeners of each kind."""
        return dict(self._kinds)

    @property
    def subscribers(self) -> int:
        """Number of subscribers."""
        return len(self._sinks)

    def join(self, kind: str) -> Lease:
        """Count a listener."""
        self._kinds[kind] = self._kinds.get(kind, 0) + 1

        def leave() -> None:
            self._kinds[kind] -= 1
            if not self._kinds[kind]:
                del self._kinds[kind]
            self.left_at = self._clock()

        return Lease(leave)

    def subscribe(self, sink: Sink) -> Callable[[], None]:
        """Call ``sink`` with every message. Returns a function that unsubscribes it."""
        key, self._next_sink = self._next_sink, self._next_sink + 1
        self._sinks[key] = sink
        return lambda: self._sinks.pop(key, None) and None

    def tell(self, message: Now | Event | QueueState | RequestsState) -> None:
        """Call every subscriber."""
        for sink in list(self._sinks.values()):
            try:
                sink(message)
            except Exception:  # an error of one subscriber must not affect the others
                log.exception("station %s: a subscriber failed", self.station)

    def show(self, moment: tuple[object, ...], now: Callable[[], Now]) -> None:
        """Send a ``now`` message to every subscriber if its revision, clip, state, chord, bar of a
        section or accepted changes differ from the last one sent.

        Args:
            moment: values that determine the message; if they are unchanged, ``now`` is not called. Empty: unknown.
            now: function that makes the message.
        """
        if moment and moment == self._moment:
            return
        self._moment = moment
        message = now()
        steers = tuple(each for each in message.coming if each.by == "steer")
        shown = (message.rev, message.clip, message.state, message.chord, message.section, message.section_bar, steers)
        if shown != self._shown:
            self._shown = shown
            self.tell(message)

    def forget_shown(self) -> None:
        """Make the next :meth:`show` send its message even if nothing has changed."""
        self._moment = self._shown = ()

    def dismiss(self) -> None:
        """Remove all subscribers."""
        self._sinks.clear()
