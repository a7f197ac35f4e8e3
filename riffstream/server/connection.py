"""Connections of listeners: their place in a broadcast, and their end. Sockets also steer.

Threading model: everything runs on the event loop.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable

from aiohttp import WSCloseCode, WSMessage, web

from riffstream import protocol
from riffstream.config import LimitsSettings
from riffstream.server.broadcast import Broadcast, Member, Place
from riffstream.server.context import Context, narrow_send_buffer
from riffstream.server.fanout import DropPolicy, Listener
from riffstream.server.interfaces import Line
from riffstream.server.limits import TokenBucket
from riffstream.server.prompt_queue import PromptQueue
from riffstream.server.relayed import Rights
from riffstream.server.roles import Role
from riffstream.server.steering import SteerGate

__all__ = ["Connection", "SocketConnection", "open_socket"]

CLOSE_S = 2.0
# Far above any client's needs: it limits the cost of a flood without affecting normal bursts.
MESSAGE_INTERVAL_S, MESSAGE_BURST = 1 / 30, 100
DESK_BURST = 10  # steers of the desk alone that may follow each other at once

Told = Callable[[protocol.ServerMessage], object]


class Connection(ABC):
    """Base class of a listener's connection.

    Args:
        context: state of the server.
        broadcast: the station's broadcast.
        transport: transport for its audio.
        told: function that receives the broadcast's messages; None: they are sent as WebSocket frames.
        policy: limits for slow reading; None: the broadcast's.

    Attributes:
        listener: its state in the fan-out.
        member: its membership in the broadcast, for messages.
        place: its place among the listeners; None without one.
    """

    def __init__(
        self,
        context: Context,
        broadcast: Broadcast,
        transport: asyncio.Transport,
        *,
        told: Told | None = None,
        policy: DropPolicy | None = None,
    ) -> None:
        self.context, self.broadcast = context, broadcast
        self.listener = Listener(transport, policy=policy or broadcast.policy, on_closed=self.lost)
        self.member = Member(self.leave, send=self.listener.send_control if told is None else None, told=told)
        self.place: Place | None = None

    async def leave(self, reason: str) -> None:
        """End the connection cleanly after a last message, because the server or the station ends."""
        self.say_goodbye(reason)
        self.broadcast.members.discard(self.member)
        if self.place is not None:
            self.place.give_back()
        await self.hang_up()

    def lost(self, reason: str) -> None:
        """Handle a connection that the server has closed."""
        self.context.disconnected[reason] += 1

    def say_goodbye(self, reason: str) -> None:  # noqa: B027  (streams of bare audio have no messages)
        """Send the last message."""

    @abstractmethod
    async def hang_up(self) -> None:
        """Close the connection; its handler then ends."""


class SocketConnection(Connection):
    """Base class of a WebSocket, whose client may also steer.

    Attributes:
        bucket: rate limit of all its messages.
        gate: rate limiter of its changes.
        line: its connection to the server behind this relay; None at a server that makes its stations.
    """

    def __init__(
        self,
        context: Context,
        broadcast: Broadcast,
        request: web.Request,
        socket: web.WebSocketResponse,
        told: Told | None = None,
    ) -> None:
        assert request.transport is not None
        super().__init__(context, broadcast, request.transport, told=told)
        self.socket = socket
        self._request = request
        self.bucket = TokenBucket(MESSAGE_INTERVAL_S, MESSAGE_BURST)
        self.line: Line | None = None
        limits: LimitsSettings | protocol.Limits = context.config.limits
        if context.hub.upstream is not None:
            limits = broadcast.station.limits()  # those that decide
        steers = TokenBucket(limits.steer_interval_s, limits.steer_burst)
        desk = TokenBucket(limits.desk_interval_s, DESK_BURST)
        self.gate = SteerGate(steers, desk, self._apply, self.member.tell)
        self._prompts = PromptQueue(
            context.moderation,
            station=broadcast.station.name,
            way="plain" if told is not None else "socket",
            apply=lambda steer: broadcast.change(self.member, steer),
            tell=self._refused,
        )

    def permit(self, role: Role, token: str | None = None) -> None:
        """Set the right to steer. That of a signed token ends with its validity.

        Args:
            role: the client's role.
            token: the token of its first message, if any; else that of the request's header counts.
        """
        self.gate.refusal = self.context.refusal(self._request, role, self.broadcast.station)
        left_s = self.context.valid_s(self._request, token)
        if left_s is not None:
            self.gate.expire_in(left_s)

    def pass_on(self, rights: Rights) -> None:
        """Pass the client's changes to the server behind this relay, which decides about them."""
        self.line = rights.line
        self.gate.refusal = rights.reason

    def close_line(self) -> None:
        """Close the connection to the server behind this relay, if any."""
        if self.line is not None:
            self.line.close()

    async def receive(self) -> WSMessage:
        """Receive the next message other than ping and pong."""
        return await self.context.heartbeat.receive(self.socket, self.listener)

    async def hang_up(self) -> None:
        await self.socket.close(code=WSCloseCode.SERVICE_RESTART)

    def _apply(self, message: protocol.Steer | protocol.Transport) -> None:
        self.context.counters["steers"] += 1
        if self.line is not None:
            self.line.send(message)
        elif isinstance(message, protocol.Steer):
            self._prompts.put(message)
        else:
            self.broadcast.change(self.member, message)

    def _refused(self, message: protocol.Rejected) -> None:
        self.context.counters["rejected"] += 1
        self.member.tell(message)

    def end_steering(self) -> None:
        """Drop the changes that wait for their turn or for the prompt hook."""
        self.gate.close()
        self._prompts.close()


async def open_socket(request: web.Request, context: Context, *subprotocols: str) -> web.WebSocketResponse:
    """Accept a WebSocket."""
    limits = context.config.limits
    narrow_send_buffer(request, limits.send_buffer_bytes)
    socket = web.WebSocketResponse(
        protocols=subprotocols,
        compress=False,
        max_msg_size=limits.message_bytes + 1,
        timeout=CLOSE_S,
        autoping=False,  # Heartbeat.receive answers
    )
    await socket.prepare(request)
    return socket
