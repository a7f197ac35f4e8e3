"""Changes on their way to be heard, and those who wait for them.

A change that was accepted is *pending* while its take is rendered. Where steers keep coming, the newest is a *wish*: it
waits until the pending one is scheduled, so that something is heard at all.

Threading model
  One thread makes every call (``timeline.py``'s). Replies are called on it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from riffstream import protocol
from riffstream.station.score import Change
from riffstream.station.take import Take

__all__ = ["Pending", "Reply", "Requests", "Wish", "merged"]

Reply = Callable[[protocol.ServerMessage], None]


class Requests:
    """Those who wait to hear one change, in the order in which they came; each is answered once."""

    def __init__(self) -> None:
        self._waiting: list[tuple[str, int, Reply]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def newest(self) -> str:
        """Ident of the last one; "" where nobody waits."""
        return self._waiting[-1][0] if self._waiting else ""

    def add(self, ident: str, rev: int, reply: Reply) -> None:
        """Someone waits to hear revision ``rev``."""
        self._waiting.append((ident, rev, reply))

    def applied(self, pos: int) -> None:
        """It is heard from a sample on."""
        for ident, rev, reply in self._answered():
            reply(protocol.Applied(id=ident, rev=rev, audible_at=pos))

    def superseded(self, by: str) -> None:
        """A later change took its place."""
        for ident, _, reply in self._answered():
            reply(protocol.Superseded(id=ident, by=by))

    def rejected(self, code: protocol.Code, message: str) -> None:
        """It cannot be rendered."""
        for ident, _, reply in self._answered():
            reply(protocol.Rejected(id=ident, code=code, message=message))

    def _answered(self) -> list[tuple[str, int, Reply]]:
        answered, self._waiting = self._waiting, []
        return answered


@dataclass(slots=True)
class Pending:
    """A change whose take is being rendered and not scheduled yet.

    Attributes:
        at: where it is to be spliced: asap, beat, bar, clip, or end (of the take in the lead).
        since: when the first change that it contains was asked for.
        deaths: how many generators in a row ended while they worked on it.
    """

    take: Take
    change: Change
    at: str
    since: float
    requests: Requests = field(default_factory=Requests)
    deaths: int = 0


@dataclass(slots=True)
class Wish:
    """A change that waits until the pending one is scheduled. Attributes as of :class:`Pending`."""

    change: Change
    at: str
    rev: int
    since: float
    requests: Requests = field(default_factory=Requests)


def merged(change: Change, before: Change) -> Change:
    """A change on top of one that was not heard yet: where either needs new clips, new clips."""
    if change.index is None and (before.kind == "clip" or before.index is not None):
        return Change(change.score, "clip", before.index, max(change.fade_s, before.fade_s))
    return change
