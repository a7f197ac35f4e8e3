"""RTMP through libav, in a process of its own (``rtmp_worker.py``); RTMPS through a tunnel with TLS.

libav connects while it holds Python's lock, so in a thread an unreachable host would stop the whole server.

Threading model: everything runs on the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from typing import Final
from urllib.parse import urlsplit

from riffstream.audio.ogg import one_line
from riffstream.config import PushTarget
from riffstream.server.push.receiver import PushError
from riffstream.server.push.rtmp_worker import CONNECTED
from riffstream.server.push.tls import Tunnel, trusted
from riffstream.station.outlet import Chunk

__all__ = ["RtmpReceiver"]

CONNECT_S: Final = 15.0  # includes the start of the process
LEAVE_S: Final = 1.0
BUFFER_BYTES: Final = 16384


class RtmpReceiver:
    """A connection over RTMP with AAC.

    Args:
        target: the server.
        bit_rate: bits a second, for the stream's header.
        ca: PEM file with the authorities trusted by TLS; "": the system's.
        stall_s: time without progress until :meth:`send` gives up, seconds.
    """

    def __init__(self, target: PushTarget, bit_rate: int, *, ca: str, stall_s: float) -> None:
        self._target, self._bit_rate, self._ca, self._stall_s = target, bit_rate, ca, stall_s
        self._tunnel: Tunnel | None = None
        self._process: Process | None = None

    async def open(self, header: bytes, title: str) -> None:
        """Start the process and wait for its connection. Raises PushError, TimeoutError, OSError."""
        url = self._target.url
        if self._target.secure:
            self._tunnel = Tunnel()
            async with asyncio.timeout(CONNECT_S):
                port = await self._tunnel.open(self._target.host, self._target.port, await trusted(self._ca))
            url = _through(url, port)
        command = [sys.executable, "-m", "riffstream.server.push.rtmp_worker"]
        process = self._process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.transport.set_write_buffer_limits(high=BUFFER_BYTES)
        # Not as an argument: the list of processes would show the key.
        process.stdin.write(f"{self._bit_rate} {url}\n".encode())
        async with asyncio.timeout(CONNECT_S):
            line = await process.stdout.readline()
        if line.decode(errors="replace").strip() != CONNECTED:
            raise PushError(self._problem(line))

    async def send(self, chunk: Chunk) -> int:
        """Send the next chunk. Raises PushError if the process has ended, TimeoutError if it stalls."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        if process.stdout.at_eof() or process.returncode is not None:
            raise PushError(self._problem(await process.stdout.read(1000)))
        try:
            process.stdin.write(chunk.payload)
            async with asyncio.timeout(self._stall_s):
                await process.stdin.drain()
        except ConnectionError:
            async with asyncio.timeout(LEAVE_S):
                raise PushError(self._problem(await process.stdout.read(1000))) from None
        return len(chunk.payload)

    def retitle(self, title: str) -> None:
        """Do nothing: RTMP has no titles that change."""

    async def close(self) -> None:
        """End the connection, and the process at the latest after ``LEAVE_S``."""
        process, self._process = self._process, None
        tunnel, self._tunnel = self._tunnel, None
        try:
            if process is not None:
                await _end(process)
        finally:
            if tunnel is not None:
                await tunnel.close()

    def _problem(self, line: bytes) -> str:
        return one_line(line.decode(errors="replace"))[:200] or "the connection is lost"


async def _end(process: Process) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(LEAVE_S):
            await process.wait()
    except TimeoutError:
        pass
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    await process.wait()


def _through(url: str, port: int) -> str:
    """The address of a stream through the tunnel's port."""
    parts = urlsplit(url)
    login, at, _ = parts.netloc.rpartition("@")
    return parts._replace(scheme="rtmp", netloc=f"{login}{at}127.0.0.1:{port}").geturl()
