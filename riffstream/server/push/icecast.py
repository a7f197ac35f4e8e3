"""A source client of Icecast 2.4 and later: the stream as the body of a PUT, titles over its admin interface.

libav's own client (``icecast://``) blocks its thread, takes no titles and does not name the reason of a refusal.

Threading model: everything runs on the event loop.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import re
import socket
import ssl
from collections.abc import Callable, Mapping
from typing import Final

import aiohttp

from riffstream import __version__
from riffstream.audio.ogg import one_line
from riffstream.config import PushTarget
from riffstream.server.feeds import WIRES
from riffstream.server.push.receiver import PushError
from riffstream.server.push.tls import connect, trusted
from riffstream.server.stream_body import Body
from riffstream.station.outlet import Chunk

__all__ = ["IcecastSource"]

log = logging.getLogger(__name__)

CONTENT_TYPES: Final = {"mp3": "audio/mpeg", "aac": "audio/aac", "ogg": "audio/ogg"}
CONNECT_S: Final = 10.0
TITLE_EVERY_S: Final = 1.0  # fastest changes of the title
TITLE_RETRY_S: Final = 10.0
BUFFER_BYTES: Final = 65536
HEAD_BYTES: Final = 16384
_STATUS: Final = re.compile(rb"(?:HTTP/1\.[01]|ICE/1\.0) (\d{3}) ?([^\r\n]*)")
_MEANINGS: Final = {
    401: "wrong user or password",
    403: "forbidden (mount point in use, content type refused, or too many sources)",
    404: "no such mount point",
}


class IcecastSource:
    """A connection as the source of a mount point.

    Titles of Ogg streams are in the stream; those of MP3 and AAC go to ``/admin/metadata``, whose failure is logged and
    never ends the stream.

    Args:
        target: the server.
        codec: mp3, aac or ogg.
        headers: ``ice-*`` headers of the stream.
        ca: PEM file with the authorities trusted by TLS; "": the system's.
        artist: artist in the comments of an Ogg stream.
        stall_s: time without progress until :meth:`send` gives up, seconds.
        name: name of the push, for logs.
    """

    def __init__(
        self,
        target: PushTarget,
        codec: str,
        headers: Mapping[str, str],
        *,
        ca: str,
        artist: str,
        stall_s: float,
        name: str,
    ) -> None:
        self._ca = ca
        self._secure: ssl.SSLContext | None = None
        self._target, self._codec, self._name, self._stall_s = target, codec, name, stall_s
        self._headers = {key: one_line(value) for key, value in headers.items() if one_line(value)}
        self._body = Body(codec, None, None, artist=artist)
        self._build: Callable[[Chunk], bytes] = lambda chunk: WIRES["ogg" if codec == "ogg" else "raw"].build(
            0, [chunk]
        )[0]
        login = base64.b64encode(f"{target.user}:{target.password}".encode()).decode()
        self._login = f"Basic {login}"
        self._host = f"[{target.host}]:{target.port}" if ":" in target.host else f"{target.host}:{target.port}"
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._title = ""
        self._title_changed = asyncio.Event()
        self._titles: asyncio.Task[None] | None = None

    async def open(self, header: bytes, title: str) -> None:
        """Connect and wait for the server's consent. Raises PushError, OSError, TimeoutError."""
        target = self._target
        if target.secure:
            self._secure = await trusted(self._ca)
        async with asyncio.timeout(CONNECT_S):
            self._reader, self._writer = await connect(target.host, target.port, self._secure, limit=HEAD_BYTES)
            raw = self._writer.get_extra_info("socket")
            if raw is not None:  # otherwise the kernel could hide megabytes of unread audio
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
            self._writer.transport.set_write_buffer_limits(high=BUFFER_BYTES)
            self._writer.write(self._request())
            await self._consent(self._reader)
        self._body.set_title(title)
        self._writer.write(self._body.begin(header))
        if self._codec != "ogg":
            self.retitle(title)
            self._titles = asyncio.create_task(self._send_titles(), name=f"titles-{self._name}")

    async def send(self, chunk: Chunk) -> int:
        """Send the next chunk. Raises PushError if the server has left, TimeoutError if it stalls."""
        assert self._reader is not None
        assert self._writer is not None
        if self._reader.at_eof():
            raise PushError("the server has closed the connection")
        data = self._body.push(self._build(chunk))
        self._writer.write(data)
        async with asyncio.timeout(self._stall_s):
            await self._writer.drain()
        return len(data)

    def retitle(self, title: str) -> None:
        """Set the title of what follows."""
        if self._codec == "ogg":
            self._body.set_title(title)
        elif title != self._title:
            self._title = title
            self._title_changed.set()

    async def close(self) -> None:
        """End the connection after the written audio, without waiting for a stalled server."""
        titles, self._titles = self._titles, None
        if titles is not None:
            titles.cancel()
            await asyncio.gather(titles, return_exceptions=True)
        writer, self._writer = self._writer, None
        if writer is None:
            return
        writer.close()
        try:
            async with asyncio.timeout(1.0):
                await writer.wait_closed()
        except (OSError, TimeoutError):
            pass
        finally:  # also when the push is cancelled meanwhile
            writer.transport.abort()

    def _request(self) -> bytes:
        target = self._target
        lines = [
            f"PUT {target.path} HTTP/1.1",
            f"Host: {self._host}",
            f"Authorization: {self._login}",
            f"User-Agent: riffstream/{__version__}",
            f"Content-Type: {CONTENT_TYPES[self._codec]}",
            *(f"{key}: {value}" for key, value in self._headers.items()),
            "Expect: 100-continue",
            "",
            "",
        ]
        return "\r\n".join(lines).encode()

    async def _consent(self, reader: asyncio.StreamReader) -> None:
        """Read the server's answer. Raises PushError unless it takes the stream."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            if not error.partial:
                raise PushError("the server closed the connection without an answer") from None
            head = error.partial
        except asyncio.LimitOverrunError:
            raise PushError("the server's answer is not that of an Icecast server") from None
        match = _STATUS.match(head)
        if match is None:
            raise PushError("the server's answer is not HTTP")
        status, reason = int(match[1]), one_line(match[2].decode(errors="replace"))[:100]
        if status not in (100, 200):
            raise PushError(f"the server refuses the stream: {status} {_MEANINGS.get(status, reason)}")

    async def _send_titles(self) -> None:
        """Send each new title to the admin interface, until cancelled."""
        target, failing = self._target, False
        url = f"{'https' if target.secure else 'http'}://{self._host}/admin/metadata"
        timeout = aiohttp.ClientTimeout(total=CONNECT_S)
        connector = aiohttp.TCPConnector(ssl=self._secure or True)
        async with aiohttp.ClientSession(
            connector=connector, headers={"Authorization": self._login}, timeout=timeout
        ) as session:
            while True:
                await self._title_changed.wait()
                self._title_changed.clear()
                query = {"mode": "updinfo", "mount": target.path, "charset": "UTF-8", "song": one_line(self._title)}
                try:
                    async with session.get(url, params=query, allow_redirects=False) as answer:
                        problem = "" if answer.status == 200 else f"{answer.status} {answer.reason}"
                except Exception as error:  # of any layer: the task lives as long as the stream
                    problem = str(error) or type(error).__name__
                if problem and not failing:
                    log.warning("push %s: the server takes no titles: %s", self._name, one_line(problem))
                failing = bool(problem)
                await asyncio.sleep(TITLE_RETRY_S if failing else TITLE_EVERY_S)
                if failing:
                    self._title_changed.set()
