"""Parts of messages about form and harmony."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from riffstream.ranges import RANGES

__all__ = ["CHORDS_CHARS", "Chords", "FormName", "Level", "Parts", "PartsChange", "Rests", "merged_parts"]

CHORDS_CHARS = 200
FormName = Literal["song", "dj", "ambient", "none"]
Chords = Annotated[str, Meta(min_length=1, max_length=CHORDS_CHARS)]
Level = Annotated[float, RANGES["part"].meta]
_Change = Level | UnsetType | None


class PartsChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Levels of parts, 0 (silent) to 1. An absent part keeps its level; null leaves it to the plan and the words."""

    drums: _Change = UNSET
    bass: _Change = UNSET
    chords: _Change = UNSET
    pad: _Change = UNSET
    arp: _Change = UNSET
    lead: _Change = UNSET


def merged_parts(
    old: PartsChange | UnsetType | None, new: PartsChange | UnsetType | None
) -> PartsChange | UnsetType | None:
    """Two changes in one; the newer level of each part wins. None leaves all parts to the plan and the words."""
    if new is UNSET:
        return old
    if new is None or old is UNSET:
        return new
    names = PartsChange.__struct_fields__
    before = PartsChange(**dict.fromkeys(names)) if old is None else old
    kept = {name: getattr(before, name) for name in names if getattr(new, name) is UNSET}
    return msgspec.structs.replace(new, **kept)


class Parts(Struct, frozen=True, kw_only=True):
    """Levels of parts, 0 (silent) to 1; null: left to the plan and the words."""

    drums: Level | None = None
    bass: Level | None = None
    chords: Level | None = None
    pad: Level | None = None
    arp: Level | None = None
    lead: Level | None = None


class Rests(Struct, frozen=True, kw_only=True):
    """Parts that rest because the words say so, each with these words ("no drums"); null: the part does not."""

    drums: str | None = None
    bass: str | None = None
    chords: str | None = None
    pad: str | None = None
    arp: str | None = None
    lead: str | None = None
