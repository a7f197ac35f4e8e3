"""The plan of a journey: its form, and the progressions of people and journeys, bar by bar. No torch here.

Bars are counted from the beginning of the journey.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from riffstream.journey.chords import parse_bars, transposed
from riffstream.journey.form import SHORTEST, Form, FormName, PlannedBar
from riffstream.journey.harmony import USUAL, read_harmony
from riffstream.journey.journey import ClipSpec, Journey, PromptPart
from riffstream.journey.keyframe import CONDITIONED

__all__ = ["Row", "form_of", "lifted", "planned", "without_conditions"]


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


def form_of(name: FormName, path: Journey, bars: int, *, home: bool) -> Form | None:
    """The planner of a journey; None plans nothing.

    Args:
        name: name of the planner.
        path: the journey.
        bars: bars of a clip.
        home: True gives each stop an arc, so that prompts change at the borders of sections. False is for a steered
            journey, which begins in a full section.
    """
    if name == "none":
        return None
    stops = path.stops if path.ending != "stay" else path.stops[:-1]
    spans = tuple((stop.stay + stop.travel) * bars for stop in stops) if home else ()
    if any(span < SHORTEST for span in spans):
        spans = ()
    return Form(name, path.stops[-1].keyframe.seed, spans, path.ending != "stay", opens=not home)


def without_conditions(journey: Journey) -> tuple[Journey, tuple[str, ...]]:
    """A journey for a model that takes words alone, and the names of the fields that it had to leave out."""
    names = tuple(
        name for name in CONDITIONED if any(getattr(stop.keyframe, name) is not None for stop in journey.stops)
    )
    if not names:
        return journey, ()
    none: dict[str, Any] = dict.fromkeys(names)
    stops = tuple(replace(stop, keyframe=replace(stop.keyframe, **none)) for stop in journey.stops)
    return replace(journey, stops=stops), names


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
