"""The file of the server's state in ``server.state_dir``: stations and sessions, from which a later process continues.

It is replaced as a whole: written to a second file, flushed to the disk, renamed. A reader finds the old or the new
state, never a part. A hash detects damage.

Threading model
  Any thread   reads and writes; one at a time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from riffstream.errors import RiffstreamError
from riffstream.server.own_stations import SavedOwnStation
from riffstream.station.saved import SavedStation

__all__ = ["NAME", "SavedFanout", "SavedServer", "StateFileError", "read_state", "write_state"]

NAME: Final = "stations.json"
FORMAT: Final = "riffstream-state"
VERSION: Final = 1
MOST_BYTES: Final = 64 * 2**20


class StateFileError(RiffstreamError):
    """The file cannot be used."""


class SavedFanout(Struct, frozen=True, forbid_unknown_fields=True):
    """The end of a fan-out at a planned stop.

    Attributes:
        codec, wire, frame_ms: which one.
        next_seq: sequence number of its next frame.
        borders: sample clock at the beginnings of its last frames, and at the end of the last one.
        sessions: names of the sessions that may resume on it.
    """

    codec: str
    wire: str
    frame_ms: Annotated[int, Meta(ge=20, le=10_000)]
    next_seq: Annotated[int, Meta(ge=0, le=2**53)]
    borders: Annotated[tuple[Annotated[int, Meta(ge=-(2**20), le=2**53)], ...], Meta(max_length=1000)]
    sessions: tuple[Annotated[str, Meta(max_length=200)], ...]


class SavedServer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """State of a server.

    Attributes:
        clean: True after a planned stop; False while the server runs.
        stations: states by name.
        fanouts: fan-outs by the station's name.
        own: private stations of visitors, by name.
    """

    clean: bool
    stations: dict[str, SavedStation]
    fanouts: dict[str, tuple[SavedFanout, ...]] = {}
    own: dict[str, SavedOwnStation] = {}


class _Head(Struct, frozen=True):
    format: str
    version: int
    sha256: str = ""


def write_state(path: Path, state: SavedServer) -> None:
    """Replace the file. Raises OSError."""
    body = msgspec.json.encode(state)
    head = msgspec.json.encode(_Head(FORMAT, VERSION, hashlib.sha256(body).hexdigest()))
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)  # sessions are secrets of their clients
    with open(file, "wb") as target:
        target.write(head + b"\n" + body + b"\n")
        target.flush()
        os.fsync(target.fileno())
    os.replace(new, path)
    with contextlib.suppress(OSError, AttributeError):  # Windows cannot open folders
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def read_state(path: Path) -> SavedServer | None:
    """Read the file; None without one.

    Raises:
        StateFileError: it is damaged, of another version, or another program's.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise StateFileError(f"{path} is larger than {MOST_BYTES >> 20} MiB; it is no state of riffstream")
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateFileError(f"{path} cannot be read: {error.strerror}") from None
    first, _, body = data.partition(b"\n")
    try:
        head = msgspec.json.decode(first, type=_Head)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise StateFileError(f"{path} is no state of riffstream, or damaged") from None
    if head.format != FORMAT:
        raise StateFileError(f"{path} is no state of riffstream")
    if head.version != VERSION:
        raise StateFileError(f"{path} has version {head.version}; this riffstream reads version {VERSION}")
    body = body.removesuffix(b"\n")
    if hashlib.sha256(body).hexdigest() != head.sha256:
        raise StateFileError(f"{path} is damaged")
    try:
        return msgspec.json.decode(body, type=SavedServer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StateFileError(f"{path} cannot be used: {error}") from None
