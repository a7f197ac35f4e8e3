"""Tempo and metre from the words of a prompt: numbers, genres, scenes and words of pace.

The table ``paces.toml`` has the tempo ranges of about 1,200 genres, instruments and uses. No model is involved.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Final

from riffstream.journey.words import WORD, flat_text, plain_name

__all__ = ["Pace", "blend", "genres", "read_pace"]

LOWEST, HIGHEST = 40.0, 240.0  # beats per minute, as everywhere in the protocol
PLAIN_SPAN: Final = (72.0, 148.0)  # range of "slow" to "fast" without a genre
_NUMBER: Final = r"(\d{2,3}(?:[.,]\d+)?)"
_BPM: Final = re.compile(
    rf"(?:{_NUMBER}\s*(?:-|–|to)\s*)?{_NUMBER}\s*-?\s*(?:bpm\b|beats?\s*(?:per|a|/)\s*min(?:ute)?)"
    rf"|(?:\b(?:bpm|tempo)|♩)\s*(?:is|of|at|[:=~])?\s*{_NUMBER}(?!\d|\s*/)",
    re.IGNORECASE,
)
_METER: Final = re.compile(r"(?<![\d/])(\d{1,2})\s*/\s*(2|4|8|16)(?![\d/])")
_BREAK: Final = re.compile(
    r"\b(?:with|featuring|feat|over|plus|for|while|at|in|on|under|during|about|from|like|by|of)\b|[,;:.()|/]"
)
_NEGATION: Final = frozenset({"not", "no", "without", "never", "non", "isn", "less"})
_DEGREES: Final = frozenset({"too", "so", "very", "that", "a", "an", "the", "any", "t"})
_THREE: Final = ("triple time", "three four", "three quarter time", "in three", "in 3", "waltz time", "3 4 time")
_WRITTEN: Final = {
    3: ((3, 4), (6, 8), (3, 8), (9, 8), (6, 4), (3, 2)),
    4: ((4, 4), (2, 4), (12, 8), (8, 8), (2, 2), (4, 8)),
}
_LONGEST: Final = 4  # words of a name
GENRE: Final = 2  # rank of a genre: without a metre in the table it has four beats to the bar


@dataclass(frozen=True, slots=True)
class Pace:
    """Tempo and metre of a text.

    Attributes:
        bpm: beats per minute, 40 to 240; None if the text has no tempo.
        beats: beats a bar, 3 or 4; None if the text has no metre.
        because: the deciding words and their range, for users; "" without a tempo.
        beats_because: the words that decide the metre, for users; "" without a metre.
    """

    bpm: float | None = None
    beats: int | None = None
    because: str = ""
    beats_because: str = ""


@dataclass(frozen=True, slots=True)
class _Name:
    """An entry of the table: ``rank`` 2 for genres, 1 for scenes; ``lean`` is set for modifiers only."""

    low: float = 0.0
    high: float = 0.0
    beats: int | None = None
    rank: int = 0
    lean: float | None = None


@dataclass(frozen=True, slots=True)
class _Found:
    """A name in a text: ``at`` is its first word, ``clause`` the part of the sentence."""

    words: str
    at: int
    size: int
    clause: int
    name: _Name


@lru_cache(maxsize=512)
def read_pace(text: str) -> Pace:
    """Read the tempo and the metre requested by a prompt.

    A number of beats per minute takes precedence ("at 138 bpm"; numbers out of range are halved or doubled). Otherwise
    the genre decides: the longest name, and among several the last one of the main clause ("ambient techno" is techno,
    and so is "techno with ambient pads"). Scenes and instruments count without a genre. Words of pace move the tempo to
    an end of the range. A written metre ("in 6/8") takes precedence over the genre's.

    Args:
        text: any text of any length.
    """
    flat = flat_text(text)
    found = [each for clause, part in enumerate(_BREAK.split(flat)) for each in _search(part, clause)]
    beats, why = _beats(flat, found)
    if (number := _number(flat)) is not None:
        return Pace(number, beats, f"the text says {number:g} bpm", why)
    head = _head(found)
    lean, words = _lean([each for each in found if each is not head])
    if head is None:
        if not words:
            return Pace(None, beats, "", why)
        low, high = PLAIN_SPAN
        return Pace(_between(low, high, lean), beats, " ".join(words), why)
    low, high = head.name.low, head.name.high
    because = f"{head.words}: {low:g} to {high:g} bpm"
    return Pace(_between(low, high, lean), beats, ", ".join([*words, because]), why)


@lru_cache(maxsize=1)
def genres() -> frozenset[str]:
    """Plain names of all genres of the table, one to four words each."""
    return frozenset(name for name, entry in _table().items() if entry.rank == GENRE)


def blend(paces: Sequence[tuple[Pace, float]]) -> Pace:
    """Tempo of a mix of prompts (weighted geometric mean), and the metre of the larger part by weight.

    Args:
        paces: paces of the prompts with their weights (0 or more). Prompts without a tempo do not count for the tempo,
            nor prompts without a metre for the metre. Of two metres with equal weights, the first one wins.
    """
    timed = [(pace, weight) for pace, weight in paces if pace.bpm is not None and weight > 0]
    shares: dict[int, float] = {}
    for pace, weight in paces:
        if pace.beats and weight > 0:
            shares[pace.beats] = shares.get(pace.beats, 0.0) + weight
    beats = max(shares, key=lambda metre: round(shares[metre], 6)) if shares else None
    reasons = [pace.beats_because for pace, weight in paces if pace.beats == beats and weight > 0]
    why = "; ".join(dict.fromkeys(reason for reason in reasons if reason))
    if not timed:
        return Pace(None, beats, "", why)
    total = sum(weight for _, weight in timed)
    bpm = math.exp(sum(weight * math.log(pace.bpm or 1.0) for pace, weight in timed) / total)
    return Pace(round(bpm, 1), beats, "; ".join(dict.fromkeys(pace.because for pace, _ in timed)), why)


def _number(flat: str) -> float | None:
    match = _BPM.search(flat)
    if match is None:
        return None
    low, high, after = (None if part is None else float(part.replace(",", ".")) for part in match.groups())
    number = after or high or 0.0
    if low is not None and 0 < low < number:
        number = (low + number) / 2
    if not number:
        return None
    while number > HIGHEST:
        number /= 2
    while number < LOWEST:
        number *= 2
    return round(number, 3)


def _beats(flat: str, found: Sequence[_Found]) -> tuple[int | None, str]:
    """Beats a bar by a written metre, a word for it, or the genre; and the reason, for users."""
    for match in _METER.finditer(flat):
        upper, lower = int(match[1]), int(match[2])
        for beats, written in _WRITTEN.items():
            if (upper, lower) in written:
                return beats, f"the text says {upper}/{lower}"
        if 2 <= upper <= 15 and lower > 2:
            return None, f"{upper}/{lower} is not available"
    words = " ".join(WORD.findall(flat))
    if name := next((name for name in _THREE if re.search(rf"\b{name}\b", words)), None):
        return 3, f"the text says {name}"
    # A dance in three decides beside any genre: "string quartet waltz", "orchestral, minuet".
    dances = [each for each in found if each.name.beats]
    head = _head(dances) or _head(found)
    if head is None or (head.name.beats is None and head.name.rank < GENRE):
        return None, ""
    beats = head.name.beats or 4
    return beats, f"{head.words}: {beats} beats to the bar"


def _search(part: str, clause: int) -> list[_Found]:
    """Names in a clause from left to right, preferring the longest; negated names are left out."""
    table, words = _table(), WORD.findall(part)
    found: list[_Found] = []
    at = 0
    while at < len(words):
        for size in range(min(_LONGEST, len(words) - at), 0, -1):
            name = _entry(table, words[at : at + size])
            if name is not None:
                if not _negated(words[:at]):
                    found.append(_Found(" ".join(words[at : at + size]), at, size, clause, name))
                at += size
                break
        else:
            at += 1
    return found


def _negated(before: Sequence[str]) -> bool:
    """Whether the words before a name negate it: "not slow", "not too slow", "no drums"."""
    while before and before[-1] in _DEGREES:
        before = before[:-1]
    return bool(before) and before[-1] in _NEGATION


def _entry(table: dict[str, _Name], words: Sequence[str]) -> _Name | None:
    name = " ".join(words)
    return table.get(name) or (table.get(name[:-1]) if name.endswith("s") else None)


def _head(found: Sequence[_Found]) -> _Found | None:
    """The deciding name: a genre before a scene, the first clause before others, there the longest, else the last."""
    names = [each for each in found if each.name.rank]
    return max(names, key=lambda each: (each.name.rank, -each.clause, each.size, each.at), default=None)


def _lean(found: Sequence[_Found]) -> tuple[float, list[str]]:
    """Sum of the modifiers, -1.6 to 1.6, and their words."""
    leans = [(each.name.lean, each.words) for each in found if each.name.lean is not None]
    total = sum(lean for lean, _ in leans)
    return max(-1.6, min(1.6, total)), [words for _, words in leans]


def _between(low: float, high: float, lean: float) -> float:
    """Tempo within a range by ``lean``: the ends at -1 and 1, the geometric mean at 0, slightly beyond above 1."""
    bpm = low * (high / low) ** ((lean + 1) / 2)
    return float(round(max(LOWEST, min(HIGHEST, bpm)), 1))


@lru_cache(maxsize=1)
def _table() -> dict[str, _Name]:
    """Names of the data file in the form for :func:`_search`."""
    data = tomllib.loads(resources.files(__package__).joinpath("paces.toml").read_text("utf-8"))
    table: dict[str, _Name] = {}
    for lean, names in data["modifiers"].items():
        table |= {plain_name(name): _Name(lean=float(lean)) for name in names}
    for rank, group in ((1, "scenes"), (2, "genres")):
        for span, names in data[group].items():
            tempo, _, beats = span.partition("/")
            low, high = map(float, tempo.split("-"))
            for name in names:
                entry = _Name(low, high, int(beats) if beats else None, rank, table.get(plain_name(name), _Name()).lean)
                table[plain_name(name)] = entry
    return table
