"""A client's own connection to the upstream, for steering and live input with the client's own token.

Threading model: everything runs on the event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import cast, get_args

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from riffstream import protocol
from riffstream.errors import RadioError
from riffstream.protocol import ProtocolError
from riffstream.relay.upstreams import Upstreams

__all__ = ["ClientLine"]

QUEUE = 256  # messages of a client that wait for the upstream; its rate limit is far below
IDLE_S = 60.0
CODES = get_args(protocol.Code)
ANSWERED = protocol.QueueState | protocol.RequestsState  # told to everybody, with an id to who asked
PASSED = protocol.Scheduled | protocol.Applied | protocol.Superseded | protocol.Rejected | protocol.InputState


class ClientLine:
    """One client's connection to the upstream. It is made at the first message and closed after a minute without use.

    Args:
        upstreams: the servers.
        station: name of the station.
        token: the client's own token, if any.
        address: address of the client, which the upstream counts if it trusts the relay as a proxy.
        tell: receives the answers to the client.

    Attributes:
        hears: whether a live input of this client is open.
    """

    def __init__(
        self,
        upstreams: Upstreams,
        station: str,
        token: str | None,
        address: str,
        tell: Callable[[protocol.ServerMessage], None],
    ) -> None:
        self.hears = False
        self._upstreams, self._station, self._token = upstreams, station, token
        self._address, self._tell = address, tell
        self._waiting: deque[protocol.ClientMessage | bytes] = deque()
        self._open_ids: dict[str, bool] = {}  # unanswered changes; True once scheduled
        self._welcome: protocol.Welcome | None = None
        self._socket: ClientConnection | None = None
        self._something = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._closed = False

    async def open(self) -> protocol.Welcome:
        """Connect and return the upstream's welcome, with the client's role.

        Raises:
            ProtocolError: the upstream refuses, or cannot be reached.
        """
        if self._socket is not None and self._welcome is not None:
            return self._welcome
        hello = protocol.Hello(v=protocol.VERSION, codecs=(), token=self._token, steer=True)
        try:
            address = self._upstreams.address()
            socket, welcome = await self._upstreams.connect(address, self._station, hello, forwarded=self._address)
        except RadioError as error:
            if error.code in CODES:
                code = cast("protocol.Code", error.code)
                raise ProtocolError(code, str(error), field=error.field, retry_after_ms=error.retry_after_ms) from None
            text = "the server behind this relay cannot be reached"
            raise ProtocolError("busy", text, retry_after_ms=2000) from None
        if self._closed:
            socket.transport.abort()
            raise ProtocolError("busy", "the connection is closed")
        self._socket, self._welcome = socket, welcome
        self._reader = asyncio.create_task(self._read(socket), name="relay-line")
        self._begin_to_write()
        return welcome

    def send(self, message: protocol.ClientMessage | bytes) -> None:
        """Pass a message of the client on."""
        if self._closed:
            return
        if isinstance(message, bytes):
            if len(self._waiting) >= QUEUE:
                return  # audio that comes too late is worth nothing
        elif len(self._waiting) >= QUEUE:
            error = ProtocolError("rate_limited", "too many messages", retry_after_ms=1000)
            self._tell(error.reply(getattr(message, "id", "")))
            return
        else:
            self._open_ids[getattr(message, "id", "")] = False
        self._waiting.append(message)
        self._something.set()
        self._begin_to_write()

    def _begin_to_write(self) -> None:
        """Start the writer, which also closes a connection that nobody uses."""
        if self._writer is None:
            self._writer = asyncio.create_task(self._write(), name="relay-line-out")

    def close(self) -> None:
        """Disconnect. Idempotent."""
        self._closed = True
        self._waiting.clear()
        for task in (self._writer, self._reader):
            if task is not None:
                task.cancel()
        self._drop()

    def _drop(self) -> None:
        socket, self._socket = self._socket, None
        if socket is not None:
            socket.transport.abort()

    async def _write(self) -> None:
        while True:
            self._something.clear()
            while self._waiting:
                message = self._waiting[0]
                try:
                    await self.open()
                    assert self._socket is not None
                    await self._socket.send(message if isinstance(message, bytes) else protocol.encode(message))
                except ProtocolError as error:
                    self._refuse_all(error)
                    continue
                except (ConnectionClosed, OSError):  # the reader answers what was sent
                    self._drop()
                    continue
                if self._waiting and self._waiting[0] is message:
                    self._waiting.popleft()
            try:
                async with asyncio.timeout(IDLE_S):
                    await self._something.wait()
            except TimeoutError:
                if not self._open_ids and not self.hears:
                    reader, self._reader = self._reader, None
                    if reader is not None:
                        reader.cancel()
                    self._drop()

    def _refuse_all(self, error: ProtocolError) -> None:
        """Answer the messages that wait."""
        while self._waiting:
            message = self._waiting.popleft()
            if not isinstance(message, bytes):
                self._answer(error.reply(getattr(message, "id", "")))

    async def _read(self, socket: ClientConnection) -> None:
        try:
            async for data in socket:
                if isinstance(data, bytes):
                    continue
                try:
                    message = protocol.decode_server(data)
                except ProtocolError:
                    continue  # a newer server's message
                if isinstance(message, PASSED) or (isinstance(message, ANSWERED) and message.id):
                    self._answer(message)
        except (ConnectionClosed, OSError):
            pass
        if self._socket is socket:
            self._drop()
        waiting = {getattr(each, "id", "") for each in self._waiting if not isinstance(each, bytes)}
        for ident in [each for each in self._open_ids if each not in waiting]:
            text = "the connection to the server behind this relay was lost; look at now before you repeat this"
            self._answer(ProtocolError("busy", text, retry_after_ms=1000).reply(ident))
        if self.hears:
            self._answer(protocol.InputState(status="ended", reason="the server behind this relay was lost"))

    def _answer(self, message: protocol.ServerMessage) -> None:
        if isinstance(message, protocol.InputState):
            self.hears = message.status != "ended"
            self._open_ids.pop(message.id, None)
        elif isinstance(message, protocol.Scheduled):
            self._open_ids[message.id] = True
        elif isinstance(message, protocol.Applied | protocol.Superseded | protocol.Rejected | ANSWERED):
            self._open_ids.pop(message.id, None)
        self._tell(message)
