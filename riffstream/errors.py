"""Exceptions that reach a user: each says what was given, what is allowed, and what to do next."""

from __future__ import annotations

from typing import Any

__all__ = ["CheckpointError", "MediaError", "MediaWarning", "ParameterError", "RiffstreamError"]


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
