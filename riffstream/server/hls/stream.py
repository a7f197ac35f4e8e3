"""A station's HLS stream: its renditions while they are requested, and their titles.

Threading model: everything runs on the event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from riffstream import protocol
from riffstream.errors import RiffstreamError
from riffstream.protocol import SAMPLE_RATE
from riffstream.server.feeds import Feed
from riffstream.server.hls.playlists import LISTED, Title
from riffstream.server.hls.rendition import SEGMENT_S, Rendition
from riffstream.server.interfaces import Station
from riffstream.station.outlet import Chunk, StationEndedError, hls_codec

__all__ = ["HlsStream", "Running", "StationFullError"]

IDLE_S = 30.0  # running time of an encoder after the last request; players send one every two seconds
START_S = 15.0  # longest wait for the first segments
FIRST = 3  # segments at the start of a rendition: players buffer three before they play
TITLES = 50
BREAKS_SINCE = 1_767_225_600  # 2026-01-01, POSIX time
BREAKS_UNIT_S = 600


class Place(Protocol):
    """A listener's place, as of ``broadcast.Place``."""

    async def feed(self, codec: str) -> Feed: ...
    def give_back(self) -> None: ...


class StationFullError(RiffstreamError):
    """The station has no place for another listener."""

    def __init__(self) -> None:
        super().__init__("this station is full")


class Running:
    """A rendition with a running encoder. It has a listener's place, so that the station stays awake.

    Attributes:
        rendition: its segments.
        folder: part of the segments' addresses. It changes with each start of the encoder, so that caches may keep
            segments permanently.
        asked_at: time of the last request (``time.monotonic``).
        has_ended: True if there will be no more segments.
    """

    def __init__(self, kbps: int, feed: Feed, place: Place) -> None:
        self.rendition = Rendition(kbps * 1000)
        self.folder = f"{time.time_ns() // 1_000_000:x}"
        self.asked_at = time.monotonic()
        self.has_ended = False
        self._feed, self._place = feed, place
        feed.follow(self)

    def push(self, chunk: Chunk) -> None:
        """Add the next encoded chunk."""
        self.rendition.push(chunk)

    def end(self) -> None:
        """Handle the end of the feed."""
        self.leave()

    def leave(self) -> None:
        """Give the place back. Idempotent."""
        self.has_ended = True
        self._feed.unfollow(self)
        self._place.give_back()


class HlsStream:
    """The renditions of one station. Each runs from its first request until ``IDLE_S`` without one.

    Args:
        station: the station.
        reserve: takes a listener's place of a kind; None if the station is full.

    Attributes:
        titles: recent titles, oldest first.
    """

    def __init__(self, station: Station, reserve: Callable[[str], Place | None]) -> None:
        self.titles: deque[Title] = deque(maxlen=TITLES)
        self._station = station
        self._reserve = reserve
        self._running: dict[int, Running] = {}
        self._starting: dict[int, asyncio.Task[None]] = {}
        self._began_s: float | None = None
        self._first: int | None = None
        self._unsubscribe = station.subscribe(self._told)

    @property
    def began_s(self) -> float:
        """POSIX time of the station's sample 0, the same for all renditions that run together."""
        if self._began_s is None:
            self._began_s = time.time() - self._station.sample_pos / SAMPLE_RATE
        return self._began_s

    @property
    def first_number(self) -> int:
        """Media sequence number of the segment at the station's sample 0, the same for all renditions.

        It makes the numbers grow from process to process, also where the sample clock begins anew, because players wait
        until they have seen a larger number than before (RFC 8216, 6.2.2): a segment gets the number of its wall-clock
        time, less the time that the station has slept since the first one.
        """
        if self._first is None:
            self._first = int((time.time() - self._station.sample_pos / SAMPLE_RATE) / SEGMENT_S)
        return self._first

    @property
    def first_break(self) -> int:
        """Number of discontinuities before the first segment of this process.

        It grows with the time of the process's first segment, because the time stamps of a new process begin anew. It
        stays small, because hls.js searches a list of that length at each playlist.
        """
        return max(0, int(self.first_number * SEGMENT_S - BREAKS_SINCE) // BREAKS_UNIT_S)

    async def ready(self, kbps: int) -> Running:
        """Return a rendition with its first segments, starting its encoder if necessary.

        Args:
            kbps: one of ``HLS_KBPS``.

        Raises:
            StationEndedError: the station has ended.
            StationFullError: the station has no place.
            EncoderError: the encoder cannot run.
            TimeoutError: no audio within ``START_S``.
        """
        async with asyncio.timeout(START_S):
            while (running := self.running(kbps)) is None:
                starting = self._starting.get(kbps)
                if starting is None:
                    starting = self._starting[kbps] = asyncio.create_task(self._start(kbps), name=f"open-hls-{kbps}")
                    starting.add_done_callback(lambda done: self._started(kbps, done))
                await asyncio.wait([starting])  # a cancelled caller must not cancel the start for the others
                if not starting.cancelled() and (error := starting.exception()) is not None:
                    raise error
            while len(running.rendition.segments) < FIRST:
                if running.has_ended:
                    raise StationEndedError
                await asyncio.sleep(0.05)
        return running

    def running(self, kbps: int) -> Running | None:
        """Running rendition, whose time of request is updated; None if it does not run."""
        running = self._running.get(kbps)
        if running is None or running.has_ended:
            return None
        running.asked_at = time.monotonic()
        return running

    def sweep(self) -> None:
        """Stop the encoders without a request for ``IDLE_S``."""
        for kbps, running in tuple(self._running.items()):
            if running.has_ended or time.monotonic() - running.asked_at > IDLE_S:
                del self._running[kbps]
                running.leave()

    def close(self) -> None:
        """Stop all renditions permanently. Idempotent."""
        self._unsubscribe()
        self._unsubscribe = lambda: None
        for starting in tuple(self._starting.values()):
            starting.cancel()
        for running in self._running.values():
            running.leave()
        self._running.clear()

    async def _start(self, kbps: int) -> None:
        place = self._reserve("hls")
        if place is None:
            raise StationFullError
        try:
            feed = await place.feed(hls_codec(kbps))
        except BaseException:
            place.give_back()
            raise
        if not any(not running.has_ended for running in self._running.values()):
            self._began_s = None  # the sample clock stands still while a station sleeps
        self._told(self._station.now())
        self._running[kbps] = Running(kbps, feed, place)

    def _started(self, kbps: int, task: asyncio.Task[None]) -> None:
        self._starting.pop(kbps, None)
        if not task.cancelled():
            task.exception()  # raised to the waiting callers, if any are left

    def _told(self, message: protocol.ServerMessage) -> None:
        if not isinstance(message, protocol.Now):
            return
        text = " + ".join(part.text for part in message.state.prompts if part.weight > 0)
        if not self.titles or self.titles[-1].text != text:
            self.titles.append(Title(message.sample_pos, text))
        horizon = self._station.sample_pos - 4 * LISTED * SEGMENT_S * SAMPLE_RATE
        while len(self.titles) > 1 and self.titles[1].sample_pos < horizon:
            self.titles.popleft()
