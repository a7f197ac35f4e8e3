"""The table of ranges, and what it says of types."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
import pytest
from msgspec import inspect

from riffstream.errors import ParameterError
from riffstream.ranges import RANGES, allowed, between, check


def test_every_range_refuses_what_lies_outside() -> None:
    assert {"weight", "seed", "denoising", "guidance", "bpm", "key"} <= set(RANGES)
    for name, rule in RANGES.items():
        assert check(name, rule.low) == rule.low
        assert check(name, rule.high) == rule.high
        for bad in (rule.low - 1, rule.high * 2 + 1, float("nan"), float("inf"), 10**400, "1", None, True):
            with pytest.raises(ParameterError, match=name):
                check(name, bad)
        if rule.integer:
            with pytest.raises(ParameterError, match="whole number"):
                check(name, rule.low + 0.5)


def test_a_range_is_a_constraint_of_messages_too() -> None:
    for rule in RANGES.values():
        kind = Annotated[int if rule.integer else float, rule.meta]
        assert msgspec.convert(rule.low, kind) == rule.low
        assert msgspec.convert(rule.high, kind) == rule.high
        for bad in (rule.low - 1, rule.high + 1, "1", None, True):
            with pytest.raises(msgspec.ValidationError):
                msgspec.convert(bad, kind)
        assert allowed(inspect.type_info(kind)) == rule.words


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Annotated[float, between(0.5, 3, "s")] | None, "0.5 to 3 s"),
        (
            Annotated[int, between(20, 1000, "ms", multiple_of=20)],
            "a whole number from 20 to 1000 ms, a multiple of 20",
        ),
        (Literal["a", "b"], "a, b"),
        (bool, "true or false"),
        (str | None, "a string"),
        (tuple[str, ...], "a list of strings"),
        (int, "a whole number"),
        (float, "a number"),
    ],
)
def test_what_a_type_allows_is_said_in_words(kind: type, words: str) -> None:
    assert allowed(inspect.type_info(kind)) == words
