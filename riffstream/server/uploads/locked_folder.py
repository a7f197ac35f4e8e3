"""Folders locked by a running server. A killed server leaves temporary folders, which the next server deletes.

The lock (``flock``) is on the folder itself. The system releases it at any end of the process, so an unlocked folder
belongs to no running server; process ids or ages are not needed. Without ``flock`` (Windows) folders are neither locked
nor deleted.

Threading model
  Any thread    creates and closes; one at a time for each object.
  Processes     several may create, lock and delete folders at the same time. A process locks a folder before it deletes
                it, and checks that its own new folder still exists once it is locked.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["FolderTakenError", "LockedFolder"]


class FolderTakenError(Exception):
    """Another running server uses the folder."""


class LockedFolder:
    """A folder, held until :meth:`close`. Made by :meth:`temporary` or :meth:`lasting`.

    Attributes:
        path: of the folder.
    """

    def __init__(self, path: Path, lock: int | None, *, lasting: bool) -> None:
        self.path = path
        self._lock = lock
        self._lasting = lasting

    @classmethod
    def temporary(cls, prefix: str) -> LockedFolder:
        """Create a temporary folder, which :meth:`close` deletes.

        Folders of dead servers with the same prefix and user are deleted now. Raises OSError.
        """
        parent = Path(tempfile.gettempdir())
        for path in parent.glob(f"{prefix}*"):
            _clear(path)
        while True:
            path = Path(tempfile.mkdtemp(prefix=prefix))
            lock = _hold(path, wait=True)
            if lock is not None or fcntl is None:
                return cls(path, lock, lasting=False)
            # Another starting server deleted it before it was locked.

    @classmethod
    def lasting(cls, path: Path) -> LockedFolder:
        """Lock a permanent folder, created if it is missing. Raises OSError; :class:`FolderTakenError`."""
        path.mkdir(parents=True, exist_ok=True)
        lock = _hold(path, wait=False)
        if lock is None and fcntl is not None:
            raise FolderTakenError
        return cls(path, lock, lasting=True)

    def close(self) -> None:
        """Unlock the folder, after deleting a temporary one. Idempotent."""
        if not self._lasting:
            shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _hold(path: Path, *, wait: bool) -> int | None:
    """Lock a folder and return the descriptor; None if another process has locked or deleted it.

    Raises:
        OSError: it cannot be opened for another reason.
    """
    if fcntl is None:
        return None
    try:
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)  # not inherited by child processes
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        held, there = os.fstat(lock), os.stat(path, follow_symlinks=False)
    except (BlockingIOError, FileNotFoundError):
        os.close(lock)
        return None
    except BaseException:
        os.close(lock)
        raise
    if (held.st_dev, held.st_ino) == (there.st_dev, there.st_ino):
        return lock
    os.close(lock)
    return None


def _clear(path: Path) -> None:
    """Delete an unlocked folder of this user and prefix; do nothing with others."""
    if fcntl is None:  # it is unknown whether its server still runs
        return
    with contextlib.suppress(OSError):
        about = path.lstat()
        if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid():
            return
        lock = _hold(path, wait=False)
        if lock is not None:
            try:
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)
