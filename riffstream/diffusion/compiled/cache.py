"""Cache of converted networks in the user's cache directory: one file each, with a checksum.

Threading model
  Any thread   makes the calls. Processes may share a folder: files appear whole, and the lock serialises conversions.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["NetworkCache", "cache_folder"]

log = logging.getLogger(__name__)

DIGEST_BYTES: Final = 32
KEPT: Final = 8  # files: the networks of a few models, versions and precisions
SUFFIX: Final = ".network"


def cache_folder() -> Path:
    """Folder of this user for converted networks: below ``XDG_CACHE_HOME``, or the system's usual place."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(given):
        base = Path(given)
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or os.path.expanduser("~"))
    else:
        base = Path(os.path.expanduser("~"), "Library/Caches" if sys.platform == "darwin" else ".cache")
    return base / "riffstream" / "openvino"


class NetworkCache:
    """Files of a folder by key. Without a writable folder nothing is kept.

    Args:
        folder: the folder; it is made when something is stored.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, key: str) -> bytes | None:
        """The data of a key; None if there is none, or if the file is damaged. A damaged file is removed."""
        path = self.folder / (key + SUFFIX)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        digest, data = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
        if _digest(data) != digest:
            log.warning("%s is damaged and is made again", path)
            self.remove(key)
            return None
        with contextlib.suppress(OSError):  # a folder of others
            os.utime(path)  # the oldest are removed
        return data

    def store(self, key: str, data: bytes) -> None:
        """Keep the data of a key in place of its earlier data, and remove the files that were not used for longest.

        Raises:
            OSError: the folder cannot be written to, or the disk is full.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(prefix=f".{key}.", dir=self.folder)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_digest(data))
                file.write(data)
            os.replace(part, self.folder / (key + SUFFIX))
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(part)
            raise
        for old in sorted(self.folder.glob(f"*{SUFFIX}"), key=_used, reverse=True)[KEPT:]:
            old.unlink(missing_ok=True)

    def remove(self, key: str) -> None:
        """Remove the data of a key, if there is any."""
        with contextlib.suppress(OSError):
            (self.folder / (key + SUFFIX)).unlink(missing_ok=True)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Wait until no other process holds the lock, and hold it. Without a writable folder or locks, do nothing."""
        try:
            import fcntl

            self.folder.mkdir(parents=True, exist_ok=True)
            file = open(self.folder / "lock", "ab")  # noqa: SIM115  (closed below, after the caller's work)
        except (ImportError, OSError):
            yield
            return
        with file:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def _used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # another process has removed it
        return 0.0
