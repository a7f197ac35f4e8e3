"""Steers of one connection on their way through the rules for prompts, in order.

Threading model: everything runs on the event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from riffstream import protocol
from riffstream.server.moderation import Moderation, Texts, texts_of, with_texts
from riffstream.server.steering import desk_only

__all__ = ["MOST_WAITING", "PromptQueue"]

MOST_WAITING: Final = 8  # changes of one connection that wait


class PromptQueue:
    """Rules for the prompts of one connection. Without a hook, a steer passes or is refused at once.

    With a hook, steers wait for its answer one after another; a steer without texts waits behind them, because both may
    change the same field. Changes of the desk alone pass at once.

    Args:
        rules: the server's rules.
        station, way: for the hook.
        apply: function that passes a steer on.
        tell: function that answers the connection.
    """

    def __init__(
        self,
        rules: Moderation,
        *,
        station: str,
        way: str,
        apply: Callable[[protocol.Steer], None],
        tell: Callable[[protocol.Rejected], None],
    ) -> None:
        self._rules = rules
        self._station, self._way = station, way
        self._apply, self._tell = apply, tell
        self._waiting: deque[tuple[protocol.Steer, Texts | None]] = deque()
        self._task: asyncio.Task[None] | None = None

    def put(self, steer: protocol.Steer) -> None:
        """Pass a steer on, now or after the hook's decision, or answer with ``rejected``."""
        texts = texts_of(steer)
        try:
            if texts is not None:
                self._rules.check(texts)
            if desk_only(steer) or (self._task is None and (texts is None or not self._rules.asks)):
                self._apply(steer)
                return
            if len(self._waiting) >= MOST_WAITING:
                raise protocol.ProtocolError("rate_limited", "too many prompts wait to be checked", retry_after_ms=2000)
        except protocol.ProtocolError as error:
            self._tell(error.reply(steer.id))
            return
        self._waiting.append((steer, texts))
        if self._task is None:
            self._task = asyncio.create_task(self._work(), name="moderate")

    async def _work(self) -> None:
        try:
            while self._waiting:
                steer, texts = self._waiting.popleft()
                try:
                    if texts is not None:
                        new = await self._rules.decide(texts, station=self._station, way=self._way)
                        steer = with_texts(steer, new) if new != texts else steer
                    self._apply(steer)
                except protocol.ProtocolError as error:
                    self._tell(error.reply(steer.id))
        finally:
            self._task = None

    def close(self) -> None:
        """Drop the steers that wait. Idempotent."""
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()
