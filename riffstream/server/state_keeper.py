"""Keeping of the server's state for a later process: every 2 s, soon after changes, and at the end.

Threading model
  Event loop   makes every call and the snapshots, about 0.1 ms a station.
  Thread       writes the file, one write at a time.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from riffstream.config import Config
from riffstream.protocol import SAMPLE_RATE
from riffstream.server import logs
from riffstream.server.broadcast import Broadcast
from riffstream.server.interfaces import Hub
from riffstream.server.own_stations import OwnStations
from riffstream.server.registry import Broadcasts
from riffstream.server.state_file import NAME, SavedFanout, SavedServer, StateFileError, read_state, write_state
from riffstream.station.saved import SavedStation

__all__ = ["RESERVE_S", "StateKeeper", "load_state"]

LOOK_S: Final = 0.5  # between looks at the revisions, after which a state is written at once
EVERY_S: Final = 2.0  # between writes while the sample clock advances
RESERVE_S: Final = 4.0  # after a crash: longest time from one state to the next, with a slow disk
RECENT_S: Final = 5.0  # last audio in the state: what was sent and did not arrive
MOST_RECENT: Final = 40 * 2**20  # bytes of last audio in the file, which are a third more there
ENCODED_S: Final = 0.15  # at the end: encoders finish their last block


def load_state(config: Config) -> SavedServer | None:
    """State of the last process; None without one. A file that cannot be used is logged and set aside."""
    if not config.server.state_dir:
        return None
    path = _path(config)
    try:
        state = read_state(path)
    except StateFileError as error:
        kept = path.with_name(f"{path.name}.refused")
        logs.event("saved state refused; stations begin anew", level=logging.WARNING, reason=error, kept=kept.name)
        try:
            path.replace(kept)
        except OSError as failure:
            logs.event("it cannot be set aside", level=logging.WARNING, error=failure.strerror)
        return None
    if state is None:
        return None
    later = 0 if state.clean else round(RESERVE_S * SAMPLE_RATE)
    stations = {name: station.after(later) for name, station in state.stations.items()}
    logs.event("stations continue", stations=",".join(stations), after="a planned stop" if state.clean else "a crash")
    return msgspec.structs.replace(state, stations=stations, fanouts=state.fanouts if state.clean else {})


def _path(config: Config) -> Path:
    return Path(config.server.state_dir).expanduser().resolve() / NAME


class StateKeeper:
    """Writer of the state file.

    Args:
        config: the folder; without one nothing is written.
        hub: the stations.
        broadcasts: their broadcasts, with the sessions.
        own: private stations of visitors.
    """

    def __init__(self, config: Config, hub: Hub, broadcasts: Broadcasts, own: OwnStations) -> None:
        self._path = _path(config) if config.server.state_dir and hub.upstream is None else None
        self._hub = hub
        self._broadcasts = broadcasts
        self._own = own
        self._task: asyncio.Task[None] | None = None
        self._revs: dict[str, int] = {}
        self._clocks: dict[str, int] = {}
        self._written_at = -EVERY_S
        self._failing = self._stopped = False
        self._writing = threading.Lock()

    def start(self) -> None:
        """Begin to write."""
        if self._path is not None:
            self._task = asyncio.create_task(self._run(), name="keep-state")

    async def continue_sessions(self, fanouts: Mapping[str, tuple[SavedFanout, ...]]) -> None:
        """Let the clients of a planned stop resume where they were."""
        for name, saved in fanouts.items():
            broadcast = self._broadcasts.get(name)
            if broadcast is None:
                continue
            try:
                await broadcast.continue_fanouts(saved)
            except Exception:  # clients then begin anew
                logs.event("sessions cannot go on", level=logging.WARNING, station=name, exc_info=True)

    async def save(self) -> bool:
        """Write the state now; return whether the disk has taken it."""
        await self._write(SavedServer(clean=False, stations=self._hub.save(), own=self._own.save()))
        return not self._failing

    async def stop(self) -> None:
        """Freeze the stations and write the last state, with the sessions. Idempotent."""
        if self._stopped:  # the file may be another server's by now
            return
        self._stopped = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        states: dict[str, SavedStation] = self._hub.freeze(RECENT_S if self._path is not None else 0.0)
        if self._path is None:
            return
        await asyncio.sleep(ENCODED_S)
        fanouts = {
            name: found for name, broadcast in self._broadcasts.items() if (found := _fanouts(broadcast)) is not None
        }
        await self._write(SavedServer(clean=True, stations=_bounded(states), fanouts=fanouts, own=self._own.save()))

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            revs = {name: station.rev for name, station in self._hub.stations.items()}
            clocks = {name: station.sample_pos for name, station in self._hub.stations.items()}
            if revs == self._revs and (clocks == self._clocks or time.monotonic() - self._written_at < EVERY_S):
                continue
            self._revs, self._clocks = revs, clocks
            self._written_at = time.monotonic()
            await self._write(SavedServer(clean=False, stations=self._hub.save(), own=self._own.save()))

    def _write_now(self, state: SavedServer) -> None:
        """Write in a thread. The write of a cancelled task still goes on, and both use the same second file."""
        assert self._path is not None
        with self._writing:
            write_state(self._path, state)

    async def _write(self, state: SavedServer) -> None:
        assert self._path is not None
        try:
            await asyncio.to_thread(self._write_now, state)
        except OSError as error:
            if not self._failing:
                logs.event("state cannot be saved", level=logging.ERROR, file=self._path, error=error.strerror)
            self._failing = True
            return
        if self._failing:
            logs.event("state is saved again", file=self._path)
        self._failing = False


def _bounded(states: Mapping[str, SavedStation]) -> dict[str, SavedStation]:
    """States with the last audio of as many stations as the file has room for; the others resume without it."""
    bounded, room = {}, MOST_RECENT
    for name, state in states.items():
        room -= len(state.recent)
        bounded[name] = state if room >= 0 else msgspec.structs.replace(state, recent=b"")
    return bounded


def _fanouts(broadcast: Broadcast) -> tuple[SavedFanout, ...] | None:
    """Fan-outs of a broadcast whose clients may resume; None without any."""
    found = []
    for feed in broadcast.feeds.values():
        for (wire, frame_ms), fanout in feed.fanouts.items():
            sessions = broadcast.sessions.of(fanout.number)
            if sessions and fanout.next_seq > fanout.first_seq:
                last = fanout.frame(fanout.next_seq - 1)
                end = last.sample_pos + last.n_samples
                kept = (fanout.frame(seq).sample_pos for seq in range(fanout.first_seq, fanout.next_seq))
                borders = (*(pos for pos in kept if pos > end - RECENT_S * SAMPLE_RATE), end)
                found.append(SavedFanout(feed.source.codec, wire, frame_ms, fanout.next_seq, borders, tuple(sessions)))
    return tuple(found) or None
