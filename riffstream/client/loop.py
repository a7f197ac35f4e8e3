"""An event loop in a separate thread, for callers without one.

Threading model
  Loop thread   runs every coroutine, also between two calls of :meth:`LoopThread.run`.
  Any thread    run(), one call at a time; leaving the ``with`` block joins the thread within ``JOIN_S``.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Coroutine
from typing import Any, Final, Self, TypeVar

__all__ = ["LoopThread"]

JOIN_S: Final = 5.0
LOOK_S: Final = 0.2  # longest delay of Ctrl-C on systems with uninterruptible waits (Windows)

T = TypeVar("T")


class LoopThread:
    """Event loop in a daemon thread, which runs during the ``with`` block."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._main, name="riffstream-client", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed already
            self._loop.call_soon_threadsafe(self._stop.set)
        if threading.current_thread() is not self._thread:
            self._thread.join(JOIN_S)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop and return its result. An interrupted wait (Ctrl-C) cancels it."""
        if threading.current_thread() is self._thread:  # the garbage collector ends a caller in our own thread
            coroutine.close()
            raise RuntimeError("the event loop's own thread cannot wait for it")
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            while concurrent.futures.wait([future], LOOK_S).not_done:
                pass
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _main(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._ready.set()
        await self._stop.wait()
