"""The timeout of a connection's first request (slow headers), which aiohttp does not have.

Threading model: everything runs on the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web

__all__ = ["HEADER_TIMEOUT", "HeaderTimeout"]

LOOK_S = 0.02


class HeaderTimeout:
    """Timeout for each connection's first complete request. Later aiohttp's keep-alive timeout applies.

    Args:
        patience_s: longest time until the first request is complete, seconds.
        most: maximum number of connections without a request; one more closes the oldest.

    Attributes:
        turned_away: number of connections closed so far.
    """

    def __init__(self, patience_s: float, most: int) -> None:
        self.patience_s, self.most = patience_s, most
        self.turned_away = 0
        self._waiting: dict[asyncio.BaseProtocol, asyncio.TimerHandle] = {}

    def guard(self, make: Callable[[], asyncio.BaseProtocol]) -> Callable[[], asyncio.BaseProtocol]:
        """Wrap a protocol factory so that its connections have the timeout."""

        def accept() -> asyncio.BaseProtocol:
            handler = make()
            if len(self._waiting) >= self.most:
                self._turn_away(next(iter(self._waiting)))
            loop = asyncio.get_running_loop()
            self._waiting[handler] = loop.call_later(self.patience_s, self._turn_away, handler)
            return handler

        return accept

    def stop(self, request: web.Request) -> None:
        """Stop the timeout of a connection whose first request is complete."""
        if (timer := self._waiting.pop(request.protocol, None)) is not None:
            timer.cancel()

    async def wait_for_requests(self, longest_s: float) -> None:
        """Wait until each open connection has sent its first request, for at most ``longest_s``."""
        loop = asyncio.get_running_loop()
        end = loop.time() + longest_s
        while loop.time() < end and any(getattr(each, "transport", None) is not None for each in self._waiting):
            await asyncio.sleep(LOOK_S)

    def _turn_away(self, handler: asyncio.BaseProtocol) -> None:
        if (timer := self._waiting.pop(handler, None)) is not None:
            timer.cancel()
        transport = getattr(handler, "transport", None)
        if transport is not None:  # otherwise it is closed already
            self.turned_away += 1
            transport.abort()


HEADER_TIMEOUT = web.AppKey("riffstream-header-timeout", HeaderTimeout)
