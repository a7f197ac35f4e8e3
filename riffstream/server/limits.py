"""Limits that prevent one client from affecting the others."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable

from riffstream.server.proxies import INSIDE

__all__ = ["AddressBuckets", "ConnectionCounter", "RequestGates", "TokenBucket"]

ADDRESSES = 10_000
VOTE_INTERVAL_S, VOTE_BURST = 1.0, 10


class TokenBucket:
    """Rate limit: ``burst`` actions at once, and one more every ``interval_s`` seconds.

    Args:
        interval_s: seconds between actions in the long run; 0 allows everything.
        burst: actions that may follow each other at once, 1 or more.
        clock: a monotonic clock in seconds.
    """

    def __init__(self, interval_s: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.interval_s = interval_s
        self.burst = max(1, burst)
        self._clock = clock
        self._tokens = float(self.burst)
        self._at = clock()

    def _refill(self) -> None:
        now = self._clock()
        # A clock that jumps back (a suspended machine, a test) must not take tokens away.
        passed = max(0.0, now - self._at)
        self._at = now
        if self.interval_s <= 0:
            self._tokens = float(self.burst)
        else:
            self._tokens = min(float(self.burst), self._tokens + passed / self.interval_s)

    def take(self) -> bool:
        """Use one action; False if none is left."""
        self._refill()
        if self._tokens < 1.0 - 1e-9:  # tolerance for rounding errors
            return False
        self._tokens = max(0.0, self._tokens - 1.0)
        return True

    def wait_s(self) -> float:
        """Seconds until ``take`` succeeds; 0 if it would succeed now."""
        self._refill()
        return max(0.0, 1.0 - self._tokens) * self.interval_s


class AddressBuckets:
    """A :class:`TokenBucket` for each address; the last :data:`ADDRESSES` addresses are remembered.

    Args:
        interval_s, burst: of each bucket.
    """

    def __init__(self, interval_s: float, burst: int) -> None:
        self.interval_s, self.burst = interval_s, burst
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def wait_s(self, address: str) -> float:
        """Use one action of an address and return 0, or return the seconds until there is one."""
        bucket = self._buckets.get(address)
        if bucket is None:
            bucket = self._buckets[address] = TokenBucket(self.interval_s, self.burst)
        self._buckets.move_to_end(address)
        if len(self._buckets) > ADDRESSES:
            self._buckets.popitem(last=False)
        return 0.0 if bucket.take() else max(0.001, bucket.wait_s())


class RequestGates:
    """Rates of what listeners may do with requests, for each address.

    Args:
        interval_s: time between suggestions, seconds.
        plays: interval in seconds and burst of requests that are played at once.

    Attributes:
        suggestions, votes, plays: the rates; reactions count as votes.
    """

    def __init__(self, interval_s: float, plays: tuple[float, int]) -> None:
        self.suggestions = AddressBuckets(interval_s, 1)
        self.votes = AddressBuckets(VOTE_INTERVAL_S, VOTE_BURST)
        self.plays = AddressBuckets(*plays)


class ConnectionCounter:
    """Counter of open connections, in total and per address.

    Args:
        total: maximum number of connections.
        per_address: maximum number of connections from one address.
    """

    def __init__(self, total: int, per_address: int) -> None:
        self.total = total
        self.per_address = per_address
        self._by_address: Counter[str] = Counter()

    @property
    def open(self) -> int:
        """Number of open connections."""
        return self._by_address.total()

    def refusal(self, address: str) -> str | None:
        """Reason to refuse one more connection from ``address``; None if there is a place."""
        if self.open >= self.total:
            return f"the server is full ({self.total} connections)"
        if self._by_address[address] >= self.per_address and address != INSIDE:
            return f"too many connections from {address} ({self.per_address} are allowed)"
        return None

    def enter(self, address: str) -> None:
        """Count a new connection."""
        self._by_address[address] += 1

    def leave(self, address: str) -> None:
        """Count it out."""
        self._by_address[address] -= 1
        if self._by_address[address] <= 0:
            del self._by_address[address]
