"""Recorder of one station: its feed in rows of some seconds, with titles and wall-clock times.

Threading model: everything runs on the event loop; the writer has a thread of its own.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from riffstream import protocol
from riffstream.errors import RiffstreamError
from riffstream.protocol import SAMPLE_RATE, Flags
from riffstream.server import logs
from riffstream.server.archive.store import Row, Title
from riffstream.server.archive.writer import Job
from riffstream.server.broadcast import Broadcast, Member
from riffstream.server.registry import Broadcasts
from riffstream.server.titles import title_of
from riffstream.station.outlet import Chunk

__all__ = ["Recorder"]

ROW_S: Final = 2.0
STEP_S: Final = 0.25  # larger differences of the clocks begin anew: the station slept, or the clock was set
AGAIN_S: Final = 5.0


class Recorder:
    """Recorder of one station. It never keeps the station awake.

    Args:
        station: its name.
        codec: mp3, aac or opus.
        kbps: bit rate of the encoder.
        broadcasts: the stations' broadcasts.
        put: takes the rows.
        clock: POSIX time, seconds.
    """

    def __init__(
        self,
        station: str,
        codec: str,
        kbps: int,
        broadcasts: Broadcasts,
        put: Callable[[Job], None],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.station = station
        self.run_number = 0
        self._codec, self._kbps = codec, kbps
        self._broadcasts, self._put, self._clock = broadcasts, put, clock
        self._broadcast: Broadcast | None = None
        self._header = b""
        self._held: list[Chunk] = []
        self._samples = 0
        self._next = 0  # sample clock after the newest chunk of this run
        self._base: float | None = None  # POSIX time of sample 0
        self._title: str | None = None  # newest of this run
        self._titles: list[Title] = []  # not yet handed over
        self._ended = asyncio.Event()

    @property
    def key(self) -> tuple[str, int]:
        """Key of the present run."""
        return self.station, self.run_number

    async def run(self) -> None:
        """Record until cancelled."""
        while True:
            try:
                await self._record()
            except RiffstreamError:  # the station has ended, or the encoder cannot run
                pass
            except Exception:  # an error here must not end the archive of this station
                logs.event("archive failed", level=logging.ERROR, station=self.station, exc_info=True)
            await asyncio.sleep(AGAIN_S)

    async def _record(self) -> None:
        broadcast = self._broadcasts.get(self.station)
        if broadcast is None:
            return
        if self._broadcast is None or broadcast.station is not self._broadcast.station:
            self._begin(broadcast.station.first_pos)
        self._broadcast = broadcast
        self._ended.clear()
        async with broadcast.holding(self._codec) as feed:
            with broadcast.joined(Member(self._leave, told=self._told)):
                self._told(broadcast.station.now())
                self._header = feed.source.header
                feed.follow(self)
                try:
                    await self._ended.wait()
                finally:
                    feed.unfollow(self)
                    self.flush()

    def _begin(self, pos: int) -> None:
        """Begin another run: a station of the same name has a clock of its own.

        Args:
            pos: its first sample in this process; an earlier run has what is before.
        """
        self.run_number += 1
        self._next, self._base, self._title = pos, None, None
        self._titles.clear()

    def push(self, chunk: Chunk) -> None:
        """Add the next chunk of the feed."""
        assert self._broadcast is not None
        if chunk.sample_pos < self._next:  # a new encoder begins with audio that this or an earlier run has
            return
        wall = self._clock() + (chunk.sample_pos - self._broadcast.station.sample_pos) / SAMPLE_RATE
        base = wall - chunk.sample_pos / SAMPLE_RATE
        if chunk.flags & Flags.DISCONTINUITY or chunk.sample_pos != self._next:
            self.flush()
        if self._base is None or abs(base - self._base) > STEP_S:
            self.flush()
            self._base = base
        self._held.append(chunk)
        self._samples += chunk.n_samples
        self._next = chunk.sample_pos + chunk.n_samples
        if self._samples >= ROW_S * SAMPLE_RATE:
            self.flush()

    def end(self) -> None:
        """Handle the end of the feed."""
        self._ended.set()

    def flush(self) -> None:
        """Hand over the held chunks."""
        if not self._held:
            return
        chunks, self._held = self._held, []
        samples, self._samples = self._samples, 0
        pos, titles = chunks[0].sample_pos, tuple(self._titles)
        self._titles.clear()
        assert self._base is not None
        data = b"".join(chunk.payload for chunk in chunks)
        row = Row(0, pos, samples, self._base + pos / SAMPLE_RATE, data)
        self._put(Job(self.key, self._codec, self._header, self._kbps, row, titles))

    def _told(self, message: protocol.ServerMessage) -> None:
        if isinstance(message, protocol.Now):
            text = title_of(message.state)
            if text != self._title:
                # The first title is also that of the recent audio with which a feed begins.
                self._titles.append(Title(0 if self._title is None else message.sample_pos, text))
                self._title = text

    async def _leave(self, reason: str) -> None:
        self._ended.set()
