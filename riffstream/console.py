"""Standard streams that never fail to print: limited encodings, undecodable names, closed and full outputs."""

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
    """Prepare the standard streams. Call it once, before anything is printed.

    - A character that the console cannot encode is printed as an escape (``\\xe9``).
    - A closed stream is replaced by the null device. Otherwise the next opened file would get its number and receive
      the output of libraries and child processes.
    - If stderr cannot be written, messages are dropped and the program continues.
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
    """Wrapper of a stream whose writes never raise OSError."""

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
    """Flush standard output.

    Args:
        code: exit code so far.

    Returns:
        ``code``, or 1 in place of 0 if the output could not be written (full disk); stderr then has a message. A closed
        pipe (``riffstream seeds | head``) is not an error.
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
    """Whether the reader has closed our standard output.

    ``error`` is the exception raised by a write, the only sign of it on some systems.
    """
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
    except ValueError:  # closed, or not a file
        return True
    return False


def _silence() -> None:
    """Redirect standard output to the null device, so that the interpreter reports no second error at exit."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
