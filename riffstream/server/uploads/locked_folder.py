"""A folder that one running server holds; temporary ones outlive a server that is killed, and the next one clears them.

The holder has a lock (``flock``) on the folder itself. The system lets go of it when the process ends, however it ends,
so that a folder nobody holds is one whose server is dead: no process numbers, no ages, nothing to mistake. Where there
is no ``flock`` (Windows), folders are neither held nor cleared.

Threading model
  Any thread    makes and closes; one at a time for each object.
  Processes     several may make, hold and clear folders beside each other at the same time. Whoever deletes a folder
                holds it meanwhile, and whoever made one looks, once it is held, whether it is still there.
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
    """Another running server holds the folder."""


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
        """A new folder among the system's temporary ones, deleted by :meth:`close`. Those of the same prefix and user
        whose servers are dead are deleted now. Raises OSError."""
        parent = Path(tempfile.gettempdir())
        for path in parent.glob(f"{prefix}*"):
            _clear(path)
        while True:
            path = Path(tempfile.mkdtemp(prefix=prefix))
            lock = _hold(path, wait=True)
            if lock is not None or fcntl is None:
                return cls(path, lock, lasting=False)
            # Another server, starting in this instant, took it for a dead one's before it was held.

    @classmethod
    def lasting(cls, path: Path) -> LockedFolder:
        """A folder that stays; made where it is missing. Raises OSError; :class:`FolderTakenError`."""
        path.mkdir(parents=True, exist_ok=True)
        lock = _hold(path, wait=False)
        if lock is None and fcntl is not None:
            raise FolderTakenError
        return cls(path, lock, lasting=True)

    def close(self) -> None:
        """Let go of it; a temporary one is deleted first. Idempotent."""
        if not self._lasting:
            shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _hold(path: Path, *, wait: bool) -> int | None:
    """Lock a folder: the descriptor that holds it; None where another has it, or where it is gone since. Raises OSError
    where it cannot be opened for another reason."""
    if fcntl is None:
        return None
    try:
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)  # not inherited by the processes we start
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
    """Delete a folder of ours that nobody holds; whatever else it is, leave it alone."""
    if fcntl is None:  # nothing shows whether its server still runs
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
