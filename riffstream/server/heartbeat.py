"""Detection of dead WebSocket clients: the server sends pings and closes clients that do not answer.

TCP alone does not detect them: the kernel of a frozen process still acknowledges, and a machine without network times
out after 15 minutes. HTTP streams have no ping; :func:`watch_peers` sets the kernel's timeouts for them.

aiohttp's ``heartbeat`` does not fit: it allows half an interval for the pong, but the ping waits behind all unread
audio of a slow client, so that slow clients are closed. It also accepts any pong as an answer.

Threading model: everything runs on the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import time
from collections.abc import Callable, Iterator

from aiohttp import WSMessage, WSMsgType, web

from riffstream.server.fanout import Listener, websocket_frame

__all__ = ["Heartbeat", "watch_peers"]

SLICE = 256  # visits without a pause for other work
PING, PONG = 9, 10


class Heartbeat:
    """Watchdog of all sockets: it visits each four times in ``silence_s``, pings silent ones and closes dead ones.

    Signs of life are a message, a ping, the pong to one of our pings, and a full buffer that has drained. (An
    unsolicited pong is none: some clients send them without reading.) A dead socket is closed after 0.47 to 1 times
    ``silence_s``. A client that sends a message in each quarter of that time, such as the player's ``clock``, is never
    pinged.

    Args:
        silence_s: longest silence of a client, seconds.
        clock: monotonic clock, seconds.

    Attributes:
        closed: number of sockets closed so far.
    """

    def __init__(self, silence_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.silence_s = silence_s
        self.period_s = silence_s / 4.2
        self.closed = 0
        self._clock = clock
        self._watched: dict[Listener, _Watch] = {}  # the next to visit first
        self._visited_at = clock()

    def __len__(self) -> int:
        return len(self._watched)

    @contextlib.contextmanager
    def watching(self, listener: Listener) -> Iterator[None]:
        """Watch a connection during the ``with`` block."""
        self._watched[listener] = _Watch(self._clock())
        try:
            yield
        finally:
            self._watched.pop(listener, None)

    async def receive(self, socket: web.WebSocketResponse, listener: Listener) -> WSMessage:
        """Receive the next message other than ping and pong. The socket must have ``autoping=False``."""
        while True:
            message = await socket.receive()
            if message.type is WSMsgType.PONG:
                watch = self._watched.get(listener)
                if watch is not None and bytes(message.data) in watch.pings:
                    listener.alive = True
                continue
            listener.alive = True
            if message.type is not WSMsgType.PING:
                return message
            listener.send_control(websocket_frame(PONG, bytes(message.data)))

    async def run(self) -> None:
        """Visit sockets until cancelled."""
        while True:
            await asyncio.sleep(self.period_s / 20)
            while self.visit():
                await asyncio.sleep(0)

    def visit(self) -> bool:
        """Visit the sockets that are due; False if none is left."""
        now = self._clock()
        if now - self._visited_at > self.period_s:  # this process was suspended and has unread messages
            for watch in self._watched.values():
                watch.seen_at = now
        self._visited_at = now
        for _ in range(SLICE):
            if not self._watched:
                return False
            listener, watch = next(iter(self._watched.items()))
            if now - watch.visited_at < self.period_s:
                return False
            del self._watched[listener]
            if listener.alive:
                listener.alive, watch.seen_at = False, now
                watch.pings.clear()
            elif now - watch.seen_at > 2.5 * self.period_s:
                self.closed += 1
                listener.close("silent")
                continue
            else:
                watch.pings.append(secrets.token_bytes(4))
                listener.send_control(websocket_frame(PING, watch.pings[-1]))
            watch.visited_at = now
            self._watched[listener] = watch
        return True


class _Watch:
    """State of a watched socket: last visit, last sign of life, unanswered pings."""

    __slots__ = ("pings", "seen_at", "visited_at")

    def __init__(self, now: float) -> None:
        self.visited_at = self.seen_at = now
        self.pings: list[bytes] = []


def watch_peers(sock: socket.socket, silence_s: float) -> None:
    """Set kernel timeouts: connections whose peer acknowledges or reads nothing for 0.6 ``silence_s`` are closed.

    Args:
        sock: the listening socket; connections inherit its options (on Linux).
        silence_s: longest silence of a client, seconds.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", max(1, round(0.4 * silence_s))),
        ("TCP_KEEPINTVL", max(1, round(0.1 * silence_s))),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", round(600 * silence_s)),
    ):
        if hasattr(socket, name):  # otherwise the system's defaults and ``limits.close_s`` apply
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
