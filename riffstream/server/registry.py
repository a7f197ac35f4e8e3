"""Every open room: opened when a station is first asked for, swept, and ended in one place.

Threading model: everything runs on the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping

from riffstream.config import Config
from riffstream.server import logs
from riffstream.server.broadcast import FEED_IDLE_S, Room
from riffstream.server.interfaces import Hub

__all__ = ["PRIVATE", "Rooms"]

PRIVATE = "private-"  # names of stations that a share link made
PRIVATE_IDLE_S = 600.0


class Rooms(Mapping[str, Room]):
    """The rooms of the hub's stations, by name.

    A station ends in one order: nobody can join its room any more, its connections are told, its feeds stop, and the
    hub closes it. Each end runs once, in a task of its own, which no request that is cancelled can stop half way.

    Args:
        config: the whole configuration.
        hub: the stations.
    """

    def __init__(self, config: Config, hub: Hub) -> None:
        self._config, self._hub = config, hub
        self._rooms: dict[str, Room] = {}
        self._ends: dict[Room, asyncio.Task[None]] = {}
        self._closed = False

    def __getitem__(self, name: str) -> Room:
        """The room of a station that is not ending, opened where there is none yet. Raises KeyError."""
        station = self._hub.stations[name]
        room = self._rooms.get(name)
        if room is not None and room.station is not station:  # another station of the same name
            self._end(room, "this station has ended")
            room = None
        if room is None:
            if self._closed:
                raise KeyError(name)
            room = self._rooms[name] = Room(station, self._config)
        if room.ending:
            raise KeyError(name)
        return room

    def __iter__(self) -> Iterator[str]:
        """Names of the stations that are not ending."""
        for name in tuple(self._hub.stations):
            room = self._rooms.get(name)
            if room is None or not room.ending:
                yield name

    def __len__(self) -> int:
        return sum(1 for _ in self)

    async def end(self, name: str, reason: str) -> None:
        """Tell a station's connections, and close it; returns when that is done. Raises KeyError."""
        await asyncio.shield(self._end(self[name], reason))

    def _end(self, room: Room, reason: str) -> asyncio.Task[None]:
        if room not in self._ends:
            room.ending = True
            task = self._ends[room] = asyncio.create_task(self._finish(room, reason), name=f"end-{room.station.name}")
            task.add_done_callback(lambda done: self._ended(room, done))
        return self._ends[room]

    async def _finish(self, room: Room, reason: str) -> None:
        name = room.station.name
        try:
            await room.close(reason)
        finally:
            if self._hub.stations.get(name) is room.station:  # else it was deleted meanwhile
                await self._hub.delete(name)

    def _ended(self, room: Room, task: asyncio.Task[None]) -> None:
        name = room.station.name
        del self._ends[room]
        if self._rooms.get(name) is room:
            del self._rooms[name]
        if not task.cancelled() and (error := task.exception()) is not None:
            logs.event("a station did not end in good order", level=logging.ERROR, station=name, exc_info=error)

    async def tend(self) -> None:
        """Stop what nobody uses any more, until cancelled. One room's fault does not stop the others' care."""
        while True:
            await asyncio.sleep(min(FEED_IDLE_S / 4, PRIVATE_IDLE_S / 20))
            for name in {*self._hub.stations, *self._rooms}:
                try:
                    self._tend(name)
                except Exception:  # whatever it is, the other rooms still need their care
                    logs.event("tending a room failed", level=logging.ERROR, station=name, exc_info=True)

    def _tend(self, name: str) -> None:
        open_room = self._rooms.get(name)
        if open_room is not None and self._hub.stations.get(name) is not open_room.station:
            self._end(open_room, "this station has ended")
            return
        if open_room is None and not name.startswith(PRIVATE):
            return
        room = open_room or self[name]
        if room.ending:
            return
        room.sweep()
        since = room.empty_since
        if name.startswith(PRIVATE) and since is not None and time.monotonic() - since > PRIVATE_IDLE_S:
            self._end(room, "nobody listened")

    async def close(self, reason: str, leave_s: float) -> None:
        """Close every room, and open no more; the stations stay."""
        self._closed = True
        rooms = [room for room in self._rooms.values() if room not in self._ends]
        await asyncio.gather(*(room.close(reason, leave_s) for room in rooms), return_exceptions=True)
        await asyncio.gather(*self._ends.values(), return_exceptions=True)
        self._rooms.clear()
