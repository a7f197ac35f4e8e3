"""The table of ranges of all musical parameters, and the wording of allowed values.

Journeys, protocol, configuration and command line check against this table. A range is also a constraint of msgspec:
messages and settings are checked by their types, and their errors share one wording. No torch here: the server process
imports it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from msgspec import Meta, inspect

from riffstream.errors import ParameterError

__all__ = ["RANGES", "SEEDS", "Range", "allowed", "between", "check", "nearest", "reject_unknown"]

SEEDS = 2**32  # noise seeds are taken modulo this


@dataclass(frozen=True, slots=True)
class Range:
    """An inclusive range of numbers, with the unit for messages."""

    low: float
    high: float
    integer: bool = False
    unit: str = ""

    @property
    def words(self) -> str:
        """Text of the range for messages: ``0 to 1``, ``40 to 240 beats per minute``."""
        kind = "a whole number from " if self.integer else ""
        unit = f" {self.unit}" if self.unit else ""
        return f"{kind}{self.low:.12g} to {self.high:.12g}{unit}"

    @property
    def ends(self) -> tuple[float, float]:
        """(lowest, highest)."""
        return self.low, self.high

    @property
    def meta(self) -> Meta:
        """The range as a constraint: ``Annotated[float, RANGES["bpm"].meta]``."""
        return between(self.low, self.high, self.unit)


def between(low: float, high: float, unit: str = "", *, multiple_of: int | None = None) -> Meta:
    """The constraint of a number from ``low`` to ``high``, both included."""
    return Meta(ge=low, le=high, multiple_of=multiple_of, extra={"unit": unit})


def allowed(kind: inspect.Type, unit: str = "") -> str:
    """The values that a type allows, in words; null is not mentioned.

    Args:
        kind: from ``msgspec.inspect.type_info``.
        unit: of a number, as :func:`between` has it.
    """
    match kind:
        case inspect.Metadata():
            return allowed(kind.type, (kind.extra or {}).get("unit", unit))
        case inspect.UnionType():
            return " or ".join(allowed(each) for each in kind.types if not isinstance(each, inspect.NoneType))
        case inspect.LiteralType():
            return ", ".join(str(value) for value in kind.values)
        case inspect.IntType() | inspect.FloatType() if kind.ge is not None and kind.le is not None:
            words = Range(kind.ge, kind.le, isinstance(kind, inspect.IntType), unit).words
            return f"{words}, a multiple of {kind.multiple_of}" if kind.multiple_of else words
        case inspect.IntType() | inspect.FloatType():
            return "a whole number" if isinstance(kind, inspect.IntType) else "a number"
        case inspect.VarTupleType():
            return "a list of strings"
        case inspect.BoolType():
            return "true or false"
        case _:
            return "a string"


RANGES: Mapping[str, Range] = {
    "alpha": Range(0, 1),
    "beats_per_bar": Range(3, 4, integer=True),
    "brightness": Range(0, 1),
    "bpm": Range(40, 240, unit="beats per minute"),
    "clips": Range(0, 1_000_000, integer=True),
    "denoising": Range(0, 1),
    "density": Range(0, 1),
    "drift": Range(0, 1_000, integer=True, unit="clips from seed to seed (0: the seed stays)"),
    "energy": Range(0, 1),
    "filter": Range(-1, 1),
    "frames": Range(8, 4096, integer=True, unit="frames"),
    "guidance": Range(0, 30),
    "index": Range(0, 2**53, integer=True),
    "key": Range(-6, 6, unit="semitones"),
    "level_db": Range(-60, 12, unit="dB (-60: off)"),
    "part": Range(0, 1),
    "ramp_s": Range(0, 120, unit="s"),
    "seed": Range(0, SEEDS - 1, integer=True),
    "strength": Range(0.05, 0.95),
    "stay": Range(0, 1_000_000, integer=True, unit="clips"),
    "steps": Range(1, 1000, integer=True),
    "tilt": Range(-3, 3, unit="dB an octave"),
    "travel": Range(0, 1_000_000, integer=True, unit="clips"),
    "weight": Range(0, 10),
    "width": Range(0, 2),
}


def check(name: str, value: Any, *, field: str | None = None) -> Any:
    """Return ``value`` as an int or a float if it lies in the range of ``name``.

    Args:
        name: a key of :data:`RANGES`.
        value: the user's value. Only numbers: strings and booleans are refused.
        field: name in the message, if it differs (``keyframe[2].denoising``).

    Raises:
        ParameterError: naming the field, the value and the range.
    """
    rule = RANGES[name]
    bad = isinstance(value, bool) or not isinstance(value, int | float)
    if bad or not rule.low <= value <= rule.high or (rule.integer and value != int(value)):
        raise ParameterError(field or name, value, rule.words)
    return int(value) if rule.integer else float(value)


def nearest(name: str, choices: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` if a choice resembles ``name``, else an empty string."""
    close = difflib.get_close_matches(name, list(choices), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def reject_unknown(given: Iterable[str], known: Iterable[str], *, where: str) -> None:
    """Raise ParameterError for the first key of ``given`` that is not in ``known``, suggesting the nearest one."""
    known = sorted(known)
    for key in given:
        if key not in known:
            raise ParameterError(where, key, f"the keys {', '.join(known)}{nearest(str(key), known)}")
