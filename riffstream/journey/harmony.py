"""Harmony of styles: the words of a prompt choose families of progressions, and a family gives the chords of a section.

The table ``harmony.toml`` has the families and the names of the styles. Chords are in C major and A minor, the key of
the model. No torch here.
"""

from __future__ import annotations

import random
import re
import tomllib
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Final

__all__ = ["USUAL", "Family", "families", "phrase", "read_harmony"]

USUAL: Final = ("major", "minor")  # for words without a known style
_LONGEST: Final = 5  # words of a name
_WORD: Final = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Family:
    """A family of progressions; each row has one bar as an element ("Am", or "Dm7 / G7" for half bars).

    Attributes:
        verse, chorus, bridge: rows that repeat through a section.
        turn: pairs of bars that end a section and lead on.
        close: pairs of bars that end an outro.
        energy: usual energy, 0 to 1.
        slow: whether each chord of a row lasts two bars.
    """

    verse: tuple[tuple[str, ...], ...]
    chorus: tuple[tuple[str, ...], ...]
    bridge: tuple[tuple[str, ...], ...]
    turn: tuple[tuple[str, ...], ...]
    close: tuple[tuple[str, ...], ...]
    energy: float
    slow: bool = False


@lru_cache(maxsize=1)
def _table() -> tuple[dict[str, Family], dict[str, tuple[str, ...]]]:
    data = tomllib.loads(resources.files(__package__).joinpath("harmony.toml").read_text("utf-8"))
    found = {}
    for name, row in data["families"].items():
        kinds = ("verse", "chorus", "bridge", "turn", "close")
        rows = {kind: tuple(_bars(text) for text in row[kind]) for kind in kinds}
        found[name] = Family(**rows, energy=float(row["energy"]), slow=bool(row.get("slow", False)))
    names = {
        name: tuple(key.split())
        for group in ("words", "styles")  # a style takes precedence
        for key, members in data[group].items()
        for name in members
    }
    return found, names


def _bars(text: str) -> tuple[str, ...]:
    """One element a bar: "Dm7 / G7 CM7" has two bars."""
    return tuple(bar.replace("~", " / ") for bar in text.replace(" / ", "~").split())


def families() -> dict[str, Family]:
    """All families by name."""
    return _table()[0]


@lru_cache(maxsize=512)
def read_harmony(text: str) -> tuple[str, ...]:
    """Families of the style named in a prompt, the likeliest first; empty without a known name.

    The longest name decides, and among names of equal length the first.

    >>> read_harmony("a mellow bossa nova with soft drums")
    ('jazz', 'minor_jazz')
    """
    names = _table()[1]
    flat = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    words = _WORD.findall(flat)
    for size in range(min(_LONGEST, len(words)), 0, -1):
        for at in range(len(words) - size + 1):
            if (found := names.get(" ".join(words[at : at + size]))) is not None:
                return found
    return ()


def phrase(family: Family, kind: str, bars: int, *, last: bool, seed: str) -> tuple[str, ...]:
    """Chords of a section, one element a bar.

    The row repeats; the last two bars are a cadence: a turn to the next section, or a close.

    Args:
        family: family of the progression.
        kind: verse, chorus or bridge.
        bars: length of the section, 1 or more.
        last: True ends with a close.
        seed: seed of the choice; equal arguments give equal chords.
    """
    draw = random.Random(seed)
    row = draw.choice(getattr(family, kind))
    if family.slow:
        row = tuple(bar for bar in row for _ in range(2))
    cadence = draw.choice(family.close if last else family.turn)
    played = [row[bar % len(row)] for bar in range(bars)]
    length = min(len(cadence), bars)
    played[bars - length :] = cadence[len(cadence) - length :]
    return tuple(played)
