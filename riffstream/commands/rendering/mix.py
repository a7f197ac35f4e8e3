"""Settings of the desk from the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from riffstream.errors import ParameterError
from riffstream.protocol import MIX_NUMBERS, Mix, MixChange, ProtocolError, explained

__all__ = ["desk"]

NAMES: Final = (*MIX_NUMBERS, "mute", "solo")


def desk(given: Sequence[str]) -> Mix | None:
    """Parse settings such as ``drums=-6 mute=bass``, also separated by commas; None without any.

    Raises:
        ParameterError: an unknown name, or a value outside its range.
    """
    fields: dict[str, Any] = {}
    for text in (part for word in given for part in word.split(",") if part):
        name, sign, value = (part.strip() for part in text.partition("="))
        if not sign or name not in NAMES:
            raise ParameterError("mix", text, f"NAME=VALUE with a name of {', '.join(NAMES)}")
        if name in MIX_NUMBERS:
            try:
                fields[name] = float(value)
            except ValueError:
                raise ParameterError(f"mix.{name}", value, MIX_NUMBERS[name].words) from None
        else:
            fields[name] = [*fields.get(name, []), value]
    try:
        change = msgspec.convert({"type": "steer", "id": "mix", "mix": fields}, _Steer)
    except msgspec.ValidationError as error:
        told: ProtocolError = explained(error)
        raise ParameterError(told.field or "mix", " ".join(given), told.message.partition("allowed: ")[2]) from None
    return Mix().changed(**change.mix.fields()) if fields else None


class _Steer(msgspec.Struct):
    """Gives errors their path."""

    mix: MixChange
