"""Sessions of a station's listeners, which let a listener reconnect without a gap.

Threading model: everything runs on the event loop.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable

__all__ = ["SESSION_S", "Sessions", "epoch_of"]

SESSION_S = 60.0
SESSIONS = 20_000
SEPARATOR = "."  # between the epoch and the random part of a session's name


def epoch_of(session: str) -> str:
    """Epoch of the station in a session's name; "" without one."""
    return session.rpartition(SEPARATOR)[0]


class Sessions:
    """Table of sessions: name and fan-out of each connection.

    A session holds the number of its fan-out instead of a reference, so that it keeps no audio in memory. It expires
    ``kept_s`` after its connection has ended.

    Args:
        kept_s: time during which a session can be resumed after its connection has ended, seconds.
        most: maximum number of sessions without a connection; one more drops the oldest.
        clock: monotonic clock, seconds.
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

    def open(self, fanout: int, disconnect: Callable[[], None], epoch: str = "") -> str:
        """Open a session; return its name.

        Args:
            fanout: number of the connection's fan-out.
            epoch: epoch of the station, a part of the name. It identifies the audio for other servers.
            disconnect: ends the connection at once and frees its place; called if another connection resumes the
                session.
        """
        self.expire()
        name = f"{epoch}{SEPARATOR if epoch else ''}{secrets.token_urlsafe(12)}"
        self._connected[name] = (fanout, disconnect)
        return name

    def leave(self, name: str) -> None:
        """Record the end of a session's connection. Idempotent."""
        if (found := self._connected.pop(name, None)) is not None:
            self._left[name] = (found[0], self._clock())
            if len(self._left) > self.most:
                del self._left[next(iter(self._left))]

    def of(self, fanout: int) -> list[str]:
        """Names of the sessions on a fan-out that can be resumed."""
        self.expire()
        return [name for name, found in (*self._connected.items(), *self._left.items()) if found[0] == fanout]

    def adopt(self, names: Iterable[str], fanout: int) -> None:
        """Add sessions of an earlier process; they expire like those that end now."""
        for name in names:
            self._connected[name] = (fanout, _nothing)
            self.leave(name)

    def take_over(self, name: str) -> None:
        """End the old connection of a session whose client has reconnected.

        The server may not have detected yet that the old connection is dead, and it would occupy a second place.
        """
        if (found := self._connected.get(name)) is not None:
            self.leave(name)
            found[1]()

    def resume(self, name: str, fanout: int) -> bool:
        """Resume an unused session on its fan-out; False if it is unknown or expired. It cannot be resumed twice."""
        self.expire()
        found = self._left.pop(name, None)
        return found is not None and found[0] == fanout

    def expire(self) -> None:
        """Drop the expired sessions."""
        now = self._clock()
        while self._left:
            name, (_, left_at) = next(iter(self._left.items()))
            if now - left_at < self.kept_s:
                break
            del self._left[name]


def _nothing() -> None:
    """End of a connection that has ended already."""
