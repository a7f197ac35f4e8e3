"""Exceptions that reach a user: each says what was given, what is allowed, and what to do next."""

from __future__ import annotations

import errno
from typing import Any, Final

__all__ = [
    "CheckpointError",
    "MediaError",
    "MediaWarning",
    "ParameterError",
    "RiffstreamError",
    "device_lost",
    "out_of_memory",
]

# What torch's allocators say: CUDA's, the CPU's on Linux and on Windows, and the libraries that have their own.
_NO_MEMORY: Final = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")


class RiffstreamError(Exception):
    """Base of every error that a user may see. ``str()`` is one line, fit for a terminal or a socket."""


class ParameterError(RiffstreamError, ValueError):
    """A parameter outside its range.

    Attributes:
        field: the parameter's public name, as the user wrote it.
        value: what was given.
        allowed: the range or the choices, in words ("0 to 1").
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
    """A file that could not be read as audio or as an image. The message names the file and the reason."""


class MediaWarning(UserWarning):
    """A file that was read in part only, or with parameters that had to be guessed. The message names the file."""


class CheckpointError(RiffstreamError, ValueError):
    """A checkpoint with a missing, mis-shaped or unsupported part. The message names the part."""


def out_of_memory(error: BaseException | None) -> bool:
    """Whether an exception, or what caused it, says that memory ran out, on the CPU or on a device.

    Torch has several classes for it and this process may not import torch, so names and messages decide.
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
    """Whether a device no longer works in this process: after such an error every later call fails as well."""
    return type(error).__name__ == "AcceleratorError" or (
        isinstance(error, RuntimeError) and "cuda error" in str(error).lower()
    )
