"""Names of loops: their style's, and what sets a loop apart from the style's other loops."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Final

from riffstream.journey.conditions import QUIET
from riffstream.models.seeds import SeedEntry
from riffstream.training.loop_choice import Window

__all__ = ["loop_name"]

PLAYERS: Final = {"pad": "pads", "arp": "arpeggio", "lead": "melody", "drums": "drums", "bass": "bass"}
LEVELS: Final = {"energy": ("soft", "loud"), "density": ("sparse", "busy"), "brightness": ("dark", "bright")}
APART: Final = 0.12  # a level this far from all other loops' names a loop
COMMON: Final = ("drum", "bass", "brushes")  # instruments of nearly every loop say little


def loop_name(words: str, window: Window, entries: Sequence[SeedEntry]) -> str:
    """A new name in lower case with underscores.

    Args:
        words: usual name of the style.
        window: the loop.
        entries: the library's loops so far.
    """
    plain = _plain(words) or "loop"
    taken = {entry.name for entry in entries}
    if plain not in taken:
        return plain
    siblings = [entry for entry in entries if entry.style == window.song.style]
    marked = (f"{plain}_{_plain(mark)}" for mark in (_marks(window, siblings) if siblings else ()))
    numbered = (f"{plain}_{number}" for number in range(2, len(taken) + 3))
    return next(name for name in chain(marked, numbered) if name not in taken)


def _marks(window: Window, siblings: Sequence[SeedEntry]) -> Iterator[str]:
    """What this loop has, or lacks, and the style's other loops do not; what is heard best comes first."""
    levels = window.levels
    playing = [part for part, level in levels.parts.items() if level >= QUIET]
    if playing == ["drums"]:
        yield "drums only"
    if window.song.beats == 6 and all(entry.beats == 8 for entry in siblings):
        yield "in three"
    for part in ("drums", "bass"):
        if part not in playing and part in levels.parts and all(entry.plays({part: 1.0}) for entry in siblings):
            yield f"no {part}"
    tags = set(chain.from_iterable(entry.tags for entry in siblings))
    own = [name for name in window.instruments if name not in tags]
    yield from (name for name in own if not any(word in name for word in COMMON))
    for part, word in PLAYERS.items():
        if part in playing and all(entry.plays({part: 0.0}) for entry in siblings):
            yield word
        if part not in playing and part in levels.parts and all(entry.plays({part: 1.0}) for entry in siblings):
            yield f"no {word}"
    for name, (low, high) in LEVELS.items():
        level, theirs = getattr(levels, name), [getattr(entry, name) for entry in siblings]
        known = [value for value in theirs if value is not None]
        if level is not None and known and level <= min(known) - APART:
            yield low
        if level is not None and known and level >= max(known) + APART:
            yield high
    yield from (name for name in own if name not in ("drums", "bass", "drum kit"))


def _plain(words: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")
