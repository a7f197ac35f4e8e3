"""Interface of a push's connection, and the encoded audio that waits for it.

Threading model: everything runs on the event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, Protocol

from riffstream.errors import RiffstreamError
from riffstream.protocol import SAMPLE_RATE
from riffstream.station.outlet import Chunk

__all__ = ["Backlog", "PushError", "Receiver"]

BACKLOG_S: Final = 10.0  # encoded audio kept for a slow receiver


class PushError(RiffstreamError):
    """The other server refuses the stream, or the connection is lost. The message is one line, without secrets."""


class Receiver(Protocol):
    """A connection to another server."""

    async def open(self, header: bytes, title: str) -> None:
        """Connect. ``header`` is that of the encoder. Raises PushError, OSError, TimeoutError."""

    async def send(self, chunk: Chunk) -> int:
        """Send the next chunk; return the number of bytes. Raises PushError, OSError, TimeoutError."""

    def retitle(self, title: str) -> None:
        """Set the title of what follows. Never raises."""

    async def close(self) -> None:
        """End the connection. Idempotent; never raises."""


class Backlog:
    """Chunks of a feed that wait for the receiver. The oldest are dropped above ``BACKLOG_S``.

    Attributes:
        dropped: number of dropped samples.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self._chunks: deque[Chunk] = deque()
        self._samples = 0
        self._ended = False
        self._changed = asyncio.Event()

    def push(self, chunk: Chunk) -> None:
        """Add the next chunk."""
        self._chunks.append(chunk)
        self._samples += chunk.n_samples
        self.dropped += self.keep(BACKLOG_S)
        self._changed.set()

    def end(self) -> None:
        """End: :meth:`get` returns None after the last chunk."""
        self._ended = True
        self._changed.set()

    def keep(self, seconds: float) -> int:
        """Drop all but the newest ``seconds``; return the number of dropped samples."""
        before = self._samples
        while len(self._chunks) > 1 and self._samples - self._chunks[0].n_samples >= seconds * SAMPLE_RATE:
            self._samples -= self._chunks.popleft().n_samples
        return before - self._samples

    async def wait(self) -> bool:
        """Wait for a chunk; False at the end."""
        while not self._chunks and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        return bool(self._chunks)

    async def get(self) -> Chunk | None:
        """Remove and return the oldest chunk; None at the end."""
        if not await self.wait():
            return None
        chunk = self._chunks.popleft()
        self._samples -= chunk.n_samples
        return chunk
