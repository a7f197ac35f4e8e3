"""Common base of the configuration's sections: values are checked against the types of their keys."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Self

import msgspec
from msgspec import Struct, inspect
from msgspec.structs import FieldInfo, fields, force_setattr

from riffstream.errors import ParameterError
from riffstream.ranges import allowed, reject_unknown

__all__ = ["OFF", "Section", "keys", "parse"]

OFF = "off"  # value for None in keys whose default is a number, because TOML has no null


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base class of a table of the configuration. Each instance checks its values.

    Raises:
        ParameterError: a value of the wrong type or out of its range; ``field`` is the key.
    """

    def __post_init__(self) -> None:
        for each in keys(type(self)):
            value = getattr(self, each.name)
            if value == OFF and _can_be_off(each):
                value = None
            try:
                force_setattr(self, each.name, msgspec.convert(value, each.type))
            except msgspec.ValidationError:
                raise ParameterError(each.name, value, allowed(inspect.type_info(each.type))) from None

    @classmethod
    def from_table(cls, values: Any, name: str) -> Self:
        """Make a section from the table ``[name]``.

        Raises:
            ParameterError: ``field`` is ``name.key``. For an unknown key, the nearest known one is suggested.
        """
        if not isinstance(values, Mapping):
            raise ParameterError(name, values, f"a table: [{name}]")
        reject_unknown(values, cls.__struct_fields__, where=f"[{name}]")
        try:
            return cls(**values)
        except ParameterError as error:
            raise ParameterError(f"{name}.{error.field}", error.value, error.allowed) from None


@functools.cache
def keys(kind: type[Struct]) -> tuple[FieldInfo, ...]:
    """Keys of a section with their types and defaults."""
    return fields(kind)


def parse(key: FieldInfo, text: str, variable: str) -> Any:
    """Parse an environment variable as the value of a key; lists are comma-separated. Raises ParameterError."""
    kind = inspect.type_info(key.type)
    kinds = {type(each) for each in _alternatives(kind)}
    if inspect.NoneType in kinds and (text == "" or (text == OFF and _can_be_off(key))):
        return None
    try:
        if inspect.VarTupleType in kinds:
            return tuple(part.strip() for part in text.split(",") if part.strip())
        if inspect.BoolType in kinds:
            return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[text.lower()]
        if inspect.IntType in kinds:
            return int(text)
        return float(text) if inspect.FloatType in kinds else text
    except (ValueError, KeyError):
        raise ParameterError(variable, text, allowed(kind)) from None


def _can_be_off(key: FieldInfo) -> bool:
    return key.default is not None and any(
        isinstance(each, inspect.NoneType) for each in _alternatives(inspect.type_info(key.type))
    )


def _alternatives(kind: inspect.Type) -> list[inspect.Type]:
    """Member types of a union, without their constraints."""
    kinds = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    return [each.type if isinstance(each, inspect.Metadata) else each for each in kinds]
