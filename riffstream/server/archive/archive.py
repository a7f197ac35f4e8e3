"""The archive of a server: its folder, its recorders, its writer, and reading from it.

Threading model
  Event loop       makes every call.
  Writer thread    (``writer.py``) the only one that writes.
  Reader threads   ``READERS``, each call with a store of its own, open for that call only.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

from riffstream.config import Config
from riffstream.errors import ParameterError
from riffstream.protocol import SAMPLE_RATE
from riffstream.server.archive.recorder import Recorder
from riffstream.server.archive.store import Store
from riffstream.server.archive.writer import Writer
from riffstream.server.registry import Broadcasts
from riffstream.server.uploads.locked_folder import FolderTakenError, LockedFolder

__all__ = ["Archive", "check_folder"]

READERS: Final = 2
Found = TypeVar("Found")


class Archive:
    """A rolling archive of the configured stations.

    Args:
        config: the whole configuration; ``archive.dir`` is not empty.
        broadcasts: the stations' broadcasts.

    Raises:
        ParameterError: the folder cannot be used.
    """

    def __init__(self, config: Config, broadcasts: Broadcasts) -> None:
        self.settings = settings = config.archive
        try:
            self._place = _held(settings.dir)
        except FolderTakenError:
            raise ParameterError("archive.dir", settings.dir, "a folder that no other running server uses") from None
        self.folder = self._place.path
        self._writer = Writer(self.folder, settings.hours, round(settings.max_mb * 1e6))
        kbps = getattr(config.encoders, f"{settings.codec}_kbps")
        self.recorders = {
            name: Recorder(name, settings.codec, kbps, broadcasts, self._writer.put)
            for name in settings.stations or config.stations
        }
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="archive-read")
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start to record."""
        self._writer.start()
        self._tasks = [
            asyncio.create_task(recorder.run(), name=f"archive-{name}") for name, recorder in self.recorders.items()
        ]

    async def stop(self) -> None:
        """Write what is held and close the archive. Idempotent."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(self._writer.close)
        self._readers.shutdown(wait=False, cancel_futures=True)
        self._place.close()

    def run_of(self, station: str) -> int | None:
        """Number of a station's present run in the file; None before its first row."""
        recorder = self.recorders.get(station)
        return None if recorder is None else self._writer.runs.get(recorder.key)

    def figures(self) -> dict[str, Any]:
        """State and counters as JSON values."""
        writer = self._writer
        return {
            "state": "stopped" if writer.problem else "recording",
            "problem": writer.problem,
            "bytes": writer.used_bytes,
            "written_s": round(writer.written / SAMPLE_RATE, 3),
            "lost_s": round(writer.lost / SAMPLE_RATE, 3),
            "failures": writer.failures,
        }

    async def read(self, call: Callable[[Store], Found]) -> Found:
        """Run a call with a store open for reading, in a thread. Raises ``sqlite3.Error``."""

        def run() -> Found:
            store = Store(self.folder, writing=False)
            try:
                return call(store)
            finally:
                store.close()

        return await asyncio.get_running_loop().run_in_executor(self._readers, run)

    async def work(self, call: Callable[[], Found]) -> Found:
        """Run a call in a reader's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, call)


def check_folder(folder: str) -> None:
    """Raise ParameterError if an archive cannot use a folder, even after the server that uses it now."""
    with contextlib.suppress(FolderTakenError):
        _held(folder).close()


def _held(folder: str) -> LockedFolder:
    """The locked folder. Raises ParameterError, FolderTakenError."""
    try:
        place = LockedFolder.lasting(Path(folder).expanduser().resolve())
    except (OSError, RuntimeError) as error:  # RuntimeError: "~" of a user without a home
        allowed = f"a folder that can be written to ({getattr(error, 'strerror', None) or error})"
        raise ParameterError("archive.dir", folder, allowed) from None
    if not os.access(place.path, os.W_OK):
        place.close()
        raise ParameterError("archive.dir", folder, "a folder that can be written to")
    return place
