"""One part of a prompt mix."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct

from riffstream.ranges import RANGES

__all__ = ["PROMPTS", "Prompt"]

PROMPTS: Final = 8
Weight = Annotated[float, RANGES["weight"].meta]


class Prompt(Struct, frozen=True, kw_only=True):
    """One part of a prompt mix: ``text``, and its ``weight`` relative to the other parts."""

    text: Annotated[str, Meta(min_length=1, max_length=4096)]
    weight: Weight = 1.0
