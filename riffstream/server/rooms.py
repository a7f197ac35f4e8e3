"""A station as the server serves it: its feeds, its listeners, and what they are told.

Threading model: everything runs on the event loop; encoding happens in the pool that each feed is given.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec

from riffstream import protocol
from riffstream.audio.encoders import make_encoder
from riffstream.config import Config
from riffstream.server import logs
from riffstream.server.fanout import DropPolicy, Listener, Outlet, OutletStats, websocket_frame
from riffstream.server.feeds import SAMPLES_PER_MS, Feed
from riffstream.server.ports import Notice, Station

__all__ = ["CODECS", "Member", "Room"]

CODECS = ("opus", "pcm_s16", "mp3", "aac", "ogg", "wav")
FEED_IDLE_S = 60.0  # as long as a listener who dropped out may come back without a gap
RING_S = 30.0
LISTENERS_EVERY_S = 2.0
PASSIVE_FRAME_MS = 500
BURST_MS = 1500  # media players start when they have about a second


class Member:
    """A connection that hears a station's notices.

    Args:
        send: takes an encoded WebSocket text frame.
        told: takes the message itself (server-sent events, titles); either may be None.
    """

    _numbers = itertools.count(1)

    def __init__(
        self,
        send: Callable[[bytes], object] | None = None,
        told: Callable[[protocol.ServerMessage], object] | None = None,
    ) -> None:
        self.number = next(self._numbers)
        self.send = send
        self.told = told

    def tell(self, message: protocol.ServerMessage) -> None:
        """Send one message to this member alone."""
        if self.send is not None:
            self.send(websocket_frame(1, protocol.encode(message).encode()))
        if self.told is not None:
            self.told(message)


class Room:
    """One station's feeds and members.

    Attributes:
        leavers: ends each connection in good order; the argument is the reason.
        listeners: who receives audio now.

    Args:
        station: what is played.
        config: bit rates, frame lengths and limits.
        pool: threads for encoding.
    """

    def __init__(self, station: Station, config: Config, pool: ThreadPoolExecutor) -> None:
        self.station = station
        self.config = config
        self.policy = DropPolicy(config.limits.skip_bytes, config.limits.close_bytes, config.limits.close_s)
        self.members: set[Member] = set()
        self.feeds: dict[str, Feed] = {}
        self.leavers: set[Callable[[str], Awaitable[None]]] = set()
        self.listeners = 0
        self.joined_total = 0
        self.retired = OutletStats()
        self._pool = pool
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._steers: dict[str, tuple[Member, str]] = {}
        self._unsubscribe = station.subscribe(self._notice)
        self._announced = 0
        self._announce_handle: asyncio.TimerHandle | None = None
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep(), name=f"sweep-{station.name}")

    def feed(self, codec: str) -> Feed:
        """The running feed of a codec, started some way back so that a burst is there at once."""
        if codec not in self.feeds:
            start = max(self.station.ring_start, self.station.committed - int(self._backlog_s() * 48_000))
            kbps = {"opus": "opus_kbps", "mp3": "mp3_kbps", "aac": "aac_kbps", "ogg": "ogg_kbps"}.get(codec)
            rate = None if kbps is None else getattr(self.config.encoders, kbps) * 1000
            encoder = make_encoder(codec, start=start, bit_rate=rate)
            feed = Feed(codec, encoder, pool=None if rate is None else self._pool, ring_s=RING_S)
            self.feeds[codec] = feed
            task = asyncio.get_running_loop().create_task(
                feed.run(self.station.listen(start)), name=f"feed-{self.station.name}-{codec}"
            )
            task.add_done_callback(lambda done: self._feed_ended(codec, done))
            self._tasks[codec] = task
        return self.feeds[codec]

    def frame_ms(self, codec: str, *, steering: bool) -> int:
        """Length of a listener's frames. Longer ones for whoever does not steer cost a fifth of the CPU; PCM keeps to
        short ones, since half a second of it would fill the send buffer at a stroke."""
        short = self.config.timeline.frame_ms
        return short if steering or codec == "pcm_s16" else max(short, PASSIVE_FRAME_MS)

    def burst_samples(self, *, steering: bool) -> int:
        """How far back a new listener begins: enough to fill its buffer, and no more, since it also delays the sound
        of every change by as much."""
        timeline = self.config.timeline
        ms = timeline.client_buffer_ms + timeline.frame_ms if steering else BURST_MS
        return ms * SAMPLES_PER_MS

    @property
    def full(self) -> bool:
        """Whether the cap on listeners is reached."""
        return self.listeners >= self.config.limits.listeners_per_station

    @contextlib.contextmanager
    def listening(self, outlet: Outlet, listener: Listener) -> Iterator[None]:
        """Count a listener in, and out again at the end; attaching it to the outlet is the caller's."""
        self.listeners += 1
        self.joined_total += 1
        self.station.attach()
        self._announce_listeners()
        try:
            yield
        finally:
            outlet.detach(listener)
            self.listeners -= 1
            self.station.detach()
            self._announce_listeners()

    def steer(self, member: Member, message: protocol.Steer | protocol.Transport) -> protocol.Scheduled:
        """Pass a change on; what becomes of it is told to ``member``.

        Raises:
            ProtocolError: what the station did not accept.
        """
        unique = f"{member.number}:{message.id}"
        self._steers[unique] = (member, message.id)
        try:
            if isinstance(message, protocol.Steer):
                scheduled = self.station.steer(msgspec.structs.replace(message, id=unique))
            else:
                scheduled = self.station.transport(msgspec.structs.replace(message, id=unique))
        except protocol.ProtocolError as error:
            self._steers.pop(unique, None)
            error.id = message.id
            raise
        except BaseException:
            self._steers.pop(unique, None)
            raise
        return msgspec.structs.replace(scheduled, id=message.id)

    def broadcast(self, message: protocol.ServerMessage) -> None:
        """Tell every member; the frame is built once."""
        frame = websocket_frame(1, protocol.encode(message).encode())
        for member in tuple(self.members):
            if member.send is not None:
                member.send(frame)
            if member.told is not None:
                member.told(message)

    def leave(self, member: Member) -> None:
        """Forget a member and the changes that it waits for."""
        self.members.discard(member)
        for unique in [unique for unique, (owner, _) in self._steers.items() if owner is member]:
            del self._steers[unique]

    async def dismiss(self, reason: str) -> None:
        """Tell every connection that it has to leave, and wait until it has."""
        await asyncio.gather(*(leave(reason) for leave in tuple(self.leavers)), return_exceptions=True)

    async def close(self) -> None:
        """Stop encoding; connections belong to their handlers."""
        self._unsubscribe()
        if self._announce_handle is not None:
            self._announce_handle.cancel()
        tasks = [self._sweeper, *self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for codec in tuple(self.feeds):
            self._retire(codec)

    def _backlog_s(self) -> float:
        longest = max(self.burst_samples(steering=False), self.burst_samples(steering=True))
        return longest / 48_000 + 1.0

    def _notice(self, notice: Notice) -> None:
        if isinstance(notice, protocol.Applied | protocol.Superseded):
            found = self._steers.pop(notice.id, None)
            if found is None:
                return
            member, own = found
            if isinstance(notice, protocol.Superseded):
                by = self._steers.get(notice.by)
                notice = protocol.Superseded(id=own, by=by[1] if by is not None and by[0] is member else "other")
            else:
                notice = msgspec.structs.replace(notice, id=own)
            member.tell(notice)
            return
        self.broadcast(notice)

    def _announce_listeners(self) -> None:
        """At most every two seconds, so that a rush of joins is one message."""
        if self._announce_handle is None:
            loop = asyncio.get_running_loop()
            self._announce_handle = loop.call_later(LISTENERS_EVERY_S, self._send_listeners)

    def _send_listeners(self) -> None:
        self._announce_handle = None
        if self.listeners != self._announced:
            self._announced = self.listeners
            self.broadcast(protocol.Event(kind="listeners", listeners=self.listeners))

    def _feed_ended(self, codec: str, task: asyncio.Task[None]) -> None:
        if task.cancelled() or self._tasks.get(codec) is not task:
            return
        if (error := task.exception()) is not None:
            logs.event("feed failed", level=logging.ERROR, station=self.station.name, codec=codec, error=repr(error))
        # Its listeners reconnect, which starts a fresh one.
        for outlet in self.feeds[codec].outlets.values():
            for listener in tuple(outlet.listeners):
                listener.close("feed failed")
        self._retire(codec)

    async def _sweep(self) -> None:
        """Stop encoders that nobody has listened to for a while."""
        while True:
            await asyncio.sleep(FEED_IDLE_S / 4)
            for codec, feed in tuple(self.feeds.items()):
                since = feed.idle_since
                if since is not None and time.monotonic() - since > FEED_IDLE_S:
                    task = self._tasks[codec]
                    self._retire(codec)
                    task.cancel()

    def _retire(self, codec: str) -> None:
        feed = self.feeds.pop(codec, None)
        self._tasks.pop(codec, None)
        if feed is not None:
            for outlet in feed.outlets.values():
                self.retired.add(outlet.stats)
            feed.close()

    def stats(self) -> OutletStats:
        """Deliveries and drops since the room opened."""
        total = OutletStats()
        total.add(self.retired)
        for feed in self.feeds.values():
            for outlet in feed.outlets.values():
                total.add(outlet.stats)
        return total
