"""Form and conditions that people ask a station for. No clock and no audio."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from msgspec import UNSET

from riffstream import protocol
from riffstream.errors import ParameterError
from riffstream.generator.messages import Info
from riffstream.journey.chords import parse_bars
from riffstream.journey.conditions import PARTS
from riffstream.journey.form import FormName
from riffstream.journey.journey import Keyframe
from riffstream.journey.plan import Row

__all__ = ["LEVELS", "NOTHING", "Asked", "bars_in_clip"]

LEVELS: Final = ("energy", "density", "brightness")


@dataclass(frozen=True, slots=True)
class Asked:
    """Form and conditions set by steers. None leaves them to the journey, the plan and the words.

    Attributes:
        form: name of the planner.
        row: chords.
        parts: pairs of a part and its level.
        energy, density, brightness: 0 to 1.
    """

    form: FormName | None = None
    row: Row | None = None
    parts: tuple[tuple[str, float], ...] | None = None
    energy: float | None = None
    density: float | None = None
    brightness: float | None = None

    def merged(self, steer: protocol.Steer, key: float, info: Info) -> Asked:
        """Merge a steer.

        Args:
            steer: the change.
            key: transposition in semitones that its chords are written for.
            info: properties of the model.

        Raises:
            ParameterError: no chords, or a field that the model does not support.
        """
        asked = self
        for name in ("form", "chords", "parts", *LEVELS):
            value = getattr(steer, name)
            if value in (UNSET, None) or (name == "form" and value == "none"):
                continue
            if not info.conditions:
                raise ParameterError(name, _plain(value), f"nothing with the model {info.model}: it takes words alone")
        if steer.form is not UNSET:
            asked = replace(asked, form=steer.form)
        if steer.chords is not UNSET:
            if steer.chords is not None:
                parse_bars(steer.chords)
            asked = replace(asked, row=None if steer.chords is None else Row(" ".join(steer.chords.split()), key))
        if steer.parts is not UNSET:
            asked = replace(asked, parts=_with_parts(asked.parts, steer.parts))
        for name in LEVELS:
            if getattr(steer, name) is not UNSET:
                asked = replace(asked, **{name: getattr(steer, name)})
        return asked

    def anchored(self, bar: int, before: Asked, moved: int) -> Asked:
        """With chords that begin at ``bar``, or continue.

        Args:
            bar: bar at which new chords begin.
            before: what the audible take plays: its chords continue.
            moved: bars by which the new take counts higher than the audible one.
        """
        row, old = self.row, before.row
        if row is None:
            return self
        if (
            row.bar is not None
            and old is not None
            and old.bar is not None
            and (old.text, old.key) == (row.text, row.key)
        ):
            bar = old.bar + moved
        return self if bar == row.bar else replace(self, row=replace(row, bar=bar))

    def onto(self, keyframe: Keyframe) -> Keyframe:
        """A keyframe with these values in place of its own."""
        changes: dict[str, Any] = {name: getattr(self, name) for name in LEVELS if getattr(self, name) is not None}
        if self.parts is not None:
            changes["parts"] = {**dict(keyframe.parts or ()), **dict(self.parts)}
        return replace(keyframe, **changes) if changes else keyframe

    def off(self, keyframe: Keyframe) -> Keyframe:
        """A keyframe without the fields that these values replaced."""
        names: dict[str, Any] = {name: None for name in ("parts", *LEVELS) if getattr(self, name) is not None}
        return replace(keyframe, **names) if names else keyframe


NOTHING: Final = Asked()


def _plain(value: Any) -> Any:
    if not isinstance(value, protocol.PartsChange):
        return value
    return {name: getattr(value, name) for name in PARTS if getattr(value, name) is not UNSET}


def _with_parts(
    parts: tuple[tuple[str, float], ...] | None, change: protocol.PartsChange | None
) -> tuple[tuple[str, float], ...] | None:
    if change is None:
        return None
    levels = dict(parts or ())
    for name in PARTS:
        level = getattr(change, name)
        if level is None:
            levels.pop(name, None)
        elif level is not UNSET:
            levels[name] = float(level)
    return tuple((name, levels[name]) for name in PARTS if name in levels) or None


def bars_in_clip(info: Info) -> int:
    """Bars of a clip."""
    return max(1, info.beats // info.beats_per_bar)
