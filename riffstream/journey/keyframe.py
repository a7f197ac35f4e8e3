"""Keyframes, and what one clip between two of them should be. No torch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from riffstream.errors import ParameterError
from riffstream.journey.chords import parse_bars
from riffstream.journey.conditions import PARTS, BarPlan
from riffstream.journey.prompts import PromptPart
from riffstream.journey.ranges import SEEDS, check, reject_unknown

__all__ = ["AUTO", "CONDITIONED", "NONE", "ClipSpec", "Keyframe"]

AUTO, NONE = "auto", "none"  # seed images that are no names
CONDITIONED = ("chords", "parts", "energy", "density", "brightness")  # fields of a keyframe that words cannot stand for

MAX_PARTS = 8  # of one keyframe: half of what one embedding mixes, since a clip between two keyframes mixes both


@dataclass(frozen=True, slots=True)
class Keyframe:
    """A point in the space of music.

    Attributes:
        prompts: the prompt mix: 1 to 8 parts, weights 0 to 10, one at least above 0.
        negative: what to steer away from.
        seed: of the noise, 0 to 2**32 - 1.
        denoising: 0 (the seed image as it is) to 1 (nothing of it remains); None: the model's default.
        guidance: 0 to 30, 1 and less turns guidance off; None: the model's default.
        seed_image: a name in the seed library (or a path, where the caller may read files); ``"auto"``: the library's
            loop that is most like the prompts, among near ones chosen by ``seed``; ``"none"``: from noise alone; None:
            the model's default.
        bpm: tempo, 40 to 240; None: the clip's own.
        key: transposition in semitones, -6 to 6.
        chords: one symbol a bar in the sounding key, round and round ("Am F C G"; see ``chords.parse_bars``).
        parts: level of single parts, 0 (silent) to 1: a mapping of names in ``conditions.PARTS``; kept as pairs.
        energy, density, brightness: 0 to 1 (see ``conditions.BarPlan``).

    What is None, and a part without a level, is left to the prompts; models that take no conditions refuse the rest.

    Raises:
        ParameterError: naming the field and its range.
    """

    prompts: tuple[PromptPart, ...]
    negative: str = ""
    seed: int = 0
    denoising: float | None = None
    guidance: float | None = None
    seed_image: str | None = None
    bpm: float | None = None
    key: float = 0.0
    chords: str | None = None
    parts: tuple[tuple[str, float], ...] | Mapping[str, float] | None = None
    energy: float | None = None
    density: float | None = None
    brightness: float | None = None

    def __post_init__(self) -> None:
        prompts = tuple(_checked(number, part) for number, part in enumerate(self.prompts))
        if not 1 <= len(prompts) <= MAX_PARTS or not any(part.weight > 0 for part in prompts):
            raise ParameterError("prompts", len(prompts), f"1 to {MAX_PARTS} of {{text, weight}}, one weight above 0")
        if not isinstance(self.negative, str):
            raise ParameterError("negative", self.negative, "a string")
        if self.seed_image is not None and not isinstance(self.seed_image, str):
            raise ParameterError("seed_image", self.seed_image, "the name of a seed image")
        object.__setattr__(self, "prompts", prompts)
        for name in ("seed", "key"):
            object.__setattr__(self, name, check(name, getattr(self, name)))
        if self.chords is not None:
            parse_bars(self.chords)
        object.__setattr__(self, "parts", _checked_parts(self.parts))
        for name in ("denoising", "guidance", "bpm", "energy", "density", "brightness"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, check(name, getattr(self, name)))

    @classmethod
    def of(cls, prompt: str | Sequence[PromptPart], **rest: Any) -> Keyframe:
        """A keyframe from one prompt, or from a mix."""
        return cls((PromptPart(prompt),) if isinstance(prompt, str) else tuple(prompt), **rest)

    @classmethod
    def from_dict(cls, given: Mapping[str, Any], *, where: str = "keyframe") -> Keyframe:
        """A keyframe from TOML or JSON values; ``prompt = "x"`` is short for ``prompts = [{text = "x"}]``.

        Raises:
            ParameterError: an unknown key (naming the nearest) or a value outside its range, as ``where.field``.
        """
        names = {f.name for f in fields(cls)}
        reject_unknown(given, names | {"prompt"}, where=where)
        if ("prompt" in given) == ("prompts" in given):
            raise ParameterError(f"{where}.prompts", given.get("prompts"), "either prompt or prompts")
        values = {key: value for key, value in given.items() if key not in ("prompt", "prompts")}
        try:
            parts = _parts(given["prompts"]) if "prompts" in given else (PromptPart(given["prompt"]),)
            return cls(parts, **values)
        except ParameterError as error:
            raise ParameterError(f"{where}.{error.field}", error.value, error.allowed) from None

    def to_dict(self) -> dict[str, Any]:
        """The inverse of :meth:`from_dict`; fields that are None are left out."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "prompts"}
        parts = [{"text": part.text, "weight": part.weight} for part in self.prompts]
        if self.parts is not None:
            plain["parts"] = dict(self.parts)
        return {"prompts": parts, **{key: value for key, value in plain.items() if value is not None}}

    def shifted(self, seeds: int) -> Keyframe:
        """The same point with ``seeds`` added to its seed (modulo 2**32)."""
        return replace(self, seed=(self.seed + seeds) % SEEDS) if seeds % SEEDS else self


@dataclass(frozen=True, slots=True)
class ClipSpec:
    """What one clip should be: ``alpha`` of the way from ``start`` to ``end``.

    Text embeddings and noise are interpolated by the engine; guidance, denoising and tempo are linear in alpha.
    """

    start: Keyframe
    end: Keyframe
    alpha: float
    index: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", check("alpha", self.alpha))
        object.__setattr__(self, "index", check("index", self.index))

    def guidance(self, default: float) -> float:
        """Guidance at alpha; ``default`` stands for a keyframe that names none."""
        return self._between(_or(self.start.guidance, default), _or(self.end.guidance, default))

    def denoising(self, default: float, *, seeded: bool = False, seed_image: str | None = None) -> float:
        """Denoising at alpha. A keyframe without a seed image counts as 1: its music comes from noise alone.

        Args:
            default: stands for a keyframe that names none.
            seeded: the clip has a seed image of its own, whatever the keyframes name.
            seed_image: the model's default, for keyframes that name none.
        """
        names = [k.seed_image or seed_image or NONE for k in (self.start, self.end)]
        a, b = (
            _or(k.denoising, default) if seeded or name != NONE else 1.0
            for k, name in zip((self.start, self.end), names, strict=True)
        )
        return self._between(a, b)

    @property
    def bpm(self) -> float | None:
        """Tempo at alpha; where only one keyframe names a tempo, that one."""
        a, b = self.start.bpm, self.end.bpm
        if a is None or b is None:
            return b if a is None else a
        return self._between(a, b)

    @property
    def key(self) -> float:
        """Transposition at alpha, semitones: a modulation half way, since keys in between would be out of tune."""
        return self.start.key if self.alpha < 0.5 else self.end.key

    def bars(self, count: int, key: float) -> list[BarPlan] | None:
        """What the clip's ``count`` bars should play, in the model's own key; None where nothing is asked.

        Chords come from the nearer keyframe, and their row goes on from clip to clip; levels are linear in alpha where
        both keyframes have one, and the nearer keyframe's otherwise.

        Args:
            key: semitones by which the music will be transposed; chords are meant as they sound.
        """
        near = self.start if self.alpha < 0.5 else self.end
        start, end = dict(self.start.parts or ()), dict(self.end.parts or ())
        parts = {name: self._level(start.get(name), end.get(name)) for name in PARTS}
        given = {name: level for name, level in parts.items() if level is not None}
        plan = BarPlan(
            parts=given or None,
            density=self._level(self.start.density, self.end.density),
            energy=self._level(self.start.energy, self.end.energy),
            brightness=self._level(self.start.brightness, self.end.brightness),
        )
        if near.chords is None:
            return None if plan == BarPlan() else [plan] * count
        row = parse_bars(near.chords)
        shift = -round(key)
        asked = (row[(self.index * count + bar) % len(row)] for bar in range(count))
        return [replace(plan, chords=[chord and chord.moved(shift) for chord in chords]) for chords in asked]

    def _level(self, a: float | None, b: float | None) -> float | None:
        if a is None or b is None:
            return a if self.alpha < 0.5 else b
        return self._between(a, b)

    @property
    def prompts(self) -> tuple[PromptPart, ...]:
        """The mix as a listener would describe it: both ends' prompts, weighted by alpha, parts below 1 % left out."""
        mix: dict[str, float] = {}
        for end, share in ((self.start, 1 - self.alpha), (self.end, self.alpha)):
            whole = sum(part.weight for part in end.prompts)
            for part in end.prompts:
                mix[part.text] = mix.get(part.text, 0.0) + share * part.weight / whole
        return tuple(PromptPart(text, round(weight, 4)) for text, weight in mix.items() if weight >= 0.01)

    def _between(self, a: float, b: float) -> float:
        return a if a == b else (1 - self.alpha) * a + self.alpha * b


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _parts(given: Any) -> tuple[PromptPart, ...]:
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise ParameterError("prompts", given, "a list of {text, weight}")
    parts: list[PromptPart] = []
    for number, part in enumerate(given):
        if isinstance(part, str):
            part = {"text": part}
        if not isinstance(part, Mapping) or "text" not in part:
            raise ParameterError(f"prompts[{number}]", part, "{text, weight}")
        reject_unknown(part, {"text", "weight"}, where=f"prompts[{number}]")
        parts.append(PromptPart(**part))
    return tuple(parts)


def _checked_parts(given: Any) -> tuple[tuple[str, float], ...] | None:
    """Pairs in the order of ``PARTS``."""
    if given is None:
        return None
    if not isinstance(given, Mapping) and not (
        isinstance(given, tuple) and all(isinstance(pair, tuple) and len(pair) == 2 for pair in given)
    ):
        raise ParameterError("parts", given, f"levels 0 to 1 by name: {', '.join(PARTS)}")
    levels = dict(given)
    reject_unknown(levels, PARTS, where="parts")
    checked = {name: check("part", level, field=f"parts.{name}") for name, level in levels.items()}
    return tuple((name, checked[name]) for name in PARTS if name in checked) or None


def _checked(number: int, part: PromptPart) -> PromptPart:
    if not isinstance(part.text, str):
        raise ParameterError(f"prompts[{number}].text", part.text, "a string")
    return PromptPart(part.text, check("weight", part.weight, field=f"prompts[{number}].weight"))
