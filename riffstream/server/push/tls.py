"""TLS of pushes: trusted authorities, reasons of refusals, and a tunnel for clients without certificate checks.

Threading model: everything runs on the event loop, but for the reading of certificates.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import Final

from riffstream.audio.ogg import one_line
from riffstream.server.push.receiver import PushError

__all__ = ["Tunnel", "connect", "tls_problem", "trusted"]

BUFFER_BYTES: Final = 65536
OTHER_HOST: Final = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH


async def trusted(ca: str) -> ssl.SSLContext:
    """Settings of a client that checks certificate and host name.

    Args:
        ca: PEM file with the only trusted authorities or certificates; "": those of the system.

    Raises:
        PushError: the file cannot be read.
    """
    try:
        context = await asyncio.to_thread(ssl.create_default_context, cafile=ca or None)
    except OSError as error:  # ssl.SSLError as well
        raise PushError(f"ca {ca}: {error.strerror or error}") from None
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the file may hold the server's own certificate
    return context


async def connect(
    host: str, port: int, context: ssl.SSLContext | None, *, limit: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect, with TLS if there is a context. Raises OSError, ssl.SSLError; PushError if the handshake breaks off."""
    try:
        return await asyncio.open_connection(host, port, ssl=context, limit=limit)
    except (ConnectionError, ssl.SSLEOFError) as error:
        if context is None or (error.errno and not isinstance(error, ssl.SSLEOFError)):
            raise
        raise PushError("no TLS with the server: it closed the connection in the handshake") from None


def tls_problem(error: ssl.SSLError) -> str:
    """The reason of a failed TLS connection in one line."""
    if isinstance(error, ssl.SSLZeroReturnError | ssl.SSLEOFError):
        return "the server has closed the connection"
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = one_line(error.verify_message).rstrip(".")
        remedy = "" if error.verify_code in OTHER_HOST else " (see ca in docs/outlets.md)"
        return f"the certificate is not valid: {reason}{remedy}"
    reason = (error.reason or "").replace("_", " ").lower()
    return f"no TLS with the server: {reason or one_line(str(error))}"


class Tunnel:
    """A port of loopback whose first connection continues over TLS. It takes one connection.

    libav does not check certificates, and PyAV passes it no options that make it.
    """

    def __init__(self) -> None:
        self._far: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._near: asyncio.StreamWriter | None = None
        self._server: asyncio.Server | None = None
        self._carrying: asyncio.Task[None] | None = None

    async def open(self, host: str, port: int, context: ssl.SSLContext) -> int:
        """Connect to the server and check its certificate; return the port. Raises PushError, OSError, ssl.SSLError."""
        self._far = await connect(host, port, context, limit=BUFFER_BYTES)
        _bound(self._far[1])
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0, limit=BUFFER_BYTES)
        near: int = self._server.sockets[0].getsockname()[1]
        return near

    async def close(self) -> None:
        """End both connections, without waiting for a stalled server. Idempotent."""
        if self._server is not None:
            self._server.close()
        carrying, self._carrying = self._carrying, None
        if carrying is not None:
            carrying.cancel()
        writers = [writer for writer in (self._near, self._far and self._far[1]) if writer is not None]
        self._near = self._far = None
        for writer in writers:
            writer.close()
        try:
            async with asyncio.timeout(1.0):
                ends = [writer.wait_closed() for writer in writers]
                await asyncio.gather(*([] if carrying is None else [carrying]), *ends, return_exceptions=True)
        except TimeoutError:
            pass
        finally:  # also when the push is cancelled meanwhile
            for writer in writers:
                writer.transport.abort()

    def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._carrying is not None or self._far is None or self._server is None:
            writer.transport.abort()
            return
        self._server.close()
        _bound(writer)
        self._near = writer
        self._carrying = asyncio.create_task(self._carry(reader, writer, *self._far), name="push-tunnel")

    async def _carry(
        self,
        near_reader: asyncio.StreamReader,
        near_writer: asyncio.StreamWriter,
        far_reader: asyncio.StreamReader,
        far_writer: asyncio.StreamWriter,
    ) -> None:
        """Copy in both directions until one side ends."""
        ways = [
            asyncio.create_task(_copy(near_reader, far_writer)),
            asyncio.create_task(_copy(far_reader, near_writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            near_writer.close()
            far_writer.close()


def _bound(writer: asyncio.StreamWriter) -> None:
    """Keep the kernel and asyncio from hiding megabytes of audio that a stalled server has not read."""
    raw = writer.get_extra_info("socket")
    if raw is not None:
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            raw.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
    writer.transport.set_write_buffer_limits(high=BUFFER_BYTES)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(BUFFER_BYTES):
            writer.write(data)
            await writer.drain()
