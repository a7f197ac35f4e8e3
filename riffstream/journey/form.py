"""The planner of musical form: arcs of sections, with the chords, the parts and the energy of every bar.

A form is a pure function of its seed and the number of a bar. It has no state, so nothing waits for it, and any bar can
be planned at any time. An arc is one mood: intro, build, full, break, return, outro. A journey with stops gets one arc
a stop; otherwise arcs of constant length follow each other. No torch here.
"""

from __future__ import annotations

import bisect
import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, get_args

from riffstream.journey.harmony import USUAL, families, phrase

__all__ = ["FORMS", "LONGEST", "SHORTEST", "Form", "FormName", "PlannedBar", "Section"]

FormName = Literal["song", "dj", "ambient", "none"]
FORMS: Final[tuple[str, ...]] = get_args(FormName)
SHORTEST, LONGEST = 8, 32  # bars of a section
UNIT: Final = 8  # sections are multiples of this, except where a journey's stop leaves a remainder
LIFT: Final = 0.35  # probability that the return of a song is higher than its beginning

# Bars of an arc where no journey sets its length, and the sections by their number.
_ARC_BARS: Final[Mapping[str, int]] = {"song": 72, "dj": 96, "ambient": 96}
_SECTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "song": (
        "full",
        "verse chorus",
        "intro chorus outro",
        "intro verse chorus outro",
        "intro verse chorus break return",
        "intro verse chorus break return outro",
        "intro verse chorus verse break return outro",
    ),
    "dj": (
        "full",
        "build full",
        "intro full outro",
        "intro build full outro",
        "intro build full break return",
        "intro build full break return outro",
        "intro build full break build return outro",
    ),
    "ambient": ("full", "intro full", "intro full outro", "intro full break return", "intro build full break outro"),
}
_BODY: Final = frozenset({"verse", "chorus", "full", "return"})  # sections that receive spare bars
_OPENING: Final[Mapping[str, str]] = {"song": "chorus", "dj": "full", "ambient": "full"}  # of an arc after a steer
_ROWS: Final[Mapping[str, str]] = {"chorus": "chorus", "full": "chorus", "return": "chorus", "break": "bridge"}
# Difference from the usual energy at the beginning and at the end of a section.
_ENERGY: Final[Mapping[str, tuple[float, float]]] = {
    "intro": (-0.2, -0.15), "build": (-0.1, 0.1), "verse": (0.0, 0.0), "chorus": (0.15, 0.15), "full": (0.15, 0.15),
    "break": (-0.25, -0.15), "return": (0.2, 0.2), "outro": (-0.05, -0.2),
}  # fmt: skip
_SWING: Final[Mapping[str, float]] = {"song": 1.0, "dj": 1.2, "ambient": 0.5}  # size of these differences
# Silent parts. All others are left to the words: a level above 0 would add instruments that nobody asked for.
_SILENT: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "song": {"intro": ("drums",), "verse": ("pad", "lead"), "break": ("drums",), "outro": ("pad", "lead")},
    "dj": {"intro": ("bass",), "build": ("bass",), "break": ("drums", "bass"), "outro": ("bass",)},
    "ambient": {"intro": ("drums", "bass"), "break": ("drums", "bass"), "outro": ("drums",)},
}
_WANTED: Final = frozenset({"pad", "lead"})  # play on after a steer: its words may name an instrument of theirs


@dataclass(frozen=True, slots=True)
class PlannedBar:
    """One bar of a plan.

    Attributes:
        chords: the bar in C major or A minor as in ``chords.parse_bars`` ("Am", "Dm7 / G7"); "": left to the words.
        section: name of the section; "" without a form.
        place: number of the bar in its section, from 0.
        bars: length of the section.
        energy: 0 to 1; None: left to the words.
        parts: levels by name, 0 to 1; missing parts are left to the words.
        starts, ends, fill: as in ``conditions.BarPlan``; None: not planned.
        key: transposition relative to the journey's key, in semitones.
    """

    chords: str = ""
    section: str = ""
    place: int = 0
    bars: int = 0
    energy: float | None = None
    parts: tuple[tuple[str, float], ...] = ()
    starts: bool | None = None
    ends: bool | None = None
    fill: bool | None = None
    key: int = 0


@dataclass(frozen=True, slots=True)
class Section:
    """One section of a form.

    Attributes:
        name: intro, build, verse, chorus, full, break, return or outro.
        start: number of its first bar in the form.
        bars: its length, 8 to 32 unless a journey's stop is shorter.
        key: transposition relative to the journey's key, in semitones.
        arc: number of its arc.
        last: True for the last section of an arc.
    """

    name: str
    start: int
    bars: int
    key: int
    arc: int
    last: bool

    @property
    def end(self) -> int:
        """Number of the first bar behind it."""
        return self.start + self.bars


@dataclass(frozen=True, slots=True)
class Form:
    """A plan without end.

    Attributes:
        name: song, dj or ambient; ``none`` plans nothing and has no sections.
        seed: seed of all choices.
        spans: bars of the arcs of a journey's stops; empty: arcs of constant length.
        repeats: True starts again with the first span behind the last; False continues with arcs of constant length.
        opens: True begins in the middle of an arc, at its first full section: after a steer nobody waits for an intro.
    """

    name: FormName
    seed: int = 0
    spans: tuple[int, ...] = ()
    repeats: bool = True
    opens: bool = False

    def section(self, bar: int) -> Section:
        """The section of a bar, 0 or more."""
        shift = self._opening
        arc, begin, bars = self._arc(max(0, bar) + shift)
        sections = _arrange(self.name, bars, self.seed, arc)
        starts = [begin, *(begin + end for end in itertools.accumulate(length for _, length, _ in sections))]
        place = bisect.bisect_right(starts, max(0, bar) + shift) - 1
        name, length, key = sections[place]
        return Section(name, starts[place] - shift, length, key, arc, place == len(sections) - 1)

    def bar(self, bar: int, words: Sequence[str] = USUAL) -> PlannedBar:
        """Plan of a bar.

        Args:
            bar: number of the bar, 0 or more.
            words: names of the families of harmony that suit the prompt (``harmony.read_harmony``).
        """
        section = self.section(bar)
        place = bar - section.start
        family = families()[self._family(section.arc, tuple(words))]
        row = _ROWS.get(section.name, "verse")
        seed = f"{self.seed} {self.name} {section.arc} {words} {row}"
        chords = _phrase(self._family(section.arc, tuple(words)), row, section.bars, section.last, seed)
        share = place / max(1, section.bars - 1)
        low, high = _ENERGY[section.name]
        energy = family.energy + _SWING[self.name] * (low + (high - low) * share)
        silent = _SILENT[self.name].get(section.name, ())
        if self.opens:
            silent = tuple(part for part in silent if part not in _WANTED)
        ends = place == section.bars - 1
        return PlannedBar(
            chords=chords[place],
            section=section.name,
            place=place,
            bars=section.bars,
            energy=round(min(1.0, max(0.0, energy)), 3),
            parts=tuple((part, 0.0) for part in silent),
            starts=place == 0,
            ends=ends,
            fill=ends and self.name != "ambient" and "drums" not in silent and not section.last,
            key=section.key,
        )

    def following(self, bar: int, count: int = 1) -> list[Section]:
        """The next ``count`` sections behind that of a bar."""
        found = [self.section(bar)]
        for _ in range(count):
            found.append(self.section(found[-1].end))
        return found[1:]

    @property
    def _opening(self) -> int:
        """First bar of the plan that is played."""
        if not self.opens:
            return 0
        _, _, bars = self._arc(0)
        begin = 0
        for name, length, _ in _arrange(self.name, bars, self.seed, 0):
            if name == _OPENING[self.name]:
                return begin
            begin += length
        return 0

    def _arc(self, bar: int) -> tuple[int, int, int]:
        """Number, first bar and length of the arc at a bar of the plan."""
        turn, first = 0, 0
        whole = sum(self.spans)
        if whole and self.repeats:
            turn, bar = divmod(bar, whole)
            first = turn * whole
        begin = 0
        for number, length in enumerate(self.spans):
            if bar < begin + length:
                return turn * len(self.spans) + number, first + begin, length
            begin += length
        length = _ARC_BARS[self.name]
        number = (bar - begin) // length
        return len(self.spans) + number, begin + number * length, length

    def _family(self, arc: int, words: tuple[str, ...]) -> str:
        """Family of an arc: the first of the words' families in half of the arcs."""
        names = [name for name in words if name in families()] or list(USUAL)
        if self.name == "ambient":
            names = [name for name in names if families()[name].slow or name in ("modal", "dark")] or ["calm"]
        weights = [len(names)] + [1] * (len(names) - 1)
        return random.Random(f"{self.seed} {arc} family").choices(names, weights)[0]


@lru_cache(maxsize=256)
def _phrase(family: str, row: str, bars: int, last: bool, seed: str) -> tuple[str, ...]:
    return phrase(families()[family], row, bars, last=last, seed=seed)


@lru_cache(maxsize=256)
def _arrange(name: str, bars: int, seed: int, arc: int) -> tuple[tuple[str, int, int], ...]:
    """Name, bars and key of the sections of an arc with ``bars`` bars."""
    draw = random.Random(f"{seed} {name} {arc}")
    choices = _SECTIONS[name]
    most = max(1, min(len(choices), bars // SHORTEST))
    fewest = -(-bars // LONGEST)
    usual = most if name != "ambient" else max(1, min(most, bars // 16))
    count = max(fewest, min(most, draw.randint(max(1, usual - 1), usual)))
    if count > len(choices):  # a very long stop: several arcs inside it
        half = bars // 2 // UNIT * UNIT
        return _arrange(name, half, seed, arc) + tuple(_arrange(name, bars - half, seed + 1, arc))
    names = choices[count - 1].split()
    units = [1] * count
    body = [number for number, each in enumerate(names) if each in _BODY] or [0]
    for _ in range(bars // UNIT - count):
        room = [number for number in body if units[number] < 3] or [n for n in range(count) if units[n] < 3]
        room = room or [n for n in range(count) if units[n] < 4]
        if room:
            units[min(room, key=lambda number: (units[number], draw.random()))] += 1
    lengths = [unit * UNIT for unit in units]
    shortest = min(body, key=lambda number: lengths[number])
    if lengths[shortest] + bars - sum(lengths) > LONGEST:
        shortest = min(range(count), key=lambda number: lengths[number])
    lengths[shortest] += bars - sum(lengths)
    lift = draw.choice((1, 2)) if name == "song" and draw.random() < LIFT else 0
    at = names.index("return") if "return" in names else count
    return tuple(
        (each, length, lift if number >= at else 0)
        for number, (each, length) in enumerate(zip(names, lengths, strict=True))
    )
