"""The server's end of the pipe to the generator.

Threading model
  Event loop      send(), close(); receives every report.
  Reader thread   receives; hands over with call_soon_threadsafe.
  Writer thread   sends, so that a generator that does not read never blocks the loop.
  Hand-over       to the writer: a queue of ``MOST`` small commands. Full: the generator has not read for a long time
                  and counts as lost. To the loop: everything received, without waiting.
  Exceptions      of the threads end the link and are reported as its end.
  close()         idempotent; the threads end by themselves.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Iterable
from typing import Final

from riffstream.generator.channel import Channel
from riffstream.generator.messages import FromGenerator, Pcm, ToGenerator, pack, unpack_report

__all__ = ["Link"]

log = logging.getLogger(__name__)

MOST: Final = 4096  # a station sends a few commands a second


class Link:
    """Connection from the event loop to one generator process, with a reader and a writer thread.

    Args:
        channel: the server's end of the pipes.
        on_report: called on the event loop with every message and its audio.
        on_end: called once on the event loop when the other end is closed; not after :meth:`close`.
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
        reader = threading.Thread(target=self._read, name="generator-reader", daemon=True)
        writer = threading.Thread(target=self._write, name="generator-writer", daemon=True)
        try:
            writer.start()
            reader.start()
        except RuntimeError:  # the limit of threads is reached
            self.close()
            raise

    def send(self, messages: Iterable[ToGenerator]) -> None:
        """Send messages in order. They are dropped without an error after the link has ended.

        Raises:
            Exception: a message that cannot be packed.
        """
        for message in messages:
            if self._closed:
                return
            if self._queue.qsize() >= MOST:
                log.error("the generator has not read its last %d commands", MOST)
                self._loop.call_soon(self._on_end)
                self.close()
                return
            self._queue.put(pack(message))

    def close(self) -> None:
        """Close the link. No callback is called afterwards."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)

    def _read(self) -> None:
        try:
            while not self._closed:
                message, pcm = unpack_report(self._channel.receive())
                self._post(self._report, message, pcm)
        except (EOFError, OSError):
            pass
        except Exception as error:  # the rest of the stream cannot be interpreted
            if not self._closed:
                log.error("an unreadable message from the generator: %s", error)
        finally:
            self._channel.close_reader()
            self._post(self._end)

    def _write(self) -> None:
        try:
            while (data := self._queue.get()) is not None:
                self._channel.send(data)
        except (OSError, ValueError):  # the other end is closed; the reader reports it
            pass
        finally:
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
