"""``/ws/{station}/plain``: for scripts, games and microcontrollers; ten lines of code hear it and steer it.

No hello. Binary frames are bare audio (48 kHz s16le stereo, or ``?codec=mp3``); a text frame is a prompt to steer to;
replies are single lines of text that begin with ``now``, ``scheduled``, ``applied``, ``superseded`` or ``error``.
"""

from __future__ import annotations

from aiohttp import WSCloseCode, WSMsgType, web

from riffstream import protocol
from riffstream.server.context import CONTEXT, Context, narrow_send_buffer, refuse
from riffstream.server.fanout import Fanout
from riffstream.server.frames import websocket_frame
from riffstream.server.limits import TokenBucket
from riffstream.server.listener import Listener
from riffstream.server.rooms import Member, Room
from riffstream.server.sockets import CLOSE_S, MESSAGE_BURST, MESSAGE_INTERVAL_S
from riffstream.server.steering import SteerGate

__all__ = ["plain_handler"]

CODECS = {"pcm": "pcm_s16", "mp3": "mp3"}


async def plain_handler(request: web.Request) -> web.StreamResponse:
    """One plain connection."""
    context = request.app[CONTEXT]
    room = context.room(request.match_info["station"])
    name = request.query.get("codec", "pcm")
    if name not in CODECS:
        raise refuse(web.HTTPBadRequest, "bad_request", f"codec is {name[:20]!r}; allowed: pcm or mp3")
    role = context.grant(request)
    if role is None:
        raise refuse(web.HTTPUnauthorized, "unauthorised", "send Authorization: Bearer TOKEN")
    if room.full:
        context.counters["refused"] += 1
        raise refuse(web.HTTPServiceUnavailable, "busy", "this station is full", retry_after_s=5)
    address = context.admit(request)
    try:
        narrow_send_buffer(request, context.config.limits.send_buffer_bytes)
        socket = web.WebSocketResponse(
            compress=False, max_msg_size=context.config.limits.message_bytes + 1, timeout=CLOSE_S
        )
        await socket.prepare(request)
        assert request.transport is not None
        fanout = (await room.feed(CODECS[name])).fanout("socket", room.config.timeline.frame_ms)
        refusal = context.refusal(request, role, room.station)
        await _Plain(context, room, refusal, socket, Listener(request.transport, policy=room.policy), fanout).run()
        return socket
    finally:
        context.connections.leave(address)


class _Plain:
    """The life of one plain socket."""

    def __init__(
        self,
        context: Context,
        room: Room,
        refusal: str | None,
        socket: web.WebSocketResponse,
        listener: Listener,
        fanout: Fanout,
    ) -> None:
        self.context, self.room, self.socket = context, room, socket
        self.listener, self.fanout = listener, fanout
        self.member = Member(told=self._told)
        self.bucket = TokenBucket(MESSAGE_INTERVAL_S, MESSAGE_BURST)
        self.steers = 0
        limits = context.config.limits
        self.gate = SteerGate(
            TokenBucket(limits.steer_interval_s, limits.steer_burst),
            lambda message: room.change(self.member, message),
            self._told,
        )
        self.gate.refusal = refusal

    async def run(self) -> None:
        """Audio until the client leaves; each text is a prompt."""
        room = self.room
        room.members.add(self.member)
        self.room.leavers.add(self.leave)
        try:
            with room.listening(self.fanout, self.listener, "plain"):
                self._told(room.station.now())
                self.fanout.attach(self.listener, burst_samples=room.burst_samples(steering=True))
                while (message := await self.socket.receive()).type in (WSMsgType.TEXT, WSMsgType.BINARY):
                    if not self.bucket.take():
                        self._line("error rate_limited: too many messages")
                        break
                    if message.type is WSMsgType.TEXT:
                        self._prompt(message.data)
                    else:
                        self._line("error bad_request: send a prompt as text")
        finally:
            self.gate.close()
            self.room.leavers.discard(self.leave)
            room.members.discard(self.member)
        await self.socket.close()

    async def leave(self, reason: str) -> None:
        """Say goodbye and close."""
        self._line(f"bye {reason}")
        self.room.members.discard(self.member)
        self.fanout.detach(self.listener)
        await self.socket.close(code=WSCloseCode.SERVICE_RESTART)

    def _prompt(self, text: str) -> None:
        try:
            prompt = protocol.clean_text(text, limit=self.context.config.limits.prompt_chars, field="prompt")
            if not prompt:
                return
            self.steers += 1
            self.gate.steer(protocol.Steer(id=str(self.steers), prompts=(protocol.Prompt(text=prompt),)))
        except protocol.ProtocolError as error:
            self._told(error.reply())

    def _told(self, message: protocol.ServerMessage) -> None:
        match message:
            case protocol.Now():
                self._line(f"now {' + '.join(part.text for part in message.state.prompts)}")
            case protocol.Scheduled():
                self._line(f"scheduled rev {message.rev} in {message.audible_in_ms / 1000:.2f} s")
            case protocol.Applied():
                self._line(f"applied rev {message.rev} at sample {message.audible_at}")
            case protocol.Superseded():
                self._line("superseded by a later prompt")
            case protocol.Rejected():
                self._line(f"error {message.code}: {message.message}")
            case _:
                pass

    def _line(self, text: str) -> None:
        self.listener.send_control(websocket_frame(1, " ".join(text.split()).encode()))
