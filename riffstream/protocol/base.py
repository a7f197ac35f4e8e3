"""Common base of all messages, and the sizes of their texts."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct

__all__ = ["MAX_MESSAGE_BYTES", "PROMPT_CHARS", "Id", "Message"]

PROMPT_CHARS: Final = 300
# Fits the largest steer: 9 texts of 300 characters of 12 bytes (JSON may have two escapes for one), and 4.4 kB.
MAX_MESSAGE_BYTES: Final = 36_864

Id = Annotated[str, Meta(min_length=1, max_length=64)]


class Message(Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    """Base class of all messages; optional fields with their default value are not sent."""
