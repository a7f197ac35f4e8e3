"""A line to a server that is far away, for measurements of the start of the page."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Self


class Far:
    """A relay on this machine whose bytes arrive late.

    Args:
        port: where the server listens.
        rtt_s: round trip, seconds. A connection and its first answer take two, as with TCP.

    Attributes:
        url: address for the browser.
        received: bytes that clients got.

    Threading model
      Own thread   runs the loop with all connections.
      Any thread   reads the attributes, close().
    """

    def __init__(self, port: int, rtt_s: float) -> None:
        self.port, self.rtt_s, self.received = port, rtt_s, 0
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        listening = asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(listening, self._loop).result(10)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End everything."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        opened = self._loop.time() + self.rtt_s
        with contextlib.suppress(OSError, asyncio.CancelledError):  # the server is gone, or close()
            there, back = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                async with asyncio.TaskGroup() as ways:
                    ways.create_task(self._pass(reader, back, opened, 0))
                    ways.create_task(self._pass(there, writer, opened, 1))
            finally:
                back.close()
                writer.close()
                self._tasks.discard(task)

    async def _pass(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, opened: float, count: int
    ) -> None:
        late: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def write() -> None:
            with contextlib.suppress(OSError):
                while True:
                    due, data = await late.get()
                    await asyncio.sleep(due - self._loop.time())
                    if not data:
                        return target.write_eof()
                    self.received += count * len(data)  # first: the client may have read the rest the moment it is sent
                    target.write(data)

        async with asyncio.TaskGroup() as both:
            both.create_task(write())
            data = b"-"
            while data:
                try:
                    data = await source.read(65536)
                except OSError:
                    data = b""
                late.put_nowait((max(opened, self._loop.time()) + self.rtt_s / 2, data))
