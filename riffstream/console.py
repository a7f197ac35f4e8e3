"""Standard streams on which printing cannot fail: narrow consoles, names that are no text, closed and full outputs."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import sys
from typing import Any, Final, TextIO, cast

__all__ = ["finish", "prepare", "reader_left"]

_FULL: Final = (errno.ENOSPC, errno.EIO, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))


def prepare() -> None:
    """Make the standard streams ready; called once, before anything is printed.

    - A character that the console cannot show, or half of one from a file name, is printed as an escape (``\\xe9``).
    - A stream that the caller closed leads nowhere. A file opened later would else take its number, and get what
      libraries and child processes print.
    - A message on stderr that nobody can read is lost, and the work goes on.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if sys.stderr is sys.__stderr__:
        sys.stderr = cast(TextIO, _Unfailing(cast(TextIO, sys.stderr)))


class _Unfailing:
    """A stream whose writes never raise OSError."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


def finish(code: int) -> int:
    """Print what is still buffered.

    Args:
        code: exit code so far.

    Returns:
        ``code``; 1 in place of 0 where the output could not be written (a full disk), which is said on stderr. A
        reader that has left (``riffstream seeds | head``) is no fault.
    """
    try:
        sys.stdout.flush()
    except (OSError, ValueError) as error:
        left = reader_left()
        _silence()
        if not left and isinstance(error, OSError):
            print(f"riffstream: standard output: {error.strerror or error}", file=sys.stderr)
            return code or 1
    return code


def reader_left(error: OSError | None = None) -> bool:
    """Whether the reader of our standard output has closed it; ``error``: what was raised, for systems that only say
    so there."""
    if isinstance(error, BrokenPipeError) and not hasattr(select, "poll"):
        return True
    try:
        number = sys.stdout.fileno()
        if hasattr(select, "poll"):
            poll = select.poll()
            poll.register(number, select.POLLOUT)
            return any(state & (select.POLLERR | select.POLLHUP) for _, state in poll.poll(0))
        sys.stdout.flush()
    except OSError as failed:
        return failed.errno not in _FULL
    except ValueError:  # closed, or no file
        return True
    return False


def _silence() -> None:
    """Lead standard output nowhere, so that the interpreter does not report the same at its end."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
