"""A value that takes long to make, made once at a time for all who ask.

Threading model: the event loop makes every call; the value is made in a thread.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

__all__ = ["Cached"]


class Cached:
    """Bytes that are made again when they are asked for and older than ``fresh_s``.

    The first who ask wait for the same making. Later, the one that finds the value too old waits for a new one, and
    those who ask meanwhile get the old one.

    Args:
        fresh_s: age in seconds up to which the value is good.
        clock: monotonic seconds.
    """

    def __init__(self, fresh_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.fresh_s = fresh_s
        self._clock = clock
        self._value: bytes | None = None
        self._made_at = 0.0
        self._making: asyncio.Task[bytes] | None = None

    async def get(self, make: Callable[[], bytes]) -> bytes:
        """The value; ``make`` runs in a thread. Raises what ``make`` raises, and the next call tries again."""
        old = self._value
        if self._making is not None:
            return old if old is not None else await asyncio.shield(self._making)
        if old is not None and self._clock() - self._made_at <= self.fresh_s:
            return old
        making = self._making = asyncio.create_task(self._make(make), name="make-cached")
        making.add_done_callback(lambda done: done.cancelled() or done.exception())  # those who asked may have gone
        return await asyncio.shield(making)

    async def _make(self, make: Callable[[], bytes]) -> bytes:
        try:
            self._value = await asyncio.to_thread(make)
            self._made_at = self._clock()
            return self._value
        finally:
            self._making = None
