"""Clients of every kind on bare sockets, which stall, hang up and come back as the test says."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from typing import Any

from riffstream.bench.sinks import client_frame, masked

SHAKE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    "Sec-WebSocket-Version: 13\r\n"
)
SOCKETS = ("opus", "pcm_s16", "control", "plain-pcm", "plain-mp3")
STREAMS = ("mp3", "aac", "ogg", "wav")
KINDS = (*SOCKETS, *STREAMS, "events")
LISTENING = tuple(kind for kind in KINDS if kind not in ("control", "events"))


class Visitor:
    """One connection; :meth:`come` opens it, and a task reads.

    Attributes:
        audio: bytes of sound so far.
        status: of the HTTP answer; 0 before it has come.
        session, last_seq: of a v1 listener, to resume with.
        refused: the server would not have it.
        ended: nothing more will come.
    """

    def __init__(self, kind: str, station: str) -> None:
        self.kind, self.station = kind, station
        self.audio = self.status = 0
        self.session, self.last_seq = "", -1
        self.refused = self.ended = False
        self._reading = asyncio.Event()
        self._reading.set()
        self._task: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None

    @property
    def stalled(self) -> bool:
        """Whether it does not read."""
        return not self._reading.is_set()

    async def come(self, port: int, *, resume: Visitor | None = None, steer: bool = False) -> None:
        """Connect, say what it wants, and begin to read."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)  # so that a stall is felt soon
        sock.connect(("127.0.0.1", port))  # the kernel answers at once
        sock.setblocking(False)
        reader, self._writer = await asyncio.open_connection(sock=sock, limit=8192)
        self._writer.write(self._request(resume, steer))
        self._task = asyncio.create_task(self._read(reader, self._writer))

    def _request(self, resume: Visitor | None, steer: bool) -> bytes:
        kind = self.kind
        if kind in STREAMS:
            return f"GET /stream/{self.station}.{kind} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        if kind == "events":
            return f"GET /api/stations/{self.station}/events HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        path = f"/ws/{self.station}"
        if kind.startswith("plain"):
            return f"GET {path}/plain?codec={kind[6:]} HTTP/1.1\r\nHost: x\r\n{SHAKE}\r\n".encode()
        hello: dict[str, Any] = {"type": "hello", "v": 1, "codecs": [] if kind == "control" else [kind], "steer": steer}
        if resume is not None and resume.session:
            hello["resume"] = {"session": resume.session, "last_seq": max(0, resume.last_seq)}
        return f"GET {path} HTTP/1.1\r\nHost: x\r\n{SHAKE}\r\n".encode() + client_frame(json.dumps(hello))

    def say(self, text: str) -> None:
        """A text message over the socket."""
        if self._writer is not None and self.kind in SOCKETS and not self.ended:
            self._writer.write(client_frame(text))

    def stall(self) -> None:
        """Read no more."""
        self._reading.clear()

    def go_on(self) -> None:
        """Read again."""
        self._reading.set()

    async def go(self, *, abort: bool) -> None:
        """Leave: by closing, or by a reset."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._writer is not None:
            if abort:
                raw = self._writer.get_extra_info("socket")  # None where the server has closed it
                with contextlib.suppress(OSError, AttributeError):
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._writer.transport.abort() if abort else self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()
        self.ended = True

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._reading.wait()
            head = await reader.readuntil(b"\r\n\r\n")
            self.status = int(head.split()[1])
            if self.status not in (101, 200):
                self.refused = True
            elif self.status == 101:
                while await self._frame(reader, writer):
                    pass
            else:
                while data := await self._more(reader):
                    self.audio += len(data)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.ended = True

    async def _more(self, reader: asyncio.StreamReader) -> bytes:
        await self._reading.wait()
        return await reader.read(4096)

    async def _frame(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        await self._reading.wait()
        first, size = await reader.readexactly(2)
        if size >= 126:
            size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8), "big")
        data = await reader.readexactly(size)
        if first == 0x82:
            self.audio += size
            if not self.kind.startswith("plain"):
                self.last_seq = int.from_bytes(data[4:8], "little")
        elif first == 0x81 and not self.kind.startswith("plain"):
            message = json.loads(data)
            self.session = message.get("session") or self.session
            self.refused = self.refused or message.get("code") == "busy"
        elif first == 0x89:
            writer.write(masked(0x8A, data))
        elif first == 0x88:
            writer.write(masked(0x88, data[:2]))
            return False
        return True
