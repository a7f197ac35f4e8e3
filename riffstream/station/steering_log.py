"""The steering log: a complete record of a station's output, in samples and beats, without wall time.

JSON Lines. A ``header`` (model, journey, lengths), then in order: ``steer`` and ``transport`` (for readers), ``job``
(a clip whose audio was used, with all parameters) and ``cue`` (the source from a sample on), and at the end of a saved
log ``end``. ``riffstream render --replay LOG`` reproduces the same samples.
"""

from __future__ import annotations

import contextlib
import logging
import zlib
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from riffstream.errors import MediaError
from riffstream.text_files import decode_text

__all__ = ["SteeringLog", "read_log", "set_aside"]

log = logging.getLogger(__name__)

KEPT: Final = 50_000  # entries in memory: half a day or more
KEPT_BYTES: Final = 4 * 2**20  # limit of their compressed size; an entry takes about 25 bytes
PAGE: Final = 256  # entries compressed together

_encoder = msgspec.json.Encoder(decimal_format="number")


class SteeringLog:
    """Log of one station: the newest entries compressed in memory, and optionally all entries in a file.

    Args:
        station: name of the station.
        file: path of a file that is written line by line while the station plays.
    """

    def __init__(self, station: str, file: str | Path | None = None) -> None:
        self.station = station
        self._header = b""
        self._pages: deque[bytes] = deque()  # PAGE lines each, compressed
        self._page_bytes = 0
        self._lines: list[bytes] = []  # lines of the incomplete page
        self._dropped = 0
        self._file: IO[bytes] | None = None
        if file:
            try:
                self._file = Path(file).open("wb", buffering=0)  # noqa: SIM115  (closed in close())
            except OSError as error:
                raise MediaError(f"steering log {file}: {error}") from None

    def header(self, values: Mapping[str, Any]) -> None:
        """Write the first entry."""
        self._header = _encoder.encode({"entry": "header", "station": self.station, **values})
        self._write(self._header)

    def add(self, entry: str, values: Mapping[str, Any]) -> None:
        """Append an entry; ``values`` may hold message structs and dataclasses."""
        line = _encoder.encode({"entry": entry, **values})
        self._lines.append(line)
        self._write(line)
        if len(self._lines) == PAGE:
            page = zlib.compress(b"\n".join(self._lines))
            self._lines.clear()
            self._pages.append(page)
            self._page_bytes += len(page)
        while len(self._pages) > KEPT // PAGE or self._page_bytes > KEPT_BYTES:
            self._page_bytes -= len(self._pages.popleft())
            self._dropped += PAGE

    def _write(self, line: bytes) -> None:
        if self._file is None:
            return
        try:
            self._file.write(line + b"\n")
        except OSError as error:  # a full disk must not stop the music
            log.error("the steering log of station %s ends here: %s", self.station, error)
            file, self._file = self._file, None
            with contextlib.suppress(OSError):
                file.close()

    def lines(self, end: int | None = None) -> Iterator[str]:
        """Yield the log as JSON Lines; ``end``: committed samples, for the last entry."""
        if self._header:
            yield self._header.decode()
        if self._dropped:
            yield _encoder.encode({"entry": "dropped", "entries": self._dropped}).decode()
        for page in tuple(self._pages):
            yield from zlib.decompress(page).decode().split("\n")
        for line in tuple(self._lines):
            yield line.decode()
        if end is not None:
            yield _encoder.encode({"entry": "end", "sample_pos": end}).decode()

    def save(self, path: str | Path, end: int | None = None) -> None:
        """Write the log to a file. Raises MediaError."""
        try:
            Path(path).write_text("".join(line + "\n" for line in self.lines(end)), encoding="utf-8")
        except OSError as error:
            raise MediaError(f"steering log {path}: {error}") from None

    def close(self, end: int | None = None) -> None:
        """Complete the file. Idempotent."""
        if self._file is not None and end is not None:
            self._write(_encoder.encode({"entry": "end", "sample_pos": end}))
        if self._file is not None:
            self._file.close()
            self._file = None


def read_log(path: str | Path) -> list[dict[str, Any]]:
    """Read the entries of a saved log. An incomplete last line (the station was killed) is ignored.

    Raises:
        MediaError: the file does not exist or is not a steering log.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise MediaError(f"steering log {path}: {error}") from None
    with contextlib.suppress(MediaError):  # an incomplete last line may not be valid text
        data = decode_text(data).encode()
    lines = data.splitlines()
    entries: list[dict[str, Any]] = []
    for number, line in enumerate(lines):
        try:
            entry = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            if number == len(lines) - 1:
                break
            raise MediaError(f"steering log {path}: line {number + 1} is not JSON") from None
        if not isinstance(entry, dict) or "entry" not in entry:
            raise MediaError(f"steering log {path}: line {number + 1} is not an entry of a steering log")
        entries.append(entry)
    if not entries or entries[0]["entry"] != "header":
        raise MediaError(f"steering log {path}: it does not begin with a header")
    if any(entry["entry"] == "dropped" for entry in entries):
        raise MediaError(
            f"steering log {path}: its beginning was dropped; set save_log for the station to keep all of it"
        )
    return entries


def set_aside(file: str, pos: int) -> None:
    """Rename the log of an earlier process, which a new one would overwrite. ``pos``: the station's sample clock."""
    path = Path(file)
    with contextlib.suppress(OSError):
        path.replace(path.with_name(f"{path.stem}.until-{pos}{path.suffix}"))
