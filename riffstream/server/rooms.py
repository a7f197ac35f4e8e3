"""A station as the server serves it: its feeds, its listeners, and what they are told.

Threading model: everything runs on the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator

import msgspec

from riffstream import protocol
from riffstream.config import Config
from riffstream.server.fanout import Fanout, FanoutStats
from riffstream.server.feeds import SAMPLES_PER_MS, Feed
from riffstream.server.frames import websocket_frame
from riffstream.server.listener import DropPolicy, Listener
from riffstream.server.ports import Station

__all__ = ["Member", "Room"]

FEED_IDLE_S = 60.0  # as long as a listener who dropped out may come back without a gap
RING_S = 30.0
LISTENERS_EVERY_S = 2.0


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
        card: the picture for links, and when it was made.

    Args:
        station: what is played.
        config: bit rates, frame lengths and limits.
    """

    def __init__(self, station: Station, config: Config) -> None:
        self.station = station
        self.config = config
        self.policy = DropPolicy(config.limits.skip_bytes, config.limits.close_bytes, config.limits.close_s)
        self.members: set[Member] = set()
        self.feeds: dict[str, Feed] = {}
        self.leavers: set[Callable[[str], Awaitable[None]]] = set()
        self.listeners = 0
        self.joined_total = 0
        self.card: tuple[bytes | None, float] = (None, 0.0)
        self.retired = FanoutStats()
        self._opening: dict[str, asyncio.Future[Feed]] = {}
        self._unsubscribe = station.subscribe(self.broadcast)
        self._announced = 0
        self._announce_handle: asyncio.TimerHandle | None = None
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep(), name=f"sweep-{station.name}")

    async def feed(self, codec: str) -> Feed:
        """The running feed of a codec; a burst is there when it returns."""
        opening = self._opening.get(codec)
        if opening is None or (opening.done() and (opening.cancelled() or opening.exception() is not None)):
            opening = self._opening[codec] = asyncio.ensure_future(self._open(codec))
        return await asyncio.shield(opening)

    async def _open(self, codec: str) -> Feed:
        feed = await Feed.open(self.station.outlet(codec), RING_S, lambda: self._feed_ended(codec))
        self.feeds[codec] = feed
        return feed

    def frame_ms(self, codec: str, *, steering: bool) -> int:
        """Length of a listener's frames. Longer ones for whoever does not steer cost a fifth of the CPU; PCM keeps to
        short ones, since half a second of it would fill the send buffer at a stroke."""
        short = self.config.timeline.frame_ms
        return short if steering or codec == "pcm_s16" else max(short, self.config.timeline.passive_frame_ms)

    def burst_samples(self, *, steering: bool) -> int:
        """How far back a new listener begins: enough to fill its buffer, and no more, since it also delays the sound
        of every change by as much."""
        timeline = self.config.timeline
        ms = timeline.client_buffer_ms + timeline.frame_ms if steering else timeline.burst_ms
        return ms * SAMPLES_PER_MS

    @property
    def full(self) -> bool:
        """Whether the cap on listeners is reached."""
        return self.listeners >= self.config.limits.listeners_per_station

    @contextlib.contextmanager
    def listening(self, fanout: Fanout, listener: Listener, kind: str) -> Iterator[None]:
        """Count a listener in, and out again at the end; attaching it to the fan-out is the caller's."""
        self.listeners += 1
        self.joined_total += 1
        lease = self.station.join(kind)
        self._announce_listeners()
        try:
            yield
        finally:
            fanout.detach(listener)
            self.listeners -= 1
            lease.close()
            self._announce_listeners()

    def change(self, member: Member, message: protocol.Steer | protocol.Transport) -> None:
        """Pass a change on; ``member`` is told at once that it is scheduled or rejected, and later what came of it."""
        # Two connections may choose the same id, so the station gets ids that are unique.
        prefix, own = f"{member.number}:", message.id

        def reply(answer: protocol.ServerMessage) -> None:
            if isinstance(answer, protocol.Superseded):
                by = answer.by.removeprefix(prefix) if answer.by.startswith(prefix) else "other"
                answer = protocol.Superseded(id=own, by=by)
            elif isinstance(answer, protocol.Scheduled | protocol.Applied | protocol.Rejected):
                answer = msgspec.structs.replace(answer, id=own)
            if member in self.members:
                member.tell(answer)

        unique = msgspec.structs.replace(message, id=prefix + own)
        if isinstance(unique, protocol.Steer):
            self.station.steer(unique, reply, by=str(member.number))
        else:
            self.station.transport(unique, reply, by=str(member.number))

    def broadcast(self, message: protocol.ServerMessage) -> None:
        """Tell every member; the frame is built once."""
        frame = websocket_frame(1, protocol.encode(message).encode())
        for member in tuple(self.members):
            if member.send is not None:
                member.send(frame)
            if member.told is not None:
                member.told(message)

    async def dismiss(self, reason: str) -> None:
        """Tell every connection that it has to leave, and wait until it has."""
        await asyncio.gather(*(leave(reason) for leave in tuple(self.leavers)), return_exceptions=True)

    async def close(self) -> None:
        """Stop encoding; connections belong to their handlers."""
        self._unsubscribe()
        if self._announce_handle is not None:
            self._announce_handle.cancel()
        self._sweeper.cancel()
        await asyncio.gather(self._sweeper, return_exceptions=True)
        for codec in tuple(self.feeds):
            self._retire(codec)

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

    def _feed_ended(self, codec: str) -> None:
        """The station is gone; its listeners are told by :meth:`dismiss`, or find the connection closed."""
        feed = self.feeds.get(codec)
        if feed is not None:
            for fanout in feed.fanouts.values():
                for listener in tuple(fanout.listeners):
                    listener.close("station ended")
            self._retire(codec)

    async def _sweep(self) -> None:
        """Stop encoders that nobody has listened to for a while."""
        while True:
            await asyncio.sleep(FEED_IDLE_S / 4)
            for codec, feed in tuple(self.feeds.items()):
                since = feed.idle_since
                if since is not None and time.monotonic() - since > FEED_IDLE_S:
                    self._retire(codec)

    def _retire(self, codec: str) -> None:
        self._opening.pop(codec, None)
        feed = self.feeds.pop(codec, None)
        if feed is not None:
            for fanout in feed.fanouts.values():
                self.retired.add(fanout.stats)
            feed.close()

    def stats(self) -> FanoutStats:
        """Deliveries and drops since the room opened."""
        total = FanoutStats()
        total.add(self.retired)
        for feed in self.feeds.values():
            for fanout in feed.fanouts.values():
                total.add(fanout.stats)
        return total
