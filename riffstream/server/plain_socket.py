"""``/ws/{station}/plain``: a simple socket for scripts, games and microcontrollers, usable with ten lines of code.

There is no hello. Binary frames are bare audio (48 kHz s16le stereo, or ``?codec=mp3``). A text frame is a new prompt.
Replies are single lines of text that begin with ``now``, ``scheduled``, ``applied``, ``superseded`` or ``error``.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from aiohttp import WSMsgType, web

from riffstream import protocol
from riffstream.server.access import authorization_token
from riffstream.server.broadcast import Broadcast, Place
from riffstream.server.connection import SocketConnection, open_socket
from riffstream.server.context import CONTEXT, Context, refuse
from riffstream.server.fanout import websocket_frame
from riffstream.server.openapi import Answer, described
from riffstream.server.relayed import relayed_rights
from riffstream.server.roles import Role
from riffstream.station.outlet import EncoderError, StationEndedError

__all__ = ["plain_handler"]

CODECS = {"pcm": "pcm_s16", "mp3": "mp3"}
DATA = (WSMsgType.TEXT, WSMsgType.BINARY)


class PlainQuery(msgspec.Struct):
    """Parameters of the plain socket."""

    codec: Annotated[Literal["pcm", "mp3"], msgspec.Meta(description="pcm: 48 kHz s16le stereo")] = "pcm"


@described(
    "sockets",
    Answer(None, "binary frames are audio, a text frame is a prompt, answers are lines of text", 101),
    errors=(400, 403, 503),
    query=PlainQuery,
    right="listen",
)
async def plain_handler(request: web.Request) -> web.StreamResponse:
    """Open the plain WebSocket for scripts, games and microcontrollers."""
    context = request.app[CONTEXT]
    broadcast = context.broadcast(request.match_info["station"])
    name = request.query.get("codec", "pcm")
    if name not in CODECS:
        raise refuse(web.HTTPBadRequest, "bad_request", f"codec is {name[:20]!r}; allowed: pcm or mp3")
    role = context.listening(request)
    with context.admitted(request), context.reserved(broadcast, "plain") as place:
        socket = await open_socket(request, context)
        connection = _Plain(context, broadcast, request, socket)
        await connection.enter(role)
        await connection.run(CODECS[name], place)
        return socket


class _Plain(SocketConnection):
    """One open plain socket."""

    def __init__(
        self, context: Context, broadcast: Broadcast, request: web.Request, socket: web.WebSocketResponse
    ) -> None:
        super().__init__(context, broadcast, request, socket, told=self._told)
        self.steers = 0

    async def enter(self, role: Role) -> None:
        """Set the right to steer."""
        if (upstream := self.context.hub.upstream) is None:
            self.permit(role)
            return
        token = authorization_token(self._request.headers.get("Authorization"))
        station = self.broadcast.station
        try:
            self.pass_on(await relayed_rights(self.context, upstream, self._request, station, token, self.member.tell))
        except protocol.ProtocolError as error:
            self.gate.refusal = error.message

    async def run(self, codec: str, place: Place) -> None:
        """Send audio until the client leaves; each text frame is a prompt."""
        broadcast, self.place = self.broadcast, place
        try:
            with self.context.heartbeat.watching(self.listener), broadcast.joined(self.member):
                fanout = (await place.feed(codec)).fanout("socket", broadcast.config.timeline.frame_ms)
                self._told(broadcast.station.now())
                place.attach(fanout, self.listener, burst_samples=broadcast.burst_samples(steering=True))
                while (message := await self.receive()).type in DATA:
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
            self.end_steering()
            self.close_line()
        await self.socket.close()

    def say_goodbye(self, reason: str) -> None:
        self._line(f"bye {reason}")

    def _prompt(self, text: str) -> None:
        try:
            prompt = protocol.clean_text(text, limit=self.context.config.limits.prompt_chars, field="prompt")
            if not prompt:
                return
            self.steers += 1
            self.gate.steer(protocol.Steer(id=str(self.steers), prompts=(protocol.Prompt(text=prompt),)))
        except protocol.ProtocolError as error:
            self.context.counters["rejected"] += 1
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
