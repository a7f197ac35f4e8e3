"""Writing of the archive in a thread: a slow or full disk never holds up the station.

Threading model
  Event loop      put() and the figures.
  Writer thread   the only user of its store.
  Hand-over       a queue of ``WAITING`` rows. Full: the new row is dropped and counted.
  Failure         the store is closed and opened again after ``retry_s``; rows in the meantime are dropped and counted.
  close()         idempotent; writes what waits, at most ``LEAVE_S``.
"""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from riffstream.protocol import SAMPLE_RATE
from riffstream.server import logs
from riffstream.server.archive.store import FILE, Row, Store, Title

__all__ = ["Job", "Writer"]

WAITING: Final = 60  # rows, some seconds each
LEAVE_S: Final = 3.0
RETRY_S: Final = 30.0
TIDY_EVERY: Final = 500  # rows
TITLES: Final = 500  # kept while nothing can be written


@dataclass(frozen=True, slots=True)
class Job:
    """A row to write, with what its run needs when it begins.

    Attributes:
        key: (station, number of the run in this process).
        codec, header, kbps: of the encoder.
        row: the row; its ``run`` is not used.
        titles: new titles of the run.
    """

    key: tuple[str, int]
    codec: str
    header: bytes
    kbps: int
    row: Row
    titles: tuple[Title, ...]


class Writer:
    """The archive's thread.

    Args:
        folder: the archive's folder.
        hours: age at which audio is removed.
        max_bytes: largest size of the archive.
        retry_s: pause after a failure, seconds.

    Attributes:
        problem: why nothing is written at the moment; "" if all is well.
        written, lost: samples per channel.
        used_bytes: size of the archive.
        failures: number of failures.
        runs: number in the file of each run of this process, by key.
    """

    def __init__(self, folder: Path, hours: float, max_bytes: int, *, retry_s: float = RETRY_S) -> None:
        self.problem = ""
        self.written = self.lost = self.used_bytes = self.failures = 0
        self.runs: dict[tuple[str, int], int] = {}
        self._folder, self._age_s, self._max_bytes, self._retry_s = folder, hours * 3600, max_bytes, retry_s
        self._queue: queue.Queue[Job | None] = queue.Queue(WAITING)
        self._titles: dict[tuple[str, int], list[Title]] = {}  # not yet written; kept if their row is lost
        self._thread = threading.Thread(target=self._run, name="archive", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, job: Job) -> None:
        """Write a row later."""
        try:
            self._queue.put_nowait(job)
        except queue.Full:
            self.lost += job.row.n
            if not self.problem:
                self.problem = "the disk is too slow"

    def close(self) -> None:
        """Write what waits and end the thread."""
        if self._thread.is_alive():
            try:
                self._queue.put(None, timeout=LEAVE_S)
            except queue.Full:
                return
            self._thread.join(LEAVE_S)

    # -- writer thread --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        store: Store | None = None
        retry_at, rows = 0.0, 0
        while (job := self._queue.get()) is not None:
            self._titles.setdefault(job.key, []).extend(job.titles)
            del self._titles[job.key][:-TITLES]
            if store is None and time.monotonic() < retry_at:
                self.lost += job.row.n
                continue
            try:
                store = store or self._open()
                self._write(store, job)
                rows += 1
                if rows % TIDY_EVERY == 0:
                    store.tidy()
                self.used_bytes = store.used_bytes
            except (sqlite3.Error, OSError) as error:
                self._failed(error)
                self.lost += job.row.n
                retry_at = time.monotonic() + self._retry_s
                if store is not None:
                    _quietly(store.close)
                    store = None
                continue
            if self.problem:
                self.problem = ""
                logs.event("archive continues", lost_s=round(self.lost / SAMPLE_RATE, 1))
        if store is not None:
            _quietly(store.close)

    def _open(self) -> Store:
        try:
            return Store(self._folder, writing=True, max_bytes=self._max_bytes)
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise
        # Keep one damaged file for a rescue, and begin anew.
        path = self._folder / FILE
        logs.event("archive damaged; a new one begins", level=logging.ERROR, kept=f"{FILE}.damaged")
        path.replace(path.with_name(f"{FILE}.damaged"))
        for ending in ("-wal", "-shm"):
            path.with_name(FILE + ending).unlink(missing_ok=True)
        self.runs.clear()
        return Store(self._folder, writing=True, max_bytes=self._max_bytes)

    def _write(self, store: Store, job: Job) -> None:
        run = self.runs.get(job.key)
        if run is None:
            run = self.runs[job.key] = store.begin(job.key[0], job.codec, job.header, job.kbps)
        row = Row(run, job.row.pos, job.row.n, job.row.wall, job.row.data)
        store.add(row, self._titles.get(job.key, ()), time.time() - self._age_s)
        self._titles.pop(job.key, None)
        self.written += row.n

    def _failed(self, error: Exception) -> None:
        self.failures += 1
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        problem = "the disk is full" if code == sqlite3.SQLITE_FULL else " ".join(str(error).split())[:200]
        if problem != self.problem:
            logs.event("archive stopped", level=logging.ERROR, problem=problem, retry_s=self._retry_s)
        self.problem = problem


def _quietly(call: Callable[[], None]) -> None:
    try:
        call()
    except (sqlite3.Error, OSError):
        logging.getLogger(__name__).debug("closing the archive failed", exc_info=True)
