"""Styles as data: names, prompt phrases, tempo, harmony, and the instruments and patterns of each voice.

The tables are in ``tables/``: built-in styles in electronic.toml and acoustic.toml, MMA's grooves in grooves.toml.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from importlib import resources
from typing import Any

from riffstream.errors import ParameterError

__all__ = ["Style", "StylePart", "groove_styles", "own_styles", "parse_parts", "read_table", "style_of"]


@dataclass(frozen=True, slots=True)
class StylePart:
    """One voice of the arrangement.

    Attributes:
        role: bass, chords, pad, arp, lead or extra; it determines the sections of the voice.
        instruments: possible instruments, names in ``instruments.INSTRUMENTS``.
        patterns: possible patterns, names in ``patterns.PARTS``.
        chance: probability of the voice in a song, 0 to 1.
        shift: distance from the instrument's register in semitones.
    """

    role: str
    instruments: tuple[str, ...]
    patterns: tuple[str, ...]
    chance: float = 1.0
    shift: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """One style.

    Attributes:
        name: unique name; also the label of the evaluation's probe.
        tags: names in captions, the plainest first.
        moods: adjectives.
        scenes: phrases in the style of user prompts.
        bpm: range of tempos in beats per minute.
        harmony: families of ``music.progression``.
        parts: voices of the arrangement.
        drums: names in ``drums.PATTERNS``; empty: no drums.
        kits: names in ``drums.KITS``, or kits of the soundfont (``gm``; ``gm40`` is its kit 40, brushes).
        drum_chance: probability of drums in a song, 0 to 1.
        beats: beats in a bar, 4 or 3.
        swing: see ``melodies.swung``.
        production: suitable names in ``mixing.LOOKS``.
        pump: depth of side-chain ducking on the beat, 0 to 1.
        room: reverb time in seconds, and reverb level.
        drive: amplifier drive of distorted guitars.
        weight: relative number of songs in a corpus, above 0.
    """

    name: str
    tags: tuple[str, ...]
    moods: tuple[str, ...]
    scenes: tuple[str, ...]
    bpm: tuple[float, float]
    harmony: tuple[str, ...]
    parts: tuple[StylePart, ...]
    drums: tuple[str, ...] = ()
    kits: tuple[str, ...] = ("gm",)
    drum_chance: float = 1.0
    beats: int = 4
    swing: float = 0.0
    production: tuple[str, ...] = ("plain",)
    pump: float = 0.0
    room: tuple[float, float] = (1.2, 0.2)
    drive: float = 0.0
    weight: float = 1.0


def parse_parts(rows: list[str]) -> tuple[StylePart, ...]:
    """Read rows of ``role instruments patterns [chance] [shift]``; ``|`` separates alternatives.

    >>> parse_parts(["lead flute|oboe tune 0.5 12"])[0].instruments
    ('flute', 'oboe')

    Raises:
        ParameterError: a row with fewer than three words.
    """
    parts = []
    for row in rows:
        words = row.split()
        if not 3 <= len(words) <= 5:
            raise ParameterError("parts", row, "role instruments patterns [chance] [shift]")
        chance = float(words[3]) if len(words) > 3 else 1.0
        shift = int(words[4]) if len(words) > 4 else 0
        parts.append(StylePart(words[0], tuple(words[1].split("|")), tuple(words[2].split("|")), chance, shift))
    return tuple(parts)


def style_of(name: str, values: Mapping[str, Any]) -> Style:
    """A style from its row of a table.

    Raises:
        ParameterError: an unknown key.
    """
    known = {field.name for field in fields(Style)}
    for key in values:
        if key not in known:
            raise ParameterError(f"{name}.{key}", values[key], f"the keys {', '.join(sorted(known))}")
    row: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    row |= {"name": name, "parts": parse_parts(list(values.get("parts", ())))}
    return Style(**row)


def read_table(file: str) -> dict[str, Any]:
    """A TOML file of ``tables/``, in file order."""
    text = resources.files("riffstream.corpus").joinpath("tables", file).read_text(encoding="utf-8")
    return tomllib.loads(text)


def _styles(file: str, prefix: str = "") -> dict[str, Style]:
    table = read_table(file)
    defaults = table.pop("defaults")
    return {name: style_of(prefix + name, {**defaults, **values}) for name, values in table.items()}


@lru_cache(maxsize=1)
def own_styles() -> tuple[Style, ...]:
    """The built-in styles, with riffstream's parts, patterns and synthesisers."""
    return (*_styles("electronic.toml").values(), *_styles("acoustic.toml").values())


@lru_cache(maxsize=1)
def groove_styles() -> dict[str, Style]:
    """The style of each file of MMA's library. MMA supplies the parts."""
    return _styles("grooves.toml", "mma_")
