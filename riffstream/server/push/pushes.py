"""All pushes of a server.

Threading model: everything runs on the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping

from riffstream.config import Config
from riffstream.server.push.push import Push
from riffstream.server.registry import Broadcasts

__all__ = ["Pushes"]


class Pushes(Mapping[str, Push]):
    """The configured pushes by name; each runs in a task of its own.

    Args:
        config: the whole configuration.
        broadcasts: the stations' broadcasts.
    """

    def __init__(self, config: Config, broadcasts: Broadcasts) -> None:
        self._pushes = {name: Push(name, each, config, broadcasts) for name, each in config.push.items()}
        self._tasks: list[asyncio.Task[None]] = []

    def __getitem__(self, name: str) -> Push:
        return self._pushes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._pushes)

    def __len__(self) -> int:
        return len(self._pushes)

    def start(self) -> None:
        """Start to connect."""
        self._tasks = [asyncio.create_task(push.run(), name=f"push-{name}") for name, push in self.items()]

    async def stop(self) -> None:
        """End all connections. Idempotent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
