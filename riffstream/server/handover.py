"""The hand-over of a running server to a new process: its listening sockets, stations and sessions.

1. The new process loads its model, then asks over a Unix socket in ``server.state_dir``.
2. The old one stops accepting, freezes its stations, writes their state, releases its folders, and sends its listening
   sockets. Connections that arrive meanwhile wait in these sockets.
3. The new one continues the stations, accepts the connections, and says so.
4. The old one sends ``bye`` to its clients, waits for their buffers to empty, and ends.

Threading model
  Event loop   everything of :class:`Offer`.
  Any thread   :func:`ask`, which blocks until the old server has answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from riffstream import __version__
from riffstream.config import Config
from riffstream.errors import RiffstreamError
from riffstream.server import logs

__all__ = ["HandoverError", "Offer", "Taking", "ask", "handover_path"]

ASK: Final = b"riffstream hand over 1\n"
SERVING: Final = b"serving\n"
ASK_S: Final = 5.0  # from a connection to its question
ANSWER_S: Final = 60.0  # pushes and archive end, the disk takes the state
SERVING_S: Final = 30.0  # until the new server continues the stations
STOP_S: Final = 10.0  # the same, when the old server is asked to end meanwhile
MOST_SOCKETS: Final = 64
REPLY_BYTES: Final = 4096


class HandoverError(RiffstreamError):
    """The running server cannot hand over; it goes on."""


class _Reply(Struct, frozen=True):
    """Answer of the old server. ``error`` is empty if it has handed over."""

    version: str = __version__
    error: str = ""


def handover_path(config: Config) -> Path | None:
    """Unix socket of the hand-over; None without ``server.state_dir``, or on a system without such sockets."""
    if not config.server.state_dir or not hasattr(socket, "AF_UNIX") or not hasattr(socket, "send_fds"):
        return None
    return Path(config.server.state_dir).expanduser().resolve() / "handover.sock"


class Offer:
    """The offer of a running server to hand over to a process of the same user.

    Args:
        path: the Unix socket. One of an earlier process is replaced.
        give: freezes the server and returns its listening sockets. Raises HandoverError while it can still go on; after
            any other exception it cannot.
        given: called once after ``give`` with True if the new server serves, False if either has failed.
    """

    def __init__(
        self, path: Path, give: Callable[[], Awaitable[Sequence[socket.socket]]], given: Callable[[bool], None]
    ) -> None:
        self._path = path
        self._give, self._given = give, given
        self._socket: socket.socket | None = None
        self._task: asyncio.Task[None] | None = None
        self._idle = asyncio.Event()  # no hand-over is in progress
        self._idle.set()

    def start(self) -> None:
        """Listen. Without a place for the socket the server runs without the offer."""
        try:
            self._socket = _listening(self._path)
        except OSError as error:
            logs.event(
                "no other server can take over from this one",
                level=logging.WARNING,
                file=self._path,
                error=error.strerror or str(error),
            )
            return
        self._task = asyncio.create_task(self._run(self._socket), name="hand-over")

    async def stop(self) -> None:
        """Withdraw the offer. A hand-over in progress has ``STOP_S`` to end. Idempotent."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                await self._idle.wait()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def _run(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(listening)
            with connection:
                connection.setblocking(False)
                try:
                    await self._answer(connection)
                except (OSError, TimeoutError) as error:
                    logs.event("a hand-over was broken off", level=logging.WARNING, error=error)
                except Exception:  # a fault of ours must not end the offer: the next new server may ask again
                    logs.event("a hand-over failed", level=logging.ERROR, exc_info=True)

    async def _answer(self, connection: socket.socket) -> None:
        async with asyncio.timeout(ASK_S):
            if await asyncio.get_running_loop().sock_recv(connection, REPLY_BYTES) != ASK:
                return
        self._idle.clear()
        try:
            await self._hand_over(connection)
        finally:
            self._idle.set()

    async def _hand_over(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            sockets = await self._give()
        except HandoverError as error:
            await loop.sock_sendall(connection, msgspec.json.encode(_Reply(error=str(error))))
            return
        except BaseException:  # half frozen: a supervisor must start this server again
            self._given(False)
            raise
        taken = False
        try:
            socket.send_fds(connection, [msgspec.json.encode(_Reply())], [each.fileno() for each in sockets])
            async with asyncio.timeout(SERVING_S):
                taken = await loop.sock_recv(connection, len(SERVING)) == SERVING
        finally:
            for each in sockets:
                each.close()
            self._given(taken)


class Taking:
    """A hand-over in progress, made by :func:`ask`.

    Attributes:
        sockets: listening sockets of the old server.
        version: version of the old server.
    """

    def __init__(self, connection: socket.socket, sockets: list[socket.socket], version: str) -> None:
        self._connection = connection
        self.sockets = sockets
        self.version = version

    def serving(self) -> None:
        """Tell the old server that its stations continue here; it then sends its clients away. Idempotent."""
        with contextlib.suppress(OSError):  # it has ended already
            self._connection.sendall(SERVING)
        self._connection.close()

    def close(self) -> None:
        """Give up, unless :meth:`serving` was called. Idempotent."""
        self._connection.close()


def ask(path: Path) -> Taking | None:
    """Ask the running server to hand over; None if no server offers it.

    Raises:
        HandoverError: it refuses, or it ends meanwhile.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(ANSWER_S)
        try:
            connection.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            return None
        connection.sendall(ASK)
        data, files, _, _ = socket.recv_fds(connection, REPLY_BYTES, MOST_SOCKETS)
        sockets = [socket.socket(fileno=file) for file in files]
        for each in sockets:
            each.setblocking(False)
            each.set_inheritable(False)
        reply = msgspec.json.decode(data, type=_Reply)
    except TimeoutError:
        connection.close()
        raise HandoverError(f"the running server does not hand over within {ANSWER_S:g} s ({path})") from None
    except (OSError, msgspec.DecodeError) as error:
        connection.close()
        raise HandoverError(f"the running server does not hand over: {error} ({path})") from None
    if reply.error or not sockets:
        connection.close()
        raise HandoverError(f"the running server does not hand over: {reply.error or 'it has no sockets'}")
    return Taking(connection, sockets, reply.version)


def _listening(path: Path) -> socket.socket:
    """A Unix socket that only this user may connect to. Raises OSError, also for a path of more than 107 bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # the folder's lock shows that its server has ended
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(str(path))
        path.chmod(0o600)
        sock.listen(1)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock
