"""The registry of broadcasts: opened at the first request for a station, swept, and ended in one place.

Threading model: everything runs on the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator, Mapping

from riffstream.config import Config
from riffstream.server import logs
from riffstream.server.broadcast import FEED_IDLE_S, Broadcast
from riffstream.server.interfaces import Hub
from riffstream.server.meters import Meters
from riffstream.server.own_stations import PRIVATE, OwnStations
from riffstream.server.tracing import Tracing

__all__ = ["PRIVATE", "Broadcasts"]

PRIVATE_IDLE_S = 600.0  # of private stations that their owner has made


class Broadcasts(Mapping[str, Broadcast]):
    """Broadcasts of the hub's stations, by name.

    A station ends in one order: its broadcast refuses new connections, its connections get the reason, its feeds stop,
    and the hub closes it. Each end runs once in its own task, so that a cancelled request cannot interrupt it.

    Args:
        config: the whole configuration.
        hub: the stations.
        meters: the server's distributions.
        own: private stations of visitors, which end after their time.
        tracing: traces of steers, if they are configured.
    """

    def __init__(
        self,
        config: Config,
        hub: Hub,
        meters: Meters | None = None,
        own: OwnStations | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self._tracing = tracing
        self._config, self._hub = config, hub
        self._meters = meters or Meters()
        self._own = OwnStations(config.sessions) if own is None else own
        self._broadcasts: dict[str, Broadcast] = {}
        self._ends: dict[Broadcast, asyncio.Task[None]] = {}
        self._closed = False

    def __getitem__(self, name: str) -> Broadcast:
        """Broadcast of a station that is not ending, opened at the first request. Raises KeyError."""
        station = self._hub.stations[name]
        broadcast = self._broadcasts.get(name)
        if broadcast is not None and broadcast.station is not station:  # another station of the same name
            self._end(broadcast, "this station has ended")
            broadcast = None
        if broadcast is None:
            if self._closed:
                raise KeyError(name)
            broadcast = self._broadcasts[name] = Broadcast(station, self._config, self._meters, self._tracing)
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
        """Notify a station's connections and close it; return when it is closed. Raises KeyError."""
        await asyncio.shield(self._end(self[name], reason))

    def begin_end(self, name: str, reason: str) -> None:
        """Begin what :meth:`end` does; an unknown name is ignored."""
        with contextlib.suppress(KeyError):
            self._end(self[name], reason)

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
            if self._hub.stations.get(name) is broadcast.station:  # otherwise it was deleted in the meantime
                await self._hub.delete(name)

    def _ended(self, broadcast: Broadcast, task: asyncio.Task[None]) -> None:
        name = broadcast.station.name
        self._own.forget(name)
        del self._ends[broadcast]
        if self._broadcasts.get(name) is broadcast:
            del self._broadcasts[name]
        if not task.cancelled() and (error := task.exception()) is not None:
            logs.event("a station did not end cleanly", level=logging.ERROR, station=name, exc_info=error)

    async def tend(self) -> None:
        """Stop unused encoders and stations until cancelled. An error of one broadcast does not affect the others."""
        while True:
            await asyncio.sleep(min(FEED_IDLE_S / 4, PRIVATE_IDLE_S / 20, self._config.sessions.idle_s / 4))
            for name in {*self._hub.stations, *self._broadcasts}:
                try:
                    self._tend(name)
                except Exception:  # the other broadcasts must still be swept
                    logs.event("sweeping a broadcast failed", level=logging.ERROR, station=name, exc_info=True)

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
        idle_s = self._config.sessions.idle_s if name in self._own else PRIVATE_IDLE_S
        if self._own.is_over(name):
            self._end(broadcast, "the time of this private station is over")
        elif name.startswith(PRIVATE) and since is not None and time.monotonic() - since > idle_s:
            self._end(broadcast, "nobody listened")

    async def close(self, reason: str, leave_s: float) -> None:
        """Close every broadcast and open no new ones. The stations continue."""
        self._closed = True
        broadcasts = [broadcast for broadcast in self._broadcasts.values() if broadcast not in self._ends]
        await asyncio.gather(*(broadcast.close(reason, leave_s) for broadcast in broadcasts), return_exceptions=True)
        await asyncio.gather(*self._ends.values(), return_exceptions=True)
        self._broadcasts.clear()
