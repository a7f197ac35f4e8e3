"""Cache of one expensive value, computed once for all callers.

Threading model: the event loop makes every call; the value is computed in a thread.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

__all__ = ["Cached"]


class Cached:
    """Cached bytes that are computed again on the first call after ``fresh_s``.

    All first callers wait for the same computation. Later, the caller that finds an old value waits for the new one;
    other callers get the old value until then.

    Args:
        fresh_s: maximum age of the value, seconds.
        clock: monotonic clock, seconds.
    """

    def __init__(self, fresh_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.fresh_s = fresh_s
        self._clock = clock
        self._value: bytes | None = None
        self._made_at = 0.0
        self._making: asyncio.Task[bytes] | None = None

    async def get(self, make: Callable[[], bytes]) -> bytes:
        """Return the value; ``make`` computes it in a thread. Exceptions of ``make`` are raised and not cached."""
        old = self._value
        if self._making is not None:
            return old if old is not None else await asyncio.shield(self._making)
        if old is not None and self._clock() - self._made_at <= self.fresh_s:
            return old
        making = self._making = asyncio.create_task(self._make(make), name="make-cached")
        making.add_done_callback(lambda done: done.cancelled() or done.exception())  # the callers may have left
        return await asyncio.shield(making)

    async def _make(self, make: Callable[[], bytes]) -> bytes:
        try:
            self._value = await asyncio.to_thread(make)
            self._made_at = self._clock()
            return self._value
        finally:
            self._making = None
