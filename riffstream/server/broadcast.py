"""A station's broadcast: its feeds, its listeners, and the messages to them.

Threading model: everything runs on the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from types import TracebackType

import msgspec

from riffstream import protocol
from riffstream.config import Config
from riffstream.server.cached import Cached
from riffstream.server.fanout import DropPolicy, Fanout, FanoutStats, Listener, websocket_frame
from riffstream.server.feeds import SAMPLES_PER_MS, WIRES, Feed, whole_chunks
from riffstream.server.hls.stream import HlsStream
from riffstream.server.interfaces import Outlet, Station
from riffstream.server.meters import Meters
from riffstream.server.sessions import SESSION_S, Sessions
from riffstream.server.state_file import SavedFanout
from riffstream.server.tracing import SteerTrace, Tracing
from riffstream.station.outlet import StationEndedError

__all__ = ["Broadcast", "Member", "Place"]

FEED_IDLE_S = 60.0  # time in which a disconnected listener can resume without a gap
RING_S = 30.0
LISTENERS_EVERY_S = 2.0
REQUESTS_EVERY_S = 1.0
REQUESTS_BYTES_S = 4000  # to each listener: a long list comes less often, a quarter of the rate of Opus
REACTIONS_EVERY_S = 5.0
LEAVE_S = 5.0
CARD_FRESH_S = 60.0


class Member:
    """A connection that receives a station's messages.

    Args:
        leave: function that ends the connection cleanly, with the reason.
        send: function that receives an encoded WebSocket text frame, or None.
        told: function that receives the message itself (server-sent events, titles), or None.
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
        """Send one message to this member only."""
        if self.send is not None:
            self.send(websocket_frame(1, protocol.encode(message).encode()))
        if self.told is not None:
            self.told(message)


class Place:
    """A listener's place in a broadcast, made by :meth:`Broadcast.reserve`.

    It counts for the cap and keeps its feed open until the end of its ``with`` block.
    """

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
        """Open the feed of a codec for this listener. Raises StationEndedError, EncoderError."""
        if self._broadcast is None:
            raise StationEndedError
        feed = await self._broadcast.hold(codec)
        if self._broadcast is None or self._feed is not None:  # given back in the meantime
            feed.release()
            raise StationEndedError
        self._feed = feed
        return feed

    def attach(self, fanout: Fanout, listener: Listener, *, burst_samples: int = 0, after: int | None = None) -> None:
        """Start delivery with a burst, then live; or resume after the kept frame ``after``."""
        if self._broadcast is None:
            raise StationEndedError
        self._attached = (fanout, listener)
        if after is None:
            fanout.attach(listener, burst_samples=burst_samples)
        else:
            fanout.resume(listener, after)

    def give_back(self) -> None:
        """Stop delivery and free the place. Idempotent."""
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
    """Only owner of one station's feeds, listeners, members and sessions.

    Its only tasks are those that open feeds. :class:`~riffstream.server.registry.Broadcasts` opens, sweeps and ends
    broadcasts.

    Args:
        station: the station.
        config: bit rates, frame lengths and limits.
        meters: the server's distributions.
        tracing: traces of steers, if they are configured.

    Attributes:
        listeners: number of reserved places.
        ending: True once :meth:`close` has begun; no connection can join any more.
        card: picture for link previews.
        hls: segments for HTTP Live Streaming.
        empty_since: time at which the last connection left (``time.monotonic``); None while there is one.
    """

    def __init__(
        self, station: Station, config: Config, meters: Meters | None = None, tracing: Tracing | None = None
    ) -> None:
        self.tracing = tracing
        if tracing is not None:
            station.follow_traces(tracing.rendered)
        self._steer_to_air = (meters or Meters()).steer_to_air
        self.station = station
        self.config = config
        self.policy = DropPolicy(config.limits.skip_bytes, config.limits.close_bytes, config.limits.close_s)
        self.members: set[Member] = set()
        self.feeds: dict[str, Feed] = {}
        self.sessions = Sessions(SESSION_S)
        self.listeners = 0
        self.joined_total = 0
        self._listened_s, self._listened_at = 0.0, time.monotonic()
        self.card = Cached(CARD_FRESH_S)
        self.retired = FanoutStats()
        self.ending = self._closed = False
        self.empty_since: float | None = time.monotonic()
        self.hls = HlsStream(station, self.reserve)
        self._opening: dict[str, asyncio.Task[Feed]] = {}
        self._unsubscribe = station.subscribe(self.tell)
        self._announced: int | None = None  # the number that all members know
        self._announce_handle: asyncio.TimerHandle | None = None
        self._requests_handle: asyncio.TimerHandle | None = None
        self._told_requests: protocol.RequestList | None = None
        self._requests_pause_until = 0.0  # time of the loop

    async def hold(self, codec: str) -> Feed:
        """Return the running feed of a codec, filled with a burst. Codecs that share an encoder share a feed.

        The feed runs until ``release()`` and ``FEED_IDLE_S`` longer.

        Raises:
            StationEndedError: the station has ended.
            EncoderError: the encoder cannot run.
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
            await asyncio.wait([opening])  # a cancelled caller must not cancel the feed of the others
            if not opening.cancelled() and (error := opening.exception()) is not None:
                raise error
        raise StationEndedError

    @contextlib.asynccontextmanager
    async def holding(self, codec: str) -> AsyncIterator[Feed]:
        """Hold a feed during the ``with`` block, without a listener's place."""
        feed = await self.hold(codec)
        try:
            yield feed
        finally:
            feed.release()

    async def continue_fanouts(self, fanouts: Sequence[SavedFanout]) -> None:
        """Continue fan-outs of an earlier process, with their sessions. Raises StationEndedError, EncoderError."""
        for saved in fanouts:
            async with self.holding(saved.codec) as feed:
                if saved.wire not in WIRES:
                    continue
                fanout = feed.continue_fanout(saved.wire, saved.frame_ms, saved.next_seq, saved.borders)
                if fanout is not None:
                    self.sessions.adopt(saved.sessions, fanout.number)

    async def _open(self, source: Outlet) -> Feed:
        feed = self.feeds[source.codec] = await Feed.open(source, RING_S, self._feed_ended)
        return feed

    def _opened(self, codec: str, task: asyncio.Task[Feed]) -> None:
        self._opening.pop(codec, None)
        if not task.cancelled():
            task.exception()  # raised to the waiting callers, if any are left

    def frame_ms(self, codec: str, *, steering: bool) -> int:
        """Length of a listener's frames in ms.

        Longer frames for passive listeners take a fifth of the CPU. PCM frames stay short, because half a second of PCM
        would fill the send buffer at once.
        """
        short = self.config.timeline.frame_ms
        if steering or codec in ("pcm_s16", "wav"):
            return short
        return whole_chunks(self.config.timeline.passive_frame_ms, short)

    def burst_samples(self, *, steering: bool) -> int:
        """Length of the burst for a new listener, in samples.

        It just fills the listener's buffer, because a longer burst delays every change.
        """
        timeline = self.config.timeline
        ms = timeline.client_buffer_ms + timeline.frame_ms if steering else timeline.burst_ms
        return ms * SAMPLES_PER_MS

    def reserve(self, kind: str) -> Place | None:
        """Reserve a place for a listener of a kind (``ws``, ``plain``, ``http``); None if the station is full."""
        if self.listeners >= self.config.limits.listeners_per_station:
            return None
        place = Place(self, kind)
        self._count_time()
        self.listeners += 1
        self.joined_total += 1
        self._occupied()
        self._announce_listeners()
        return place

    def give_back(self) -> None:
        """Free a place. Only the place calls it."""
        self._count_time()
        self.listeners -= 1
        self._occupied()
        self._announce_listeners()

    @property
    def listened_s(self) -> float:
        """Time that all listeners together have listened, seconds."""
        self._count_time()
        return self._listened_s

    def _count_time(self) -> None:
        now = time.monotonic()
        self._listened_s += self.listeners * (now - self._listened_at)
        self._listened_at = now

    @contextlib.contextmanager
    def joined(self, member: Member) -> Iterator[None]:
        """Send messages to a connection during the ``with`` block. Raises StationEndedError."""
        if self.ending:
            raise StationEndedError
        self.members.add(member)
        self._occupied()
        self._announced = None  # what the client has read elsewhere may be old
        self._announce_listeners()
        try:
            yield
        finally:
            self.members.discard(member)
            self._occupied()

    def _occupied(self) -> None:
        self.empty_since = None if self.members or self.listeners else time.monotonic()

    def change(self, member: Member, message: protocol.Steer | protocol.Transport) -> None:
        """Pass a change to the station. ``member`` receives ``scheduled`` or ``rejected`` at once, the result later."""
        # Two connections may choose the same id, so the station gets unique ids.
        prefix, own = f"{member.number}:", message.id
        arrived = time.monotonic()
        immediate = isinstance(message, protocol.Steer) and message.at == "asap" and message.bar is None

        def reply(answer: protocol.ServerMessage) -> None:
            if isinstance(answer, protocol.Superseded):
                by = answer.by.removeprefix(prefix) if answer.by.startswith(prefix) else "other"
                answer = protocol.Superseded(id=own, by=by)
            elif isinstance(answer, protocol.Scheduled | protocol.Applied | protocol.Rejected):
                answer = msgspec.structs.replace(answer, id=own)
            if immediate and isinstance(answer, protocol.Applied):
                ahead_s = (answer.audible_at - self.station.sample_pos) / protocol.SAMPLE_RATE
                self._steer_to_air.observe(max(0.0, time.monotonic() - arrived + ahead_s))
            if trace is not None:
                trace.answered(answer, next(iter(self.feeds.values()), None))
            if member in self.members:
                member.tell(answer)

        trace: SteerTrace | None = None
        if self.tracing is not None and isinstance(message, protocol.Steer):
            trace = self.tracing.begin(member.number, own, message, self.station.name)
        unique = msgspec.structs.replace(message, id=prefix + own)
        if trace is not None and isinstance(unique, protocol.Steer):
            self.station.steer(unique, reply, by=str(member.number), trace=trace.context)
        elif isinstance(unique, protocol.Steer):
            self.station.steer(unique, reply, by=str(member.number))
        else:
            self.station.transport(unique, reply, by=str(member.number))

    def tell(self, message: protocol.ServerMessage) -> None:
        """Send a message to every member; the frame is built once."""
        frame = websocket_frame(1, protocol.encode(message).encode())
        for member in tuple(self.members):
            if member.send is not None:
                member.send(frame)
            if member.told is not None:
                member.told(message)

    def announce_requests(self) -> None:
        """Schedule the ``requests`` message, at most one a second; again while reactions go out of date."""
        self._schedule_requests(REQUESTS_EVERY_S)

    def _schedule_requests(self, after_s: float) -> None:
        if self.ending:
            return
        loop, waiting = asyncio.get_running_loop(), self._requests_handle
        at = max(loop.time() + after_s, self._requests_pause_until)
        if waiting is not None:
            if waiting.when() <= at:
                return
            waiting.cancel()
        self._requests_handle = loop.call_at(at, self._send_requests)

    def _send_requests(self) -> None:
        self._requests_handle = None
        requests = self.station.requested()
        if requests is None:
            return
        if requests != self._told_requests:
            self._told_requests = requests
            message = protocol.RequestsState(requests=requests)
            pause_s = len(protocol.encode(message).encode()) / REQUESTS_BYTES_S
            self._requests_pause_until = asyncio.get_running_loop().time() + pause_s
            self.tell(message)
        if requests.reactions != protocol.Reactions():
            self._schedule_requests(REACTIONS_EVERY_S)

    async def close(self, reason: str, leave_s: float = LEAVE_S) -> None:
        """Refuse new connections, ask all connections to leave, wait for them, and stop encoding. Idempotent.

        Args:
            reason: reason for the connections.
            leave_s: longest wait for connections, seconds; their handlers own those that remain.
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
            for handle in (self._announce_handle, self._requests_handle):
                if handle is not None:
                    handle.cancel()
            self.hls.close()
            for opening in tuple(self._opening.values()):
                opening.cancel()
            for codec in tuple(self.feeds):
                self._retire(codec)

    def _announce_listeners(self) -> None:
        """Schedule the ``listeners`` event, at most one in two seconds for any number of joins."""
        if self._announce_handle is None and not self.ending:
            loop = asyncio.get_running_loop()
            self._announce_handle = loop.call_later(LISTENERS_EVERY_S, self._send_listeners)

    def _send_listeners(self) -> None:
        self._announce_handle = None
        if self.listeners != self._announced:
            self._announced = self.listeners
            self.tell(protocol.Event(kind="listeners", listeners=self.listeners))

    def _feed_ended(self, feed: Feed) -> None:
        """Handle the end of a feed: the station has ended, or the encoder cannot run.

        Listeners are notified by :meth:`close`, or their connections are closed; the reason is given on reconnection.
        """
        gone = feed.source.closed
        self.ending = self.ending or gone
        for fanout in feed.fanouts.values():
            for listener in tuple(fanout.listeners):
                listener.close("station ended" if gone else "encoder failed")
        if self.feeds.get(feed.source.codec) is feed:
            self._retire(feed.source.codec)

    def sweep(self) -> None:
        """Stop encoders without listeners for ``FEED_IDLE_S``, and drop expired sessions."""
        self.sessions.expire()
        self.hls.sweep()
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
        """Counters of deliveries and drops since the broadcast opened."""
        total = FanoutStats()
        total.add(self.retired)
        for feed in self.feeds.values():
            for fanout in feed.fanouts.values():
                total.add(fanout.stats)
        return total
