"""Form and conditions of a station: what people ask for, and the plan for all that they leave open.

No clock and no audio. Bars are counted from the beginning of the current path (``take.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

from msgspec import UNSET

from riffstream import protocol
from riffstream.errors import ParameterError
from riffstream.generator.messages import Info
from riffstream.journey.chords import parse_bars, transposed
from riffstream.journey.conditions import PARTS
from riffstream.journey.form import SHORTEST, Form, FormName, PlannedBar
from riffstream.journey.harmony import USUAL, read_harmony
from riffstream.journey.journey import ClipSpec, Journey, Keyframe, PromptPart

__all__ = ["LEVELS", "NOTHING", "Asked", "Row", "bars_in_clip", "form_of", "lifted", "planned"]

LEVELS: Final = ("energy", "density", "brightness")


@dataclass(frozen=True, slots=True)
class Row:
    """A progression that somebody asked for.

    Attributes:
        text: one symbol a bar, as it sounds at ``key``.
        key: transposition in semitones when it was given.
        bar: bar at which it begins; None: not known yet.
    """

    text: str
    key: float
    bar: int | None = None

    def at(self, bar: int) -> str:
        """Chords of a bar in the model's key; before its beginning, those of its first bar."""
        row = _in_model_key(self.text, round(self.key))
        return row[max(0, bar - (self.bar or 0)) % len(row)]

    def sounding(self, key: float) -> str:
        """The whole progression as it sounds at ``key``."""
        return transposed(self.text, round(key) - round(self.key))


@lru_cache(maxsize=256)
def _in_model_key(text: str, key: int) -> tuple[str, ...]:
    return tuple(transposed(bar, -key) for bar in _bars(text))


def _bars(text: str) -> list[str]:
    """The text of each bar."""
    return [" / ".join("N.C." if chord is None else chord.symbol for chord in bar) for bar in parse_bars(text)]


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

    def anchored(self, bar: int) -> Asked:
        """With chords that begin at ``bar`` unless they have begun."""
        if self.row is None or self.row.bar is not None:
            return self
        return replace(self, row=replace(self.row, bar=bar))

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


def form_of(name: FormName, path: Journey, info: Info, *, home: bool) -> Form | None:
    """The planner for a path; None plans nothing.

    The default journey gets one arc a stop, so that prompts change at the borders of sections. A steered path begins in
    a full section.
    """
    if name == "none":
        return None
    bars = bars_in_clip(info)
    stops = path.stops if path.ending != "stay" else path.stops[:-1]
    spans = tuple((stop.stay + stop.travel) * bars for stop in stops) if home else ()
    if any(span < SHORTEST for span in spans):
        spans = ()
    return Form(name, path.stops[-1].keyframe.seed, spans, path.ending != "stay", opens=not home)


def planned(
    form: Form | None, row: Row | None, prompts: Sequence[PromptPart], bar: int, count: int
) -> tuple[PlannedBar, ...]:
    """Plan of ``count`` bars from ``bar`` on; empty without a form and without given chords."""
    if form is None and row is None:
        return ()
    words = _harmony(tuple(prompts))
    bars = [PlannedBar() if form is None else form.bar(bar + number, words) for number in range(count)]
    if row is not None:
        bars = [replace(each, chords=row.at(bar + number)) for number, each in enumerate(bars)]
    return tuple(bars)


@lru_cache(maxsize=256)
def _harmony(prompts: tuple[PromptPart, ...]) -> tuple[str, ...]:
    """Families of the heaviest prompt with a known style."""
    for part in sorted(prompts, key=lambda part: -part.weight):
        if found := read_harmony(part.text):
            return found
    return USUAL


def lifted(spec: ClipSpec) -> float:
    """Key of a planned clip: it changes with the section, and a journey's key at the next stop."""
    return max(-6.0, min(6.0, spec.start.key + spec.plan[0].key))
