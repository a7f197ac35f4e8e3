"""``/ws/{station}``: the protocol ``riffstream.v1`` (docs/protocol.md)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import deque

from aiohttp import WSCloseCode, WSMsgType, web

from riffstream import protocol
from riffstream.server import logs
from riffstream.server.broadcast import Broadcast, Place
from riffstream.server.connection import SocketConnection, open_socket
from riffstream.server.context import CONTEXT, MIN_RETRY_S, QUEUE_BURST, QUEUE_INTERVAL_S, Context
from riffstream.server.fanout import Fanout, websocket_frame
from riffstream.server.feeds import SAMPLES_PER_MS, Feed
from riffstream.server.limits import TokenBucket
from riffstream.server.live_input.intake import LIVE_INPUTS
from riffstream.server.openapi import Answer, described
from riffstream.server.prompt_queue import MOST_WAITING
from riffstream.server.queue_api import changed_queue
from riffstream.server.relayed import relayed_rights
from riffstream.server.requests_api import changed_requests
from riffstream.server.roles import Role
from riffstream.server.sessions import epoch_of
from riffstream.station.outlet import EncoderError, StationEndedError

__all__ = ["RESTARTING", "UPGRADING", "bye_frame", "socket_handler"]

HELLO_S = 10.0
REQUESTS_WAITING = 8  # messages about requests of one connection that wait for the prompt hook
RESTARTING = "restarting"  # another process will serve in some seconds
UPGRADING = "upgrading"  # it serves already
NO_INPUT = "binary messages are not accepted without a live input; send input first"
CODECS: dict[str, protocol.CodecName] = {"opus": "opus", "pcm_s16": "pcm_s16"}


def bye_frame(reason: str, connections: int = 4000) -> bytes:
    """Make a ``bye`` frame. A server that restarts asks for a random delay, so that reconnections are spread out.

    Args:
        reason: reason for the client.
        connections: number of connections that leave now. After an upgrade they come back at 1,000 a second.
    """
    pause = None
    if reason == RESTARTING:
        pause = 500 + random.randrange(4000)
    elif reason == UPGRADING:
        pause = 50 + random.randrange(max(200, min(4000, connections)))
    bye = protocol.Bye(reason=reason, reconnect_ms=pause)
    return websocket_frame(1, protocol.encode(bye).encode())


@described(
    "sockets",
    Answer(None, "the protocol `riffstream.v1` (docs/protocol.md, `/api/schema`)", 101),
    errors=(400, 403, 503),
)
async def socket_handler(request: web.Request) -> web.StreamResponse:
    """Open the WebSocket: audio, events and steering. A token travels in its first message."""
    context = request.app[CONTEXT]
    broadcast = context.broadcast(request.match_info["station"])
    with context.admitted(request):
        socket = await open_socket(request, context, protocol.SUBPROTOCOL)
        await _Connection(context, broadcast, request, socket).run()
        return socket


class _Connection(SocketConnection):
    """One open socket of the protocol."""

    def __init__(
        self, context: Context, broadcast: Broadcast, request: web.Request, socket: web.WebSocketResponse
    ) -> None:
        super().__init__(context, broadcast, request, socket)
        self.request = request
        self.role = Role.LISTENER
        self.underruns = 0
        self.inputs = request.app[LIVE_INPUTS]
        self.queueing = TokenBucket(QUEUE_INTERVAL_S, QUEUE_BURST)
        self.queue_changes: deque[protocol.Queue] = deque()
        self.queue_task: asyncio.Task[None] | None = None
        self.request_turns: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Exchange hello and welcome, then messages until either side closes."""
        with self.context.heartbeat.watching(self.listener), contextlib.ExitStack() as held:
            held.callback(self.close_line)
            await self._serve(held)

    async def _serve(self, held: contextlib.ExitStack) -> None:
        hello = await self._hello()
        if hello is None:
            return
        codecs = [CODECS[name] for name in hello.codecs if name in CODECS]
        if hello.codecs and not codecs:
            text = f"codecs: none of {', '.join(hello.codecs)[:80]} is known; allowed: {', '.join(CODECS)}"
            error = protocol.ProtocolError("bad_request", text, field="codecs")
            await self._refuse(error)
            return
        if codecs:
            if hello.resume is not None:
                self.broadcast.sessions.take_over(hello.resume.session)
            if (place := self.broadcast.reserve("ws")) is None:
                self.context.counters["refused"] += 1
                busy = protocol.ProtocolError("busy", "this station is full", retry_after_ms=MIN_RETRY_S * 1000)
                await self._refuse(busy, protocol.Bye(reason="full", reconnect_ms=MIN_RETRY_S * 1000))
                return
            self.place = held.enter_context(place)
        started = time.monotonic()
        try:
            with self.broadcast.joined(self.member):
                if self.place is None:
                    self._welcome(hello, None, None)
                    await self._messages()
                else:
                    await self._stream(hello, codecs, self.place)
        except EncoderError as error:
            retry_ms = round(error.retry_s * 1000)
            busy = protocol.ProtocolError("busy", str(error), field="codecs", retry_after_ms=retry_ms)
            await self._refuse(busy, protocol.Bye(reason=str(error), reconnect_ms=retry_ms))
        except StationEndedError as error:
            self.member.tell(protocol.Bye(reason=str(error), reconnect_ms=None))
        finally:
            self.inputs.leave(self.broadcast, self.member)
            self.queue_changes.clear()
            if self.queue_task is not None:
                self.queue_task.cancel()
            for turn in self.request_turns:
                turn.cancel()
            self.end_steering()
            logs.event(
                "socket closed",
                level=logging.DEBUG,
                station=self.broadcast.station.name,
                seconds=round(time.monotonic() - started, 1),
                skips=self.listener.skips,
            )
        await self.socket.close()

    async def _feed(self, codecs: list[protocol.CodecName], place: Place) -> tuple[protocol.CodecName, Feed]:
        """Feed of the client's first codec with a running encoder. Raises the first EncoderError if there is none."""
        first: EncoderError | None = None
        for codec in codecs:
            try:
                return codec, await place.feed(codec)
            except EncoderError as error:
                first = first or error
        assert first is not None
        raise first

    async def _stream(self, hello: protocol.Hello, codecs: list[protocol.CodecName], place: Place) -> None:
        broadcast = self.broadcast
        codec, feed = await self._feed(codecs, place)
        frame_ms = broadcast.frame_ms(codec, steering=hello.steer)
        fanout = feed.fanout(f"v1-{codec}", frame_ms)
        epoch = broadcast.station.epoch
        session = broadcast.sessions.open(fanout.number, self._resumed_elsewhere, epoch)
        try:
            resume = hello.resume
            after = None if resume is None else self._last_received(resume, fanout)
            self._welcome(hello, codec, fanout, session=session, frame_ms=frame_ms, resumed=after is not None)
            self.listener.gap = resume is not None and after is None
            burst = broadcast.burst_samples(steering=hello.steer)
            if hello.burst_ms is not None:
                burst = hello.burst_ms * SAMPLES_PER_MS
            place.attach(fanout, self.listener, burst_samples=burst, after=after)
            await self._messages()
        finally:
            broadcast.sessions.leave(session)

    def _last_received(self, resume: protocol.Resume, fanout: Fanout) -> int | None:
        """Number of the client's last frame; None if it cannot continue there.

        The session of another server (a relay, a worker) is valid by the position, if both have the same audio.
        """
        broadcast = self.broadcast
        if broadcast.sessions.resume(resume.session, fanout.number) and fanout.can_resume(resume.last_seq):
            return resume.last_seq
        if resume.sample_pos is None or epoch_of(resume.session) != broadcast.station.epoch:
            return None
        found = fanout.seq_before(resume.sample_pos)
        return found if found is not None and fanout.can_resume(found) else None

    def _resumed_elsewhere(self) -> None:
        if self.place is not None:
            self.place.give_back()
        self.listener.close("resumed")

    async def _hello(self) -> protocol.Hello | None:
        """Receive the client's hello; None if there is no valid one (the socket is then closed)."""
        offered = self.request.headers.get("Sec-WebSocket-Protocol")
        if offered is not None and self.socket.ws_protocol is None:
            await self._refuse(
                protocol.ProtocolError(
                    "unsupported_version", f"subprotocol {offered[:80]}; allowed: {protocol.SUBPROTOCOL}"
                )
            )
            return None
        try:
            async with asyncio.timeout(HELLO_S):
                message = await self.receive()
        except TimeoutError:
            await self._refuse(protocol.ProtocolError("bad_request", f"no hello within {HELLO_S:g} s"))
            return None
        if message.type is not WSMsgType.TEXT:
            if message.type is WSMsgType.BINARY:
                await self._refuse(protocol.ProtocolError("bad_request", "the first message must be hello"))
            return None
        try:
            hello = self._decode(message.data)
            if not isinstance(hello, protocol.Hello):
                raise protocol.ProtocolError("bad_request", "the first message must be hello")
            protocol.negotiate(hello.v)
            await self._enter(hello)
        except protocol.ProtocolError as error:
            await self._refuse(error)
            return None
        return hello

    async def _enter(self, hello: protocol.Hello) -> None:
        """Set the client's rights. Raises ProtocolError if it may not listen, or after many wrong tokens."""
        upstream, station, token = self.context.hub.upstream, self.broadcast.station, hello.token
        try:
            if upstream is None:
                await self.context.learn_token(self.request, token)
                role = self.context.grant(self.request, token)
            else:
                if hello.relay is not None and not upstream.live:
                    raise protocol.ProtocolError("busy", "this relay has lost its server", retry_after_ms=2000)
                rights = await relayed_rights(self.context, upstream, self.request, station, token, self.member.tell)
                role = rights.role
        except web.HTTPTooManyRequests as locked_out:
            retry_ms = 1000 * int(locked_out.headers["Retry-After"])
            text = "too many wrong tokens from this address"
            raise protocol.ProtocolError("rate_limited", text, field="token", retry_after_ms=retry_ms) from None
        if role is None:
            raise protocol.ProtocolError("unauthorised", "this token is not valid here", field="token")
        self.role = role
        self.permit(role, token)
        if upstream is not None:
            self.pass_on(rights)

    def _welcome(
        self,
        hello: protocol.Hello,
        codec: protocol.CodecName | None,
        fanout: Fanout | None,
        *,
        session: str = "",
        frame_ms: int = 0,
        resumed: bool = False,
    ) -> None:
        station = self.broadcast.station
        pos = station.sample_pos
        if fanout is not None and fanout.next_seq > fanout.first_seq:
            pos = fanout.frame(fanout.next_seq - 1).sample_pos
        self.member.tell(
            protocol.Welcome(
                v=protocol.negotiate(hello.v),
                session=session,
                role=self.role.value,
                station=station.name,
                sample_rate=protocol.SAMPLE_RATE,
                channels=protocol.CHANNELS,
                codec=codec,
                frame_ms=frame_ms,
                sample_pos=pos,
                rev=station.rev,
                state=station.state,
                limits=station.limits(),
                caps=station.caps(),
                resumed=resumed,
                reason=self.gate.refusal,
                path=self.context.path,
                queue=station.queued(),
                requests=station.requested(),
            )
        )
        self.member.tell(station.now())

    async def _messages(self) -> None:
        """Read messages until the client leaves, violates the protocol, or is disconnected."""
        while True:
            message = await self.receive()
            received = time.monotonic()
            if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                return
            if message.type is WSMsgType.BINARY and self.line is not None and self.line.hears:
                self.line.send(message.data)
                continue
            if message.type is WSMsgType.BINARY and self.inputs.takes(self.broadcast, self.member):
                self.inputs.frame(self.broadcast, self.member, message.data)
                continue
            if not self.bucket.take():
                error = protocol.ProtocolError("rate_limited", "too many messages")
                self.member.tell(error.reply())
                self.member.tell(protocol.Bye(reason="too many messages", reconnect_ms=MIN_RETRY_S * 1000))
                return
            if message.type is WSMsgType.BINARY:
                self.member.tell(protocol.ProtocolError("bad_request", NO_INPUT).reply())
            elif not self._handle(message.data, received):
                return

    def say_goodbye(self, reason: str) -> None:
        self.listener.send_control(bye_frame(reason, self.context.connections.open))

    def _handle(self, data: str, received: float) -> bool:
        """Answer one message; False for ``bye``."""
        try:
            message = self._decode(data)
            match message:
                case protocol.Steer():
                    if self.context.tracing is not None:
                        self.context.tracing.arrived(self.member.number, message.id)
                    self.gate.steer(message)
                case protocol.Transport():
                    self.gate.transport(message)
                case protocol.Queue():
                    self.gate.check(message.id)
                    self._change_queue(message)
                case protocol.Request():
                    self._change_requests(message)
                case protocol.Input():
                    self.gate.check(message.id)
                    if self.line is not None:
                        self.line.send(message)
                    else:
                        self.inputs.handle(self.broadcast, self.member, message)
                case protocol.Clock():
                    reply = protocol.ClockReply(
                        t0=message.t0,
                        t1=received * 1000,
                        t2=time.monotonic() * 1000,
                        sample_pos=self.broadcast.station.sample_pos,
                    )
                    self.member.tell(reply)
                case protocol.Stats():
                    self.context.counters["client_underruns"] += max(0, message.underruns - self.underruns)
                    self.underruns = message.underruns
                case protocol.Bye():
                    return False
                case protocol.Hello():
                    raise protocol.ProtocolError("bad_request", "hello was sent already")
        except protocol.ProtocolError as error:
            self.context.counters["rejected"] += 1
            self.member.tell(error.reply())
        return True

    def _change_queue(self, message: protocol.Queue) -> None:
        if not self.queueing.take():
            retry_ms = round(self.queueing.wait_s() * 1000)
            raise protocol.ProtocolError(
                "rate_limited", "too many changes of the queue", id=message.id, retry_after_ms=retry_ms
            )
        if self.line is not None:
            self.line.send(message)
            return
        if len(self.queue_changes) >= MOST_WAITING:
            text = "too many changes of the queue wait to be checked"
            raise protocol.ProtocolError("rate_limited", text, id=message.id, retry_after_ms=2000)
        self.queue_changes.append(message)
        if self.queue_task is None:
            self.queue_task = asyncio.create_task(self._change_queue_in_order(), name="change-queue")

    async def _change_queue_in_order(self) -> None:
        """Make the changes that wait, one after another; the prompt hook may take its time."""
        try:
            while self.queue_changes:
                message = self.queue_changes.popleft()
                try:
                    changed = await changed_queue(self.context, self.broadcast.station, message, way="socket")
                    self.member.tell(protocol.QueueState(queue=changed, id=message.id))
                except protocol.ProtocolError as error:
                    self.context.counters["rejected"] += 1
                    self.member.tell(error.reply(message.id))
        finally:
            self.queue_task = None

    def _change_requests(self, message: protocol.Request) -> None:
        if self.line is not None:
            self.line.send(message)
            return
        if len(self.request_turns) >= REQUESTS_WAITING:
            raise protocol.ProtocolError("rate_limited", "too many requests", id=message.id, retry_after_ms=1000)
        turn = asyncio.create_task(self._request_turn(message), name="request")
        self.request_turns.add(turn)
        turn.add_done_callback(self.request_turns.discard)

    async def _request_turn(self, message: protocol.Request) -> None:
        """Answer a message about requests; the prompt hook may take its time."""
        client = self.context.asked(self.request).address
        try:
            changed = await changed_requests(
                self.context,
                self.broadcast,
                message,
                client=client,
                refusal=self.gate.refusal,
                tell=self._tell_member,
                way="socket",
            )
            self.member.tell(protocol.RequestsState(requests=changed, id=message.id))
        except protocol.ProtocolError as error:
            self.context.counters["rejected"] += 1
            self.member.tell(error.reply(message.id))

    def _tell_member(self, message: protocol.ServerMessage) -> None:
        if self.member in self.broadcast.members:
            self.member.tell(message)

    def _decode(self, data: str) -> protocol.ClientMessage:
        limits = self.context.config.limits
        return protocol.decode_client(data, message_bytes=limits.message_bytes, prompt_chars=limits.prompt_chars)

    async def _refuse(self, error: protocol.ProtocolError, bye: protocol.Bye | None = None) -> None:
        self.context.counters["rejected"] += 1
        self.member.tell(error.reply())
        self.member.tell(bye or protocol.Bye(reason=error.message, reconnect_ms=None))
        await self.socket.close(code=WSCloseCode.POLICY_VIOLATION)
