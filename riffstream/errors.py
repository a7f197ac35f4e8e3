"""Exceptions for users: the message names the value, the allowed range, and the remedy."""

from __future__ import annotations

import errno
from typing import Any, Final

__all__ = [
    "CheckpointError",
    "MediaError",
    "MediaWarning",
    "ParameterError",
    "RadioError",
    "RiffstreamError",
    "device_lost",
    "out_of_memory",
]

# Messages of torch's allocators (CUDA, CPU on Linux, CPU on Windows) and of libraries with their own allocator.
_NO_MEMORY: Final = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")


class RiffstreamError(Exception):
    """Base class of all errors for users. ``str()`` is one line for a terminal or a socket."""


class ParameterError(RiffstreamError, ValueError):
    """A parameter outside its range.

    Attributes:
        field: public name of the parameter.
        value: the given value.
        allowed: the range or the choices as text ("0 to 1").
    """

    def __init__(self, field: str, value: Any, allowed: str) -> None:
        shown = repr(value)
        if len(shown) > 80:
            shown = shown[:77] + "..."
        super().__init__(f"{field} is {shown}; allowed: {allowed}")
        self.field = field
        self.value = value
        self.allowed = allowed

    def __reduce__(self) -> tuple[Any, ...]:  # keeps the fields across a process boundary
        return type(self), (self.field, self.value, self.allowed)


class MediaError(RiffstreamError, ValueError):
    """A file that cannot be read or written as audio, image or text. The message names the file and the reason."""


class MediaWarning(UserWarning):
    """A file that was read only in part, or with assumed parameters. The message names the file."""


class CheckpointError(RiffstreamError, ValueError):
    """A checkpoint with a part that is missing, unsupported or of the wrong shape. The message names the part."""


class RadioError(RiffstreamError):
    """A server refused a request of the client, or cannot be reached.

    Attributes:
        code: one of the protocol's codes, or ``superseded``, ``disconnected``, ``unreachable``, ``timeout``.
        field: the invalid field, or None.
        retry_after_ms: delay after which a retry may succeed, or None.
    """

    def __init__(self, code: str, message: str, *, field: str | None = None, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.field = field
        self.retry_after_ms = retry_after_ms


def out_of_memory(error: BaseException | None) -> bool:
    """Whether an exception or its cause means that memory ran out, on the CPU or on a device.

    The class name and the message decide, because torch has several classes for it and may not be imported here.
    """
    while error is not None:
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            return True
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            return True
        if isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _NO_MEMORY):
            return True
        error = error.__cause__
    return False


def device_lost(error: BaseException) -> bool:
    """Whether an exception means that a device no longer works in this process: every later call fails too."""
    return type(error).__name__ == "AcceleratorError" or (
        isinstance(error, RuntimeError) and "cuda error" in str(error).lower()
    )
