"""Lag of the event loop, which shows whether something blocks it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

__all__ = ["LagMeter"]

PERIOD_S = 0.05


class LagMeter:
    """Meter of the event loop's lag: it sleeps 50 ms repeatedly and records the delay of each wake-up.

    Args:
        window_s: time span of ``p95_ms`` and ``max_ms``, seconds.
        observe: called with each lag, seconds.
    """

    def __init__(self, window_s: float = 60.0, observe: Callable[[float], object] | None = None) -> None:
        self._observe = observe
        self._seen: deque[float] = deque(maxlen=max(1, int(window_s / PERIOD_S)))
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin measuring on the running loop."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="loop-lag")

    async def stop(self) -> None:
        """Stop measuring; the results remain available."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(PERIOD_S)
            late_s = max(0.0, time.monotonic() - before - PERIOD_S)
            self._seen.append(late_s * 1000)
            if self._observe is not None:
                self._observe(late_s)

    @property
    def p95_ms(self) -> float:
        """95th percentile of the last minute's lag, in milliseconds."""
        ordered = sorted(self._seen)
        return ordered[int(len(ordered) * 0.95)] if ordered else 0.0

    @property
    def max_ms(self) -> float:
        """Worst lag of the last minute, in milliseconds."""
        return max(self._seen, default=0.0)
