"""The archive's file: encoded audio and titles by station, run and time, in SQLite.

Threading model
  One thread for each store. SQLite lets a store that reads work beside the one that writes.
  Processes     a killed one loses at most what it had not written; the file stays valid (write-ahead log).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from riffstream.protocol import SAMPLE_RATE

__all__ = ["FILE", "Piece", "Row", "Store", "Title"]

FILE: Final = "archive.sqlite"
PAGE_BYTES: Final = 8192
JOURNAL_BYTES: Final = 8_000_000  # reserved for the write-ahead log
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS runs (
    id INTEGER PRIMARY KEY, station TEXT NOT NULL, codec TEXT NOT NULL, header BLOB NOT NULL, kbps INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS audio (
    id INTEGER PRIMARY KEY AUTOINCREMENT, run INTEGER NOT NULL, pos INTEGER NOT NULL, n INTEGER NOT NULL,
    wall REAL NOT NULL, size INTEGER NOT NULL, data BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS audio_by_run ON audio (run, pos, n, wall, size);
CREATE INDEX IF NOT EXISTS audio_by_wall ON audio (wall);
CREATE TABLE IF NOT EXISTS titles (run INTEGER NOT NULL, pos INTEGER NOT NULL, text TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS titles_by_run ON titles (run, pos);
"""


@dataclass(frozen=True, slots=True)
class Row:
    """Some seconds of encoded audio.

    Attributes:
        run: run of the station: one life of the server.
        pos: sample clock of the first sample.
        n: samples per channel.
        wall: POSIX time of the first sample.
        data: MP3 or ADTS frames, or Opus packets after their lengths.
    """

    run: int
    pos: int
    n: int
    wall: float
    data: bytes


@dataclass(frozen=True, slots=True)
class Piece:
    """A row, or a part of it, without its audio.

    Attributes:
        ident: number of the row.
        run, pos, n, wall: as in :class:`Row`.
        size: bytes of the audio.
        codec: mp3, aac or opus.
        kbps: bit rate of the encoder.
        skip: samples at the start of the row that do not belong to the piece.
    """

    ident: int
    run: int
    pos: int
    n: int
    wall: float
    size: int
    codec: str
    kbps: int
    skip: int = 0

    @property
    def end(self) -> float:
        """POSIX time of its end."""
        return self.wall + self.n / SAMPLE_RATE


@dataclass(frozen=True, slots=True)
class Title:
    """A title from a sample of a run on."""

    pos: int
    text: str


class Store:
    """The file, open for writing or for reading. Every method raises ``sqlite3.Error``.

    Args:
        folder: its folder.
        writing: False opens an existing file for reading.
        max_bytes: largest size with its log, for writing.
    """

    def __init__(self, folder: Path, *, writing: bool, max_bytes: int = 0) -> None:
        path = folder / FILE
        self._most = max_bytes - JOURNAL_BYTES
        if not writing:
            self._db = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=5)
            return
        self._db = sqlite3.connect(path, timeout=5, isolation_level=None)
        try:
            self._db.execute(f"PRAGMA page_size={PAGE_BYTES}")
            self._db.execute("PRAGMA auto_vacuum=INCREMENTAL")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.execute(f"PRAGMA wal_autocheckpoint={JOURNAL_BYTES // 4 // PAGE_BYTES}")
            self._db.execute(f"PRAGMA journal_size_limit={JOURNAL_BYTES // 2}")
            self._db.executescript(_SCHEMA)
            self._page_bytes = int(self._pragma("page_size"))
            self._shrink()
            self._db.execute(f"PRAGMA max_page_count={self._most // self._page_bytes}")
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._db.close()

    @property
    def used_bytes(self) -> int:
        """Bytes of the file in use."""
        free = int(self._pragma("freelist_count"))
        return (int(self._pragma("page_count")) - free) * int(self._pragma("page_size"))

    # -- writing --------------------------------------------------------------------------------------------------

    def begin(self, station: str, codec: str, header: bytes, kbps: int) -> int:
        """Begin a run of a station; return its number."""
        values = (station, codec, header, kbps)
        made = self._db.execute("INSERT INTO runs (station, codec, header, kbps) VALUES (?, ?, ?, ?)", values)
        assert made.lastrowid is not None
        return made.lastrowid

    def add(self, row: Row, titles: Sequence[Title], oldest: float) -> None:
        """Add a row, and remove what is too old or too much.

        Args:
            row: the row.
            titles: new titles of its run.
            oldest: POSIX time before which audio is removed.
        """
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("DELETE FROM audio WHERE wall < ?", (oldest,))
            while self.used_bytes + 2 * len(row.data) + 64 * self._page_bytes > self._most and self._drop_oldest():
                pass
            self._db.executemany("INSERT INTO titles VALUES (?, ?, ?)", [(row.run, t.pos, t.text) for t in titles])
            self._db.execute(
                "INSERT INTO audio (run, pos, n, wall, size, data) VALUES (?, ?, ?, ?, ?, ?)",
                (row.run, row.pos, row.n, row.wall, len(row.data), row.data),
            )

    def tidy(self) -> None:
        """Remove runs and titles without audio."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(
                "DELETE FROM runs WHERE id NOT IN (SELECT DISTINCT run FROM audio) AND id < "
                "(SELECT max(run) FROM audio)"
            )
            self._db.execute("DELETE FROM titles WHERE run NOT IN (SELECT id FROM runs)")
            # The last title before a run's first row belongs to that row.
            self._db.execute(
                "DELETE FROM titles WHERE EXISTS (SELECT 1 FROM titles AS later WHERE later.run = titles.run AND "
                "later.pos > titles.pos AND later.pos <= (SELECT min(pos) FROM audio WHERE audio.run = titles.run))"
            )

    def _drop_oldest(self) -> bool:
        """Remove the oldest rows; False if there are none."""
        dropped = self._db.execute("DELETE FROM audio WHERE id IN (SELECT id FROM audio ORDER BY id LIMIT 8)")
        return dropped.rowcount > 0

    def _shrink(self) -> None:
        """Fit a file of an earlier, larger limit."""
        while self.used_bytes > self._most and self._drop_oldest():
            pass
        if int(self._pragma("page_count")) * self._page_bytes > self._most:
            self._db.execute("PRAGMA incremental_vacuum").fetchall()
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    # -- reading --------------------------------------------------------------------------------------------------

    def pieces(self, station: str, begin: float, end: float) -> list[Piece]:
        """Rows of a station that overlap a span of POSIX time, in order."""
        return self._pieces("station = ? AND wall < ? AND wall + n / ? > ?", station, end, float(SAMPLE_RATE), begin)

    def pieces_of_run(self, station: str, run: int, first: int, last: int) -> list[Piece]:
        """Rows of a run that overlap its samples [first, last), in order."""
        return self._pieces("station = ? AND run = ? AND pos < ? AND pos + n > ?", station, run, last, first)

    def _pieces(self, where: str, *values: object) -> list[Piece]:
        columns = "audio.id, run, pos, n, wall, size, codec, kbps"
        text = f"SELECT {columns} FROM audio JOIN runs ON runs.id = run WHERE {where} ORDER BY audio.id"
        return [Piece(*row) for row in self._db.execute(text, values)]

    def titles(self, run: int) -> list[Title]:
        """Titles of a run, in order."""
        found = self._db.execute("SELECT pos, text FROM titles WHERE run = ? ORDER BY pos", (run,))
        return [Title(*row) for row in found]

    def header(self, run: int) -> bytes:
        """Header of a run's encoder."""
        found = self._db.execute("SELECT header FROM runs WHERE id = ?", (run,)).fetchone()
        return b"" if found is None else bytes(found[0])

    def data(self, ident: int) -> bytes:
        """Audio of one row; empty if it has been removed."""
        found = self._db.execute("SELECT data FROM audio WHERE id = ?", (ident,)).fetchone()
        return b"" if found is None else bytes(found[0])

    def _pragma(self, name: str) -> int:
        return int(self._db.execute(f"PRAGMA {name}").fetchone()[0])
