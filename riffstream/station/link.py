"""The server's end of the pipe to the generator.

Threading model
  Event loop      send(), close(); gets every report.
  Reader thread   receives; hands over with call_soon_threadsafe.
  Writer thread   sends, so that a generator that does not read never blocks the loop.
  Hand-over       to the writer: an unbounded queue of small commands, dropped with the link.
  close()         idempotent; the threads end by themselves.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Iterable

import msgspec

from riffstream.station.channel import Channel
from riffstream.station.messages import FromGenerator, Pcm, ToGenerator, pack, unpack_report

__all__ = ["Link"]

log = logging.getLogger(__name__)


class Link:
    """See the module.

    Args:
        channel: our end of the pipes.
        on_report: called on the event loop with every message and its audio.
        on_end: called once on the event loop when the other end is gone; not after :meth:`close`.
    """

    def __init__(
        self,
        channel: Channel,
        on_report: Callable[[FromGenerator, Pcm], None],
        on_end: Callable[[], None],
    ) -> None:
        self._channel = channel
        self._on_report, self._on_end = on_report, on_end
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._closed = False
        threading.Thread(target=self._read, name="generator-reader", daemon=True).start()
        threading.Thread(target=self._write, name="generator-writer", daemon=True).start()

    def send(self, messages: Iterable[ToGenerator]) -> None:
        """Send in order; silently dropped once the link is gone."""
        if not self._closed:
            for message in messages:
                self._queue.put(pack(message))

    def close(self) -> None:
        """Stop; no callback comes any more."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)

    def _read(self) -> None:
        try:
            while not self._closed:
                data = self._channel.receive()
                try:
                    message, pcm = unpack_report(data)
                except (msgspec.DecodeError, ValueError) as error:
                    log.error("an unreadable message from the generator: %s", error)
                    break
                self._post(self._report, message, pcm)
        except (EOFError, OSError, ValueError):
            pass
        self._channel.close_reader()
        self._post(self._end)

    def _write(self) -> None:
        while (data := self._queue.get()) is not None:
            try:
                self._channel.send(data)
            except (OSError, ValueError):
                break
        self._channel.close()

    def _post(self, call: Callable[..., None], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *args)
        except RuntimeError:  # the loop is closed: the process is leaving
            self._closed = True

    def _report(self, message: FromGenerator, pcm: Pcm) -> None:
        if not self._closed:
            self._on_report(message, pcm)

    def _end(self) -> None:
        if not self._closed:
            self.close()
            self._on_end()
