"""Journeys: a station's path through prompts and seeds, as a pure function of the clip number.

A journey is a list of stops. At a stop the music *stays* for some clips while the noise moves from seed to seed + 1, as
in Riffusion, so that no clip repeats. Then it *travels* over some clips to the next stop. The position of a clip
between two keyframes is its alpha. No torch here: the server process plans journeys, the generator process renders
them.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from riffstream.errors import MediaError, ParameterError
from riffstream.journey.form import FORMS, FormName
from riffstream.journey.keyframe import ClipSpec, Keyframe
from riffstream.journey.prompts import PromptPart
from riffstream.ranges import SEEDS, check, reject_unknown
from riffstream.text_files import parse_json, parse_toml, read_text

__all__ = ["DRIFT", "ClipSpec", "Ending", "Journey", "Keyframe", "PromptPart", "Stop"]

Ending = Literal["loop", "evolve", "stay"]

DRIFT = 4  # clips from seed to seed, as in Riffusion


@dataclass(frozen=True, slots=True)
class Stop:
    """A keyframe of a journey with its durations.

    Attributes:
        keyframe: the music at this stop.
        stay: number of clips at this stop, while the noise moves from seed to seed; it ends on a whole seed.
        travel: number of clips on the way to the next stop; 0 is a cut.
    """

    keyframe: Keyframe
    stay: int = 8
    travel: int = 4

    def __post_init__(self) -> None:
        for name in ("stay", "travel"):
            object.__setattr__(self, name, check(name, getattr(self, name)))
        if self.stay + self.travel == 0:
            raise ParameterError("stay", 0, "at least 1 clip of stay and travel together")

    def seeds(self, drift: int) -> int:
        """Number of seeds passed during the stay, at about ``drift`` clips each."""
        return max(1, round(self.stay / drift)) if self.stay and drift else 0

    def ends(self, drift: int) -> int:
        """Seed at the end of the stay."""
        return (self.keyframe.seed + self.seeds(drift)) % SEEDS


@dataclass(frozen=True, slots=True)
class Journey:
    """An endless path through stops.

    Attributes:
        stops: one or more.
        ending: continuation after the last stop. ``stay``: remain there while the noise moves on. ``loop``: travel to
            the first stop and repeat exactly. ``evolve``: travel to the first stop and continue with new seeds.
        drift: clips from one seed to the next during a stay; 0 keeps the seed, so that a stay repeats one clip. None:
            the model's value (:meth:`paced`), or 4 without a model.
        name: display name.
        form: planner of sections and chords: song, dj, ambient or none; None: the station's choice.
    """

    stops: tuple[Stop, ...]
    ending: Ending = "stay"
    drift: int | None = None
    name: str = ""
    form: FormName | None = None
    _begins: tuple[int, ...] = field(init=False, repr=False, compare=False, default=())

    def __post_init__(self) -> None:
        object.__setattr__(self, "stops", tuple(self.stops))
        if not self.stops:
            raise ParameterError("keyframe", [], "one or more keyframes")
        if self.ending not in get_args(Ending):
            raise ParameterError("ending", self.ending, ", ".join(get_args(Ending)))
        if self.form is not None and self.form not in FORMS:
            raise ParameterError("form", self.form, ", ".join(FORMS))
        if self.drift is not None:
            object.__setattr__(self, "drift", check("drift", self.drift))
        begins = [0]
        for stop in self.stops:
            begins.append(begins[-1] + stop.stay + stop.travel)
        object.__setattr__(self, "_begins", tuple(begins))

    @classmethod
    def single(cls, prompt: str | Sequence[PromptPart] | Keyframe, *, drift: int | None = None, **rest: Any) -> Journey:
        """Journey that stays at one prompt and moves from seed to seed; ``rest`` are keyframe fields (``seed=42``)."""
        keyframe = replace(prompt, **rest) if isinstance(prompt, Keyframe) else Keyframe.of(prompt, **rest)
        return cls((Stop(keyframe),), drift=drift)

    @classmethod
    def visit(
        cls,
        prompts: Sequence[str | Sequence[PromptPart]],
        clips_each: int = 8,
        transition_clips: int = 4,
        *,
        drift: int | None = None,
        ending: Ending = "evolve",
        **rest: Any,
    ) -> Journey:
        """Journey through several prompts in a cycle.

        At a prompt the seed changes; between prompts the seed is fixed and only the prompt changes.

        Args:
            prompts: one or more prompts or mixes.
            clips_each: clips at each prompt.
            transition_clips: clips from one prompt to the next.
            drift, ending: as in :class:`Journey`.
            rest: keyframe fields for all prompts (``guidance=5``); ``seed`` applies to the first.
        """
        keyframes = [Keyframe.of(prompt, **rest) for prompt in prompts]
        return cls.along(keyframes, stay=clips_each, travel=transition_clips, drift=drift, ending=ending)

    @classmethod
    def along(
        cls,
        keyframes: Sequence[Keyframe],
        *,
        stay: int = 8,
        travel: int = 4,
        drift: int | None = None,
        ending: Ending = "evolve",
    ) -> Journey:
        """Journey through keyframes with a constant seed between stops.

        The seed of each keyframe but the first is replaced by the last seed of the previous stop.

        Args:
            keyframes: one or more; the seed of the first is kept.
            stay, travel: clips at each stop and between stops.
            drift, ending: as in :class:`Journey`.
        """
        stops: list[Stop] = []
        for keyframe in keyframes:
            seed = stops[-1].ends(DRIFT if drift is None else drift) if stops else keyframe.seed
            stops.append(Stop(replace(keyframe, seed=seed), stay, travel))
        return cls(tuple(stops), ending, drift)

    @classmethod
    def steered(cls, start: Keyframe, end: Keyframe, *, transition_clips: int = 4, drift: int | None = None) -> Journey:
        """Journey from the current keyframe to a new one, where it stays."""
        if transition_clips == 0:
            return cls((Stop(end),), drift=drift)
        return cls((Stop(start, 0, transition_clips), Stop(end)), drift=drift)

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Journey:
        """A journey from TOML or JSON values.

        Keys: ``name``, ``ending``, ``drift``, ``form``, ``defaults`` (keyframe fields for all), and ``keyframe``: a
        list of tables with the fields of :class:`Keyframe` plus ``stay`` and ``travel``. A keyframe without a seed
        continues with the last seed of the previous one.

        Raises:
            ParameterError: naming the key, the value and the range.
        """
        reject_unknown(given, {"name", "ending", "drift", "form", "defaults", "keyframe"}, where="journey")
        drift = None if given.get("drift") is None else check("drift", given["drift"])
        defaults, tables = given.get("defaults", {}), given.get("keyframe", [])
        if not isinstance(defaults, Mapping):
            raise ParameterError("defaults", defaults, "a table of keyframe fields")
        if not isinstance(tables, Sequence) or isinstance(tables, str):
            raise ParameterError("keyframe", tables, "a list of tables")
        stops: list[Stop] = []
        for number, table in enumerate(tables):
            where = f"keyframe[{number}]"
            if not isinstance(table, Mapping):
                raise ParameterError(where, table, "a table of keyframe fields")
            own = {"prompt", "prompts"} & set(table)
            inherited = {key: value for key, value in defaults.items() if not (own and key in ("prompt", "prompts"))}
            merged = {**inherited, **table}
            if "seed" not in merged and stops:
                merged["seed"] = stops[-1].ends(DRIFT if drift is None else drift)
            counts = {key: merged.pop(key) for key in ("stay", "travel") if key in merged}
            reject_unknown(merged, _KEYFRAME_KEYS, where=where)
            keyframe = Keyframe.from_dict(merged, where=where)
            try:
                stops.append(Stop(keyframe, **counts))
            except ParameterError as error:
                raise ParameterError(f"{where}.{error.field}", error.value, error.allowed) from None
        return cls(tuple(stops), given.get("ending", "loop"), drift, str(given.get("name", "")), given.get("form"))

    @classmethod
    def from_file(cls, path: str | Path) -> Journey:
        """Read a journey from a ``.toml`` or ``.json`` file; the keys are those of :meth:`from_dict`.

        Raises:
            MediaError: the file cannot be read or is not valid TOML or JSON.
            ParameterError: a key or a value is not allowed.
        """
        path = Path(path)
        try:
            text = read_text(path)
            given = parse_json(text) if path.suffix.lower() == ".json" else parse_toml(text)
        except (OSError, MediaError) as error:
            raise MediaError(f"journey {path}: {error}") from None
        if not isinstance(given, Mapping):
            raise MediaError(f"journey {path}: the top level must be a table, not {type(given).__name__}")
        return cls.from_dict(given)

    def to_dict(self) -> dict[str, Any]:
        """The inverse of :meth:`from_dict`."""
        tables = [{**stop.keyframe.to_dict(), "stay": stop.stay, "travel": stop.travel} for stop in self.stops]
        form = {} if self.form is None else {"form": self.form}
        return {"name": self.name, "ending": self.ending, "drift": self.drift, **form, "keyframe": tables}

    def paced(self, drift: int) -> Journey:
        """The journey with ``drift`` in place of None; seeds that continue from the previous stop are updated."""
        if self.drift is not None:
            return self
        stops: list[Stop] = []
        for stop, before in zip(self.stops, (None, *self.stops), strict=False):
            if before is not None and stop.keyframe.seed == before.ends(DRIFT):
                stop = replace(stop, keyframe=replace(stop.keyframe, seed=stops[-1].ends(drift)))
            stops.append(stop)
        return replace(self, stops=tuple(stops), drift=drift)

    @property
    def pace(self) -> int:
        """Clips from seed to seed."""
        return DRIFT if self.drift is None else self.drift

    @property
    def length(self) -> int:
        """Number of clips in one cycle."""
        return self._begins[-1]

    def clip(self, index: int) -> ClipSpec:
        """Request of the clip at ``index`` (0 or more). It depends on the index only, not on earlier calls."""
        index = check("index", index)
        last = self._begins[-2]
        if self.ending == "stay" and index >= last:
            return self._walk(self.stops[-1].keyframe, index - last, 1, self.pace, index)
        turn, place = divmod(index, self.length)
        number = bisect.bisect_right(self._begins, place, hi=len(self.stops)) - 1
        stop, offset = self.stops[number], place - self._begins[number]
        shift = turn * self._advance if self.ending == "evolve" else 0
        walked = stop.seeds(self.pace)
        if offset < stop.stay:
            return self._walk(stop.keyframe.shifted(shift), offset, walked, stop.stay if walked else 0, index)
        following = (number + 1) % len(self.stops)
        round_again = following == 0 and self.ending == "evolve"
        end = self.stops[following].keyframe.shifted(shift + self._advance if round_again else shift)
        alpha = (offset - stop.stay) / stop.travel
        return ClipSpec(stop.keyframe.shifted(shift + walked), end, alpha, index)

    def following(self, index: int) -> tuple[int, int, Keyframe] | None:
        """The next stop with other prompts than the stop of a clip; None if there is none.

        Args:
            index: index of the clip.

        Returns:
            index of the first clip that contains the new prompts, index of the first clip without the old ones, and
            the keyframe. The first index may lie in the past.
        """
        if self.ending == "stay" and index >= self._begins[-2]:
            return None
        turn, place = divmod(check("index", index), self.length)
        number = bisect.bisect_right(self._begins, place, hi=len(self.stops)) - 1
        for to in range(number + 1, number + len(self.stops)):
            if to >= len(self.stops) and self.ending == "stay":
                return None
            later, stop = divmod(to, len(self.stops))
            if (keyframe := self.stops[stop].keyframe).prompts != self.stops[number].keyframe.prompts:
                there = (turn + later) * self.length + self._begins[stop]
                return there - max(0, self.stops[stop - 1].travel - 1), there, keyframe
        return None

    @property
    def _advance(self) -> int:
        """Seed offset from one cycle of an evolving journey to the next, at least 1."""
        first, last = self.stops[0].keyframe.seed, self.stops[-1]
        return max(1, (last.ends(self.pace) - first) % SEEDS)

    @staticmethod
    def _walk(keyframe: Keyframe, clip: int, seeds: int, over: int, index: int) -> ClipSpec:
        """Clip number ``clip`` of a move over ``seeds`` seeds in ``over`` clips (0: no move)."""
        if over == 0:
            return ClipSpec(keyframe, keyframe, 0.0, index)
        whole, part = divmod(clip * seeds, over)
        return ClipSpec(keyframe.shifted(whole), keyframe.shifted(whole + 1), part / over, index)


_KEYFRAME_KEYS = frozenset({f.name for f in fields(Keyframe)} | {"prompt", "stay", "travel"})
