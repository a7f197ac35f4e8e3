"""``/ws/{station}/plain``: for scripts, games and microcontrollers; ten lines of code hear it and steer it.

No hello. Binary frames are bare audio (48 kHz s16le stereo, or ``?codec=mp3``); a text frame is a prompt to steer to;
replies are single lines of text that begin with ``now``, ``scheduled``, ``applied``, ``superseded`` or ``error``.
"""

from __future__ import annotations

from aiohttp import WSCloseCode, WSMsgType, web

from riffstream import protocol
from riffstream.server.broadcast import Broadcast, Member, Place
from riffstream.server.context import CONTEXT, Context, narrow_send_buffer, refuse
from riffstream.server.fanout import Listener, websocket_frame
from riffstream.server.limits import TokenBucket
from riffstream.server.sockets import CLOSE_S, MESSAGE_BURST, MESSAGE_INTERVAL_S
from riffstream.server.steering import SteerGate
from riffstream.station.outlet import EncoderError, StationEndedError

__all__ = ["plain_handler"]

CODECS = {"pcm": "pcm_s16", "mp3": "mp3"}
DATA = (WSMsgType.TEXT, WSMsgType.BINARY)


async def plain_handler(request: web.Request) -> web.StreamResponse:
    """One plain connection."""
    context = request.app[CONTEXT]
    broadcast = context.broadcast(request.match_info["station"])
    name = request.query.get("codec", "pcm")
    if name not in CODECS:
        raise refuse(web.HTTPBadRequest, "bad_request", f"codec is {name[:20]!r}; allowed: pcm or mp3")
    role = context.grant(request)
    if role is None:
        raise refuse(web.HTTPUnauthorized, "unauthorised", "send Authorization: Bearer TOKEN")
    with context.admitted(request), context.reserved(broadcast, "plain") as place:
        narrow_send_buffer(request, context.config.limits.send_buffer_bytes)
        socket = web.WebSocketResponse(
            compress=False,
            max_msg_size=context.config.limits.message_bytes + 1,
            timeout=CLOSE_S,
            autoping=False,  # Heartbeat.receive answers
        )
        await socket.prepare(request)
        assert request.transport is not None
        refusal = context.refusal(request, role, broadcast.station)
        listener = Listener(request.transport, policy=broadcast.policy)
        await _Plain(context, broadcast, refusal, socket, listener, place).run(CODECS[name])
        return socket


class _Plain:
    """The life of one plain socket."""

    def __init__(
        self,
        context: Context,
        broadcast: Broadcast,
        refusal: str | None,
        socket: web.WebSocketResponse,
        listener: Listener,
        place: Place,
    ) -> None:
        self.context, self.broadcast, self.socket = context, broadcast, socket
        self.listener, self.place = listener, place
        listener.on_closed = self._lost
        self.member = Member(self.leave, told=self._told)
        self.bucket = TokenBucket(MESSAGE_INTERVAL_S, MESSAGE_BURST)
        self.steers = 0
        limits = context.config.limits
        self.gate = SteerGate(
            TokenBucket(limits.steer_interval_s, limits.steer_burst),
            lambda message: broadcast.change(self.member, message),
            self._told,
        )
        self.gate.refusal = refusal

    async def run(self, codec: str) -> None:
        """Audio until the client leaves; each text is a prompt."""
        broadcast, heartbeat = self.broadcast, self.context.heartbeat
        try:
            with heartbeat.watching(self.listener), broadcast.joined(self.member):
                fanout = (await self.place.feed(codec)).fanout("socket", broadcast.config.timeline.frame_ms)
                self._told(broadcast.station.now())
                self.place.attach(fanout, self.listener, burst_samples=broadcast.burst_samples(steering=True))
                while (message := await heartbeat.receive(self.socket, self.listener)).type in DATA:
                    if not self.bucket.take():
                        self._line("error rate_limited: too many messages")
                        break
                    if message.type is WSMsgType.TEXT:
                        self._prompt(message.data)
                    else:
                        self._line("error bad_request: send a prompt as text")
        except EncoderError as error:
            self._line(f"error busy: {error}")
            self._line("bye no sound")
        except StationEndedError as error:
            self._line(f"bye {error}")
        finally:
            self.gate.close()
        await self.socket.close()

    async def leave(self, reason: str) -> None:
        """Say goodbye and close."""
        self._line(f"bye {reason}")
        self.broadcast.members.discard(self.member)
        self.place.give_back()
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

    def _lost(self, reason: str) -> None:
        self.context.disconnected[reason] += 1

    def _line(self, text: str) -> None:
        self.listener.send_control(websocket_frame(1, " ".join(text.split()).encode()))
