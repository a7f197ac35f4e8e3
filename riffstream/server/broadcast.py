"""A station's broadcast: its feeds, its listeners, and the messages to them.

Threading model: everything runs on the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import TracebackType

import msgspec

from riffstream import protocol
from riffstream.config import Config
from riffstream.server.cached import Cached
from riffstream.server.fanout import DropPolicy, Fanout, FanoutStats, Listener, websocket_frame
from riffstream.server.feeds import SAMPLES_PER_MS, Feed
from riffstream.server.interfaces import Station
from riffstream.server.sessions import SESSION_S, Sessions
from riffstream.station.outlet import Outlet, StationEndedError

__all__ = ["Broadcast", "Member", "Place"]

FEED_IDLE_S = 60.0  # as long as a listener who dropped out may come back without a gap
RING_S = 30.0
LISTENERS_EVERY_S = 2.0
LEAVE_S = 5.0
CARD_FRESH_S = 60.0


class Member:
    """A connection that gets a station's notices.

    Args:
        leave: ends the connection in good order; the argument is the reason.
        send: takes an encoded WebSocket text frame.
        told: takes the message itself (server-sent events, titles); either may be None.
    """

    _numbers = itertools.count(1)

    def __init__(
        self,
        leave: Callable[[str], Awaitable[None]],
        send: Callable[[bytes], object] | None = None,
        told: Callable[[protocol.ServerMessage], object] | None = None,
    ) -> None:
        self.number = next(self._numbers)
        self.leave = leave
        self.send = send
        self.told = told

    def tell(self, message: protocol.ServerMessage) -> None:
        """Send one message to this member alone."""
        if self.send is not None:
            self.send(websocket_frame(1, protocol.encode(message).encode()))
        if self.told is not None:
            self.told(message)


class Place:
    """A listener's place in a broadcast, made by :meth:`Broadcast.reserve`. The end of its ``with`` gives it back,
    however the connection ends. Until then it counts for the cap, and its feed is not retired."""

    def __init__(self, broadcast: Broadcast, kind: str) -> None:
        self._broadcast: Broadcast | None = broadcast
        self._lease = broadcast.station.join(kind)
        self._feed: Feed | None = None
        self._attached: tuple[Fanout, Listener] | None = None

    def __enter__(self) -> Place:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.give_back()

    async def feed(self, codec: str) -> Feed:
        """The feed of a codec, held open for this listener. Raises StationEndedError, EncoderError."""
        if self._broadcast is None:
            raise StationEndedError
        feed = await self._broadcast.hold(codec)
        if self._broadcast is None or self._feed is not None:  # given back meanwhile
            feed.release()
            raise StationEndedError
        self._feed = feed
        return feed

    def attach(self, fanout: Fanout, listener: Listener, *, burst_samples: int = 0, after: int | None = None) -> None:
        """Start delivery: a burst and then live; ``after`` goes on behind this frame, which must still be kept."""
        if self._broadcast is None:
            raise StationEndedError
        self._attached = (fanout, listener)
        if after is None:
            fanout.attach(listener, burst_samples=burst_samples)
        else:
            fanout.resume(listener, after)

    def give_back(self) -> None:
        """Stop delivery and free the place. Harmless when repeated."""
        broadcast, self._broadcast = self._broadcast, None
        if broadcast is None:
            return
        if self._attached is not None:
            fanout, listener = self._attached
            fanout.detach(listener)
        if self._feed is not None:
            self._feed.release()
        self._lease.close()
        broadcast.give_back()


class Broadcast:
    """One station's feeds, listeners, members and sessions: their only owner. It has no task of its own but those that
    open feeds; :class:`~riffstream.server.registry.Broadcasts` opens, sweeps and ends broadcasts.

    Attributes:
        listeners: places that are taken.
        ending: :meth:`close` has begun; nobody can join any more.
        card: the picture for links.
        empty_since: when the last connection left (``time.monotonic``), None while there is one.

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
        self.sessions = Sessions(SESSION_S)
        self.listeners = 0
        self.joined_total = 0
        self.card = Cached(CARD_FRESH_S)
        self.retired = FanoutStats()
        self.ending = self._closed = False
        self.empty_since: float | None = time.monotonic()
        self._opening: dict[str, asyncio.Task[Feed]] = {}
        self._unsubscribe = station.subscribe(self.tell)
        self._announced = 0
        self._announce_handle: asyncio.TimerHandle | None = None

    async def hold(self, codec: str) -> Feed:
        """The running feed of a codec, with a burst in it. It runs until ``release()``, and ``FEED_IDLE_S`` longer.
        Codecs that share an encoder share a feed.

        Raises:
            StationEndedError: the station ends.
            EncoderError: there is no encoder for it.
        """
        source = self.station.outlet(codec)
        name = source.codec
        while not self.ending:
            if (feed := self.feeds.get(name)) is not None:
                feed.hold()
                return feed
            if (opening := self._opening.get(name)) is None:
                opening = self._opening[name] = asyncio.create_task(self._open(source), name=f"open-{name}")
                opening.add_done_callback(lambda done: self._opened(name, done))
            await asyncio.wait([opening])  # one that stops waiting must not stop the others' feed
            if not opening.cancelled() and (error := opening.exception()) is not None:
                raise error
        raise StationEndedError

    @contextlib.asynccontextmanager
    async def holding(self, codec: str) -> AsyncIterator[Feed]:
        """A feed for a short use, without a listener's place."""
        feed = await self.hold(codec)
        try:
            yield feed
        finally:
            feed.release()

    async def _open(self, source: Outlet) -> Feed:
        feed = self.feeds[source.codec] = await Feed.open(source, RING_S, self._feed_ended)
        return feed

    def _opened(self, codec: str, task: asyncio.Task[Feed]) -> None:
        self._opening.pop(codec, None)
        if not task.cancelled():
            task.exception()  # raised to those who wait; nobody may be left

    def frame_ms(self, codec: str, *, steering: bool) -> int:
        """Length of a listener's frames. Longer ones for passive listeners cost a fifth of the CPU; PCM keeps to
        short ones, since half a second of it would fill the send buffer at a stroke."""
        short = self.config.timeline.frame_ms
        return short if steering or codec in ("pcm_s16", "wav") else max(short, self.config.timeline.passive_frame_ms)

    def burst_samples(self, *, steering: bool) -> int:
        """How far back a new listener begins: enough to fill its buffer, and no more, since it also delays the sound
        of every change by as much."""
        timeline = self.config.timeline
        ms = timeline.client_buffer_ms + timeline.frame_ms if steering else timeline.burst_ms
        return ms * SAMPLES_PER_MS

    def reserve(self, kind: str) -> Place | None:
        """Take a place for a listener, of this kind (``ws``, ``plain``, ``http``); None where the station is full."""
        if self.listeners >= self.config.limits.listeners_per_station:
            return None
        place = Place(self, kind)
        self.listeners += 1
        self.joined_total += 1
        self._occupied()
        self._announce_listeners()
        return place

    def give_back(self) -> None:
        """One place is free again; called by the place."""
        self.listeners -= 1
        self._occupied()
        self._announce_listeners()

    @contextlib.contextmanager
    def joined(self, member: Member) -> Iterator[None]:
        """Tell a connection what happens, meanwhile. Raises StationEndedError."""
        if self.ending:
            raise StationEndedError
        self.members.add(member)
        self._occupied()
        try:
            yield
        finally:
            self.members.discard(member)
            self._occupied()

    def _occupied(self) -> None:
        self.empty_since = None if self.members or self.listeners else time.monotonic()

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

    def tell(self, message: protocol.ServerMessage) -> None:
        """Tell every member; the frame is built once."""
        frame = websocket_frame(1, protocol.encode(message).encode())
        for member in tuple(self.members):
            if member.send is not None:
                member.send(frame)
            if member.told is not None:
                member.told(message)

    async def close(self, reason: str, leave_s: float = LEAVE_S) -> None:
        """Let nobody join any more, tell every connection that it has to leave, wait for that, and stop encoding.
        Harmless when repeated.

        Args:
            leave_s: the longest wait for connections; those that stay then belong to their handlers.
        """
        self.ending = True
        if self._closed:
            return
        self._closed = True
        try:
            leaving = [asyncio.ensure_future(member.leave(reason)) for member in tuple(self.members)]
            if leaving:
                _, late = await asyncio.wait(leaving, timeout=leave_s)
                for task in late:
                    task.cancel()
                await asyncio.gather(*leaving, return_exceptions=True)
        finally:
            self._unsubscribe()
            if self._announce_handle is not None:
                self._announce_handle.cancel()
            for opening in tuple(self._opening.values()):
                opening.cancel()
            for codec in tuple(self.feeds):
                self._retire(codec)

    def _announce_listeners(self) -> None:
        """At most every two seconds, so that a rush of joins is one message."""
        if self._announce_handle is None and not self.ending:
            loop = asyncio.get_running_loop()
            self._announce_handle = loop.call_later(LISTENERS_EVERY_S, self._send_listeners)

    def _send_listeners(self) -> None:
        self._announce_handle = None
        if self.listeners != self._announced:
            self._announced = self.listeners
            self.tell(protocol.Event(kind="listeners", listeners=self.listeners))

    def _feed_ended(self, feed: Feed) -> None:
        """The station is gone, or the encoder cannot run. Listeners were told by :meth:`close`, or find the connection
        closed: those that come again learn the reason."""
        gone = feed.source.closed
        self.ending = self.ending or gone
        for fanout in feed.fanouts.values():
            for listener in tuple(fanout.listeners):
                listener.close("station ended" if gone else "encoder failed")
        if self.feeds.get(feed.source.codec) is feed:
            self._retire(feed.source.codec)

    def sweep(self) -> None:
        """Stop encoders that nobody has listened to for a while, and forget old sessions."""
        self.sessions.expire()
        for codec, feed in tuple(self.feeds.items()):
            if feed.idle_since is not None and time.monotonic() - feed.idle_since > FEED_IDLE_S:
                self._retire(codec)

    def _retire(self, codec: str) -> None:
        feed = self.feeds.pop(codec, None)
        if feed is not None:
            for fanout in feed.fanouts.values():
                self.retired.add(fanout.stats)
            feed.close()

    def stats(self) -> FanoutStats:
        """Deliveries and drops since the broadcast opened."""
        total = FanoutStats()
        total.add(self.retired)
        for feed in self.feeds.values():
            for fanout in feed.fanouts.values():
                total.add(fanout.stats)
        return total
