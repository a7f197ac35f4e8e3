"""Every open broadcast: opened when a station is first asked for, swept, and ended in one place.

Threading model: everything runs on the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping

from riffstream.config import Config
from riffstream.server import logs
from riffstream.server.broadcast import FEED_IDLE_S, Broadcast
from riffstream.server.interfaces import Hub

__all__ = ["PRIVATE", "Broadcasts"]

PRIVATE = "private-"  # names of stations that a share link made
PRIVATE_IDLE_S = 600.0


class Broadcasts(Mapping[str, Broadcast]):
    """The broadcasts of the hub's stations, by name.

    A station ends in one order: nobody can join its broadcast any more, its connections get the reason, its feeds stop,
    and the hub closes it. Each end runs once, in a task of its own, which a cancelled request cannot stop half way.

    Args:
        config: the whole configuration.
        hub: the stations.
    """

    def __init__(self, config: Config, hub: Hub) -> None:
        self._config, self._hub = config, hub
        self._broadcasts: dict[str, Broadcast] = {}
        self._ends: dict[Broadcast, asyncio.Task[None]] = {}
        self._closed = False

    def __getitem__(self, name: str) -> Broadcast:
        """The broadcast of a station that is not ending, opened where there is none yet. Raises KeyError."""
        station = self._hub.stations[name]
        broadcast = self._broadcasts.get(name)
        if broadcast is not None and broadcast.station is not station:  # another station of the same name
            self._end(broadcast, "this station has ended")
            broadcast = None
        if broadcast is None:
            if self._closed:
                raise KeyError(name)
            broadcast = self._broadcasts[name] = Broadcast(station, self._config)
        if broadcast.ending:
            raise KeyError(name)
        return broadcast

    def __iter__(self) -> Iterator[str]:
        """Names of the stations that are not ending."""
        for name in tuple(self._hub.stations):
            broadcast = self._broadcasts.get(name)
            if broadcast is None or not broadcast.ending:
                yield name

    def __len__(self) -> int:
        return sum(1 for _ in self)

    async def end(self, name: str, reason: str) -> None:
        """Tell a station's connections, and close it; returns when that is done. Raises KeyError."""
        await asyncio.shield(self._end(self[name], reason))

    def _end(self, broadcast: Broadcast, reason: str) -> asyncio.Task[None]:
        if broadcast not in self._ends:
            broadcast.ending = True
            task = self._ends[broadcast] = asyncio.create_task(
                self._finish(broadcast, reason), name=f"end-{broadcast.station.name}"
            )
            task.add_done_callback(lambda done: self._ended(broadcast, done))
        return self._ends[broadcast]

    async def _finish(self, broadcast: Broadcast, reason: str) -> None:
        name = broadcast.station.name
        try:
            await broadcast.close(reason)
        finally:
            if self._hub.stations.get(name) is broadcast.station:  # else it was deleted meanwhile
                await self._hub.delete(name)

    def _ended(self, broadcast: Broadcast, task: asyncio.Task[None]) -> None:
        name = broadcast.station.name
        del self._ends[broadcast]
        if self._broadcasts.get(name) is broadcast:
            del self._broadcasts[name]
        if not task.cancelled() and (error := task.exception()) is not None:
            logs.event("a station did not end in good order", level=logging.ERROR, station=name, exc_info=error)

    async def tend(self) -> None:
        """Stop what nobody uses any more, until cancelled. One broadcast's fault does not stop the others' care."""
        while True:
            await asyncio.sleep(min(FEED_IDLE_S / 4, PRIVATE_IDLE_S / 20))
            for name in {*self._hub.stations, *self._broadcasts}:
                try:
                    self._tend(name)
                except Exception:  # whatever it is, the others still need their care
                    logs.event("tending a broadcast failed", level=logging.ERROR, station=name, exc_info=True)

    def _tend(self, name: str) -> None:
        running = self._broadcasts.get(name)
        if running is not None and self._hub.stations.get(name) is not running.station:
            self._end(running, "this station has ended")
            return
        if running is None and not name.startswith(PRIVATE):
            return
        broadcast = running or self[name]
        if broadcast.ending:
            return
        broadcast.sweep()
        since = broadcast.empty_since
        if name.startswith(PRIVATE) and since is not None and time.monotonic() - since > PRIVATE_IDLE_S:
            self._end(broadcast, "nobody listened")

    async def close(self, reason: str, leave_s: float) -> None:
        """Close every broadcast, and open no more; the stations stay."""
        self._closed = True
        broadcasts = [broadcast for broadcast in self._broadcasts.values() if broadcast not in self._ends]
        await asyncio.gather(*(broadcast.close(reason, leave_s) for broadcast in broadcasts), return_exceptions=True)
        await asyncio.gather(*self._ends.values(), return_exceptions=True)
        self._broadcasts.clear()
