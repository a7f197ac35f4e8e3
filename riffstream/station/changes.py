"""Accepted changes that are not audible yet, and the requests that wait for them.

A change is *pending* while its take is rendered. A newer change is a *wish* until the pending one is scheduled, so that
continuous steering cannot postpone every change.

Threading model
  One thread makes every call (``timeline.py``'s). Replies are called on it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from riffstream import protocol
from riffstream.station.score import Change
from riffstream.station.take import Take

__all__ = ["Pending", "Reply", "Waiters", "Wish", "merged"]

Reply = Callable[[protocol.ServerMessage], None]


class Waiters:
    """Requests that wait for one change, in order of arrival. Each is answered once."""

    def __init__(self) -> None:
        self._waiting: list[tuple[str, int, Reply]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def newest(self) -> str:
        """Ident of the latest request; "" without any."""
        return self._waiting[-1][0] if self._waiting else ""

    def add(self, ident: str, rev: int, reply: Reply) -> None:
        """Add a request with its revision and its reply function."""
        self._waiting.append((ident, rev, reply))

    def applied(self, pos: int) -> None:
        """Answer all requests with ``applied`` at sample ``pos``."""
        for ident, rev, reply in self._answered():
            reply(protocol.Applied(id=ident, rev=rev, audible_at=pos))

    def superseded(self, by: str) -> None:
        """Answer all requests with ``superseded`` by the change ``by``."""
        for ident, _, reply in self._answered():
            reply(protocol.Superseded(id=ident, by=by))

    def rejected(self, code: protocol.Code, message: str) -> None:
        """Answer all requests with ``rejected``."""
        for ident, _, reply in self._answered():
            reply(protocol.Rejected(id=ident, code=code, message=message))

    def _answered(self) -> list[tuple[str, int, Reply]]:
        answered, self._waiting = self._waiting, []
        return answered


@dataclass(slots=True)
class Pending:
    """A change whose take is being rendered and is not scheduled yet.

    Attributes:
        take: the take that plays the change.
        change: the change.
        at: position of the splice: asap, beat, bar, clip, or end (of the lead).
        since: time of the first request in it.
        requests: requests that wait for it.
        deaths: number of consecutive generator processes that ended while rendering it.
    """

    take: Take
    change: Change
    at: str
    since: float
    requests: Waiters = field(default_factory=Waiters)
    deaths: int = 0


@dataclass(slots=True)
class Wish:
    """A change that waits until the pending one is scheduled. For the attributes see :class:`Pending`."""

    change: Change
    at: str
    rev: int
    since: float
    requests: Waiters = field(default_factory=Waiters)


def merged(change: Change, before: Change) -> Change:
    """Merge a change with an earlier one that is not audible yet. The result needs new clips if either does."""
    if change.index is None and (before.kind == "clip" or before.index is not None):
        return Change(change.score, "clip", before.index, max(change.fade_s, before.fade_s))
    return change
