"""The sessions of a station's listeners: a listener that lost its connection comes back without a gap.

Threading model: everything runs on the event loop.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

__all__ = ["SESSION_S", "Sessions"]

SESSION_S = 60.0
SESSIONS = 20_000


class Sessions:
    """Names of connections, and the fan-out that each was on.

    A session holds the number of its fan-out and not the fan-out, so that it keeps no audio in memory. It is forgotten
    ``kept_s`` after its connection has left.

    Args:
        kept_s: how long a session can be resumed after its connection has left.
        most: sessions without a connection that are kept; one more drops the oldest.
        clock: monotonic seconds.
    """

    def __init__(
        self, kept_s: float = SESSION_S, most: int = SESSIONS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.kept_s, self.most = kept_s, most
        self._clock = clock
        self._connected: dict[str, tuple[int, Callable[[], None]]] = {}
        self._left: dict[str, tuple[int, float]] = {}  # in the order of leaving

    def __len__(self) -> int:
        return len(self._connected) + len(self._left)

    def open(self, fanout: int, disconnect: Callable[[], None]) -> str:
        """A fresh session.

        Args:
            fanout: number of the connection's fan-out.
            disconnect: ends the connection at once and gives back its place; called where another connection resumes
                the session first.
        """
        self.expire()
        name = secrets.token_urlsafe(12)
        self._connected[name] = (fanout, disconnect)
        return name

    def leave(self, name: str) -> None:
        """The connection of a session has ended. Harmless when repeated."""
        if (found := self._connected.pop(name, None)) is not None:
            self._left[name] = (found[0], self._clock())
            if len(self._left) > self.most:
                del self._left[next(iter(self._left))]

    def take_over(self, name: str) -> None:
        """End the connection of a session whose client is back on a new one: the server may not have noticed yet that
        the old one is dead, and it would hold a second place."""
        if (found := self._connected.get(name)) is not None:
            self.leave(name)
            found[1]()

    def resume(self, name: str, fanout: int) -> bool:
        """Whether a session that is not in use was on this fan-out a short while ago. It cannot be resumed twice."""
        self.expire()
        found = self._left.pop(name, None)
        return found is not None and found[0] == fanout

    def expire(self) -> None:
        """Forget the sessions that were left too long ago."""
        now = self._clock()
        while self._left:
            name, (_, left_at) = next(iter(self._left.items()))
            if now - left_at < self.kept_s:
                break
            del self._left[name]
