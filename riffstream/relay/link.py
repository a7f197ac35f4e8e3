"""A connection of a relay to its upstream: made again after each loss, with the position.

Threading model: everything runs on the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from riffstream import protocol
from riffstream.errors import RadioError
from riffstream.relay.upstreams import Upstreams

__all__ = ["Link"]

log = logging.getLogger(__name__)

GONE_S = 30.0  # a server that restarts does not have its stations at once


class Link:
    """One connection of a station to the upstream, until :meth:`stop`.

    Args:
        upstreams: the servers.
        station: name of the station.
        hello: makes the first message of each connection.
        welcomed: called with each ``welcome``.
        take: called with each message, and each audio frame.
        lost: called with the reason when a connection ends or cannot be made.
        ended: called with the reason when the other server has ended the station, or has not had it for ``GONE_S``.

    Attributes:
        connects: connections made.
        bytes: received bytes of audio.
    """

    def __init__(
        self,
        upstreams: Upstreams,
        station: str,
        *,
        hello: Callable[[], protocol.Hello],
        welcomed: Callable[[protocol.Welcome], None],
        take: Callable[[protocol.ServerMessage | protocol.AudioFrame], None],
        lost: Callable[[str], None],
        ended: Callable[[str], None],
    ) -> None:
        self.connects = 0
        self.bytes = 0
        self._upstreams, self._station = upstreams, station
        self._hello, self._welcomed, self._take, self._lost, self._ended = hello, welcomed, take, lost, ended
        self._socket: ClientConnection | None = None
        self._given_up = False
        self._task: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        """Whether a connection is open."""
        return self._socket is not None

    def start(self) -> None:
        """Connect in the background."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"relay-{self._station}")

    def stop(self) -> None:
        """Disconnect; no callback follows. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()

    def drop(self, reason: str) -> None:
        """Give up the present connection, because the server is silent; another one follows."""
        if self._socket is not None:
            self._upstreams.failed(self._upstreams.address(), reason)
            self._given_up = True
            self._socket.transport.abort()

    async def send(self, message: protocol.ClientMessage) -> None:
        """Send a message, if there is a connection."""
        if self._socket is not None:
            with contextlib.suppress(ConnectionClosed, OSError):
                await self._socket.send(protocol.encode(message))

    async def _run(self) -> None:
        failures = 0
        gone_since: float | None = None
        clock = asyncio.get_running_loop().time
        while True:
            address = self._upstreams.address(failures)
            try:
                socket, welcome = await self._upstreams.connect(address, self._station, self._hello())
            except RadioError as error:
                failures += 1
                self._upstreams.failed(address, str(error))
                self._lost(str(error))
                is_gone = error.code == "unreachable" and error.retry_after_ms is None
                gone_since = (gone_since or clock()) if is_gone else None
                if gone_since is not None and clock() - gone_since > GONE_S:
                    self._ended("the station is not there any more")
                    return
                await asyncio.sleep(self._upstreams.pause_s(failures, error.retry_after_ms))
                continue
            failures, gone_since = 0, None
            self.connects += 1
            self._socket, self._given_up = socket, False
            self._upstreams.opened(self, address, welcome)
            bye: protocol.Bye | None = None
            try:
                self._guarded(self._welcomed, welcome)
                bye = await self._read(socket)
            finally:
                self._socket = None
                self._upstreams.closed(self)
                socket.transport.abort()
            reason = "the connection was lost" if bye is None else bye.reason
            self._lost(reason)
            if bye is not None and bye.reconnect_ms is None:
                self._ended(reason)
                return
            if len(self._upstreams.addresses) > 1 and (bye is not None or self._given_up):
                failures = 1  # the next server
                continue
            asked_s = 0.0 if bye is None or bye.reconnect_ms is None else bye.reconnect_ms / 1000
            await asyncio.sleep(asked_s + random.uniform(0, self._upstreams.settings.backoff_s / 4))

    async def _read(self, socket: ClientConnection) -> protocol.Bye | None:
        """Read until the connection ends; return the server's last words, if any."""
        with contextlib.suppress(ConnectionClosed, OSError):
            async for data in socket:
                try:
                    if isinstance(data, bytes):
                        self.bytes += len(data)
                        self._guarded(self._take, protocol.unpack_frame(data))
                        continue
                    message = protocol.decode_server(data)
                except protocol.ProtocolError:
                    continue  # a newer server's message
                if isinstance(message, protocol.Bye):
                    return message
                self._guarded(self._take, message)
        return None

    def _guarded(self, call: Callable[[protocol.Welcome], None] | Callable[..., None], value: object) -> None:
        try:
            call(value)  # type: ignore[arg-type]
        except Exception:  # one bad message must not end the stream
            log.exception("station %s: a message of the upstream could not be handled", self._station)
