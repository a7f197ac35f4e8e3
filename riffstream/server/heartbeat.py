"""Finds WebSocket clients that are gone without a word: the server pings, and a client that stays silent is closed.

TCP alone does not notice them. The kernel of a frozen process still acknowledges; a machine without network is given up
after a quarter of an hour. Streams over HTTP have no ping; for them, :func:`watch_peers` sets the kernel's timeouts.

Why not aiohttp's ``heartbeat``: it allows half an interval for the pong, and the ping waits behind all audio that a
slow client has not read yet, so that it closes clients that are slow but alive. It also takes any pong as an answer.

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

SLICE = 256  # visits before other work gets its turn
PING, PONG = 9, 10


class Heartbeat:
    """Visits every socket four times in ``silence_s``, pings the silent ones and closes the dead ones.

    A socket is alive where a message or a ping came from it, or the pong to one of our pings (an unsolicited pong says
    nothing: some clients send them and read nothing), or where a full buffer has drained. It is closed between 0.47 and
    1 times ``silence_s`` after it died. A client that says something once in a quarter of that time, as players do with
    ``clock``, is never pinged.

    Args:
        silence_s: the longest silence of a client, in seconds.
        clock: monotonic seconds.

    Attributes:
        closed: sockets closed so far.
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
        """Watch a connection meanwhile."""
        self._watched[listener] = _Watch(self._clock())
        try:
            yield
        finally:
            self._watched.pop(listener, None)

    async def receive(self, socket: web.WebSocketResponse, listener: Listener) -> WSMessage:
        """The next message that is no ping or pong. The socket is made with ``autoping=False``."""
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
        """Visit until cancelled."""
        while True:
            await asyncio.sleep(self.period_s / 20)
            while self.visit():
                await asyncio.sleep(0)

    def visit(self) -> bool:
        """Visit the sockets that are due; False where none is left."""
        now = self._clock()
        if now - self._visited_at > self.period_s:  # this process slept, and has not read what came meanwhile
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
    """When a socket was visited and last seen alive, and the pings that it has not answered."""

    __slots__ = ("pings", "seen_at", "visited_at")

    def __init__(self, now: float) -> None:
        self.visited_at = self.seen_at = now
        self.pings: list[bytes] = []


def watch_peers(sock: socket.socket, silence_s: float) -> None:
    """Have the kernel give up connections whose peer acknowledges nothing, or takes nothing, for 0.6 ``silence_s``.

    Args:
        sock: the listening socket, from which connections inherit (on Linux).
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", max(1, round(0.4 * silence_s))),
        ("TCP_KEEPINTVL", max(1, round(0.1 * silence_s))),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", round(600 * silence_s)),
    ):
        if hasattr(socket, name):  # else its own defaults, and ``limits.close_s`` for those that receive audio
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
