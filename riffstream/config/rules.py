"""Rules of configuration fields: kind, range and choices, and what is said where a value breaks them."""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Iterable
from dataclasses import Field, field, fields
from typing import Any

from riffstream.errors import ParameterError

__all__ = ["OFF", "Checked", "parse", "ruled"]

OFF = "off"  # TOML has no null: what turns off a key whose default is a value


def ruled(
    default: Any, low: float | None = None, high: float | None = None, *, choices: Iterable[str] = (), unit: str = ""
) -> Any:
    """A field with a default and its rule."""
    return field(default=default, metadata={"low": low, "high": high, "choices": tuple(choices), "unit": unit})


class Checked:
    """Checks every field against its rule when the object is made, however it is made."""

    def __post_init__(self) -> None:
        for each in fields(typing.cast(Any, self)):
            object.__setattr__(self, each.name, _checked(type(self), each, getattr(self, each.name)))


def parse(kind: type, rule: Field[Any], text: str, variable: str) -> Any:
    """An environment variable as the value of a field of ``kind``; lists are comma-separated. Raises ParameterError."""
    kinds = _kinds(kind, rule)
    if type(None) in kinds and text == "":
        return None
    try:
        if tuple in kinds:
            return tuple(part.strip() for part in text.split(",") if part.strip())
        if bool in kinds:
            return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[text.lower()]
        if int in kinds:
            return int(text)
        return float(text) if float in kinds else text
    except (ValueError, KeyError):
        raise ParameterError(variable, text, _words(kind, rule)) from None


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _kinds(kind: type, rule: Field[Any]) -> set[type]:
    hint = _hints(kind)[rule.name]
    parts = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return {typing.get_origin(part) or part for part in parts}


def _words(kind: type, rule: Field[Any]) -> str:
    low, high = rule.metadata.get("low"), rule.metadata.get("high")
    kinds = _kinds(kind, rule)
    if choices := rule.metadata.get("choices"):
        return ", ".join(choices)
    if tuple in kinds:
        return "a list of strings"
    if bool in kinds:
        return "true or false"
    if low is None:
        return "a string" if str in kinds else "a number"
    unit = f" {rule.metadata['unit']}" if rule.metadata["unit"] else ""
    return f"{'a whole number from ' if int in kinds else ''}{low:.12g} to {high:.12g}{unit}"


def _checked(kind: type, rule: Field[Any], value: Any) -> Any:
    kinds = _kinds(kind, rule)
    if type(None) in kinds and (value is None or (value == OFF and rule.default is not None)):
        return None
    if tuple in kinds and isinstance(value, (list, tuple)) and all(isinstance(part, str) for part in value):
        return tuple(value)
    if float in kinds and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    wrong = not any(type(value) is kind for kind in kinds)
    choices, low, high = (rule.metadata.get(key) for key in ("choices", "low", "high"))
    if wrong or (choices and value not in choices) or (low is not None and not low <= value <= high):
        raise ParameterError(rule.name, value, _words(kind, rule))
    return value
