"""Keyframes, and what one clip between two of them should be. No torch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from riffstream.errors import ParameterError
from riffstream.journey.chords import Chord, parse_bars, transposed
from riffstream.journey.conditions import PARTS, BarPlan
from riffstream.journey.form import PlannedBar
from riffstream.journey.prompts import PromptPart
from riffstream.journey.rests import said_rests
from riffstream.ranges import SEEDS, check, reject_unknown

__all__ = ["AUTO", "CONDITIONED", "NONE", "SONG", "ClipSpec", "Keyframe"]

AUTO, NONE = "auto", "none"  # reserved names of seed images
SONG = "song:"  # prefix of a recording's name: each clip starts from the part at its own place in the music
CONDITIONED = ("chords", "parts", "energy", "density", "brightness")  # fields that need a model with conditions

MAX_PARTS = 8  # of one keyframe: half the limit of an embedding, because a clip between two keyframes mixes both


@dataclass(frozen=True, slots=True)
class Keyframe:
    """All musical parameters at one point of a journey.

    Attributes:
        prompts: the prompt mix: 1 to 8 parts with weights 0 to 10, at least one above 0.
        negative: negative prompt.
        seed: noise seed, 0 to 2**32 - 1.
        denoising: 0 (keep the seed image) to 1 (replace it); None: the model's default.
        guidance: 0 to 30; 1 or less turns guidance off. None: the model's default.
        seed_image: a name in the seed library, or a path if the caller may read files. ``"auto"``: a loop of the
            library close to the prompts, chosen among similar ones by ``seed``. ``"none"``: noise only. None: the
            model's default.
        bpm: tempo, 40 to 240; None: the clip's own.
        beats_per_bar: metre, 3 or 4; None: that of the words.
        key: transposition in semitones, -6 to 6.
        chords: repeated progression in the sounding key, one symbol a bar ("Am F C G"; see ``chords.parse_bars``).
        parts: levels of parts by name in ``conditions.PARTS``, 0 (silent) to 1; stored as pairs.
        energy, density, brightness: 0 to 1 (see ``conditions.BarPlan``).

    The prompts decide all conditions that are None: parts rest if the words say so (``rests.py``), and the model hears
    the rest of the words. Models without conditions accept only None.

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
    beats_per_bar: int | None = None
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
        for name in ("denoising", "guidance", "bpm", "beats_per_bar", "energy", "density", "brightness"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, check(name, getattr(self, name)))

    @classmethod
    def of(cls, prompt: str | Sequence[PromptPart], **rest: Any) -> Keyframe:
        """Make a keyframe from one prompt or a mix; ``rest`` are further fields."""
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
        """Inverse of :meth:`from_dict`; fields that are None are omitted."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "prompts"}
        parts = [{"text": part.text, "weight": part.weight} for part in self.prompts]
        if self.parts is not None:
            plain["parts"] = dict(self.parts)
        return {"prompts": parts, **{key: value for key, value in plain.items() if value is not None}}

    @property
    def rests(self) -> tuple[tuple[str, str], ...]:
        """Parts that rest because the words say so, each with these words. A level in ``parts`` comes first."""
        given = dict(self.parts or ())
        return tuple(pair for pair in said_rests(self.prompts, self.negative) if pair[0] not in given)

    def part_levels(self, *, words: bool) -> dict[str, float]:
        """Levels of the parts: ``parts``, and with ``words`` 0 where the words let a part rest."""
        rests = {name: 0.0 for name, _ in self.rests} if words else {}
        return rests | dict(self.parts or ())

    def shifted(self, seeds: int) -> Keyframe:
        """The keyframe with ``seeds`` added to its seed (modulo 2**32)."""
        return replace(self, seed=(self.seed + seeds) % SEEDS) if seeds % SEEDS else self


@dataclass(frozen=True, slots=True)
class ClipSpec:
    """Parameters of one clip: an interpolation between two keyframes.

    The engine interpolates text embeddings and noise. Guidance, denoising and tempo are linear in alpha.

    Attributes:
        start: keyframe at alpha 0.
        end: keyframe at alpha 1.
        alpha: 0 to 1.
        index: number of the clip in its journey.
        plan: plan of its bars: their chords, and what the keyframes leave open; empty: no plan.
        place: number of clips, also fractions, from the beginning of the music to its beginning, for songs; None:
            ``index``.
    """

    start: Keyframe
    end: Keyframe
    alpha: float
    index: int = 0
    plan: tuple[PlannedBar, ...] = ()
    place: float | None = None

    @property
    def follows_song(self) -> bool:
        """Whether a seed image is a recording."""
        return any((keyframe.seed_image or "").startswith(SONG) for keyframe in (self.start, self.end))

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", check("alpha", self.alpha))
        object.__setattr__(self, "index", check("index", self.index))

    def guidance(self, default: float) -> float:
        """Guidance at alpha; ``default`` replaces None in a keyframe."""
        return self._between(_or(self.start.guidance, default), _or(self.end.guidance, default))

    def denoising(self, default: float, *, seeded: bool = False, seed_image: str | None = None) -> float:
        """Denoising at alpha. A keyframe without a seed image has 1, because its music starts from noise.

        Args:
            default: value for keyframes without denoising.
            seeded: True if the clip has its own seed image in place of the keyframes'.
            seed_image: the model's default for keyframes without one.
        """
        names = [k.seed_image or seed_image or NONE for k in (self.start, self.end)]
        a, b = (
            _or(k.denoising, default) if seeded or name != NONE else 1.0
            for k, name in zip((self.start, self.end), names, strict=True)
        )
        return self._between(a, b)

    @property
    def bpm(self) -> float | None:
        """Tempo at alpha in bpm. If only one keyframe has a tempo, it applies to the whole way; None without any."""
        a, b = self.start.bpm, self.end.bpm
        if a is None or b is None:
            return b if a is None else a
        return self._between(a, b)

    @property
    def beats_per_bar(self) -> int | None:
        """Metre at alpha, of the nearer keyframe; None if it has none."""
        return self.start.beats_per_bar if self.alpha < 0.5 else self.end.beats_per_bar

    @property
    def key(self) -> float:
        """Transposition at alpha in semitones. It changes at once half way, because keys in between are out of tune."""
        return self.start.key if self.alpha < 0.5 else self.end.key

    def resting(self, count: int, *, words: bool = True) -> tuple[frozenset[str], frozenset[str]]:
        """Parts that are asked to rest in the first and in the last of ``count`` bars; ``words`` as in :meth:`bars`."""
        bars = self.bars(count, 0.0, words=words) or [BarPlan()]
        return bars[0].resting, bars[-1].resting

    def levels(self, count: int) -> tuple[tuple[float | None, ...], tuple[float | None, ...]]:
        """Density, energy and brightness in the first and in the last of ``count`` bars; None: left to the words."""
        bars = self.bars(count, 0.0) or [BarPlan()]
        first, last = ((bar.density, bar.energy, bar.brightness) for bar in (bars[0], bars[-1]))
        return first, last

    def bars(self, count: int, key: float, *, words: bool = True) -> list[BarPlan] | None:
        """Controls of the clip's bars in the model's own key; None without any.

        Chords come from the plan, or else from the nearer keyframe, whose progression continues from clip to clip.
        Levels are linear in alpha if both keyframes have one; otherwise the nearer keyframe decides. A part that rests
        by the words of a keyframe has level 0 there. The plan fills what they leave open.

        Args:
            count: number of bars in the clip.
            key: later transposition of the audio in semitones; chords of keyframes are given as they sound.
            words: False for models without conditions, which hear the words alone.
        """
        start, end = (keyframe.part_levels(words=words) for keyframe in (self.start, self.end))
        levels = {name: self._level_of(start.get(name), end.get(name)) for name in PARTS}
        given = {name: level for name, level in levels.items() if level is not None}
        row = () if self.row is None else parse_bars(self.row)
        shift = -round(key)
        bars = []
        for number in range(count):
            planned = self.plan[number] if number < len(self.plan) else PlannedBar()
            parts = {**dict(planned.parts), **given}
            energy = self.level("energy")
            chords: Sequence[Chord | None] = ()
            if planned.chords:
                chords = parse_bars(planned.chords)[0]
            elif row:
                asked = row[(self.index * count + number) % len(row)]
                chords = [chord and chord.moved(shift) for chord in asked]
            bars.append(
                BarPlan(
                    chords,
                    parts={name: parts[name] for name in PARTS if name in parts} or None,
                    density=self.level("density"),
                    energy=planned.energy if energy is None else energy,
                    brightness=self.level("brightness"),
                    starts=planned.starts,
                    ends=planned.ends,
                    fill=planned.fill,
                )
            )
        return None if all(bar == BarPlan() for bar in bars) else bars

    def chords(self, bar: int, count: int, key: float) -> tuple[str, ...]:
        """Symbols of one bar as they sound; empty if the words choose them.

        Args:
            bar: number of the bar in the clip.
            count: number of bars in the clip.
            key: transposition of the audio in semitones.
        """
        if text := self.plan[bar].chords if bar < len(self.plan) else "":
            return tuple(transposed(text, round(key)).split(" / "))
        if self.row is None:
            return ()
        row = parse_bars(self.row)
        return tuple("N.C." if chord is None else chord.symbol for chord in row[(self.index * count + bar) % len(row)])

    @property
    def row(self) -> str | None:
        """Chords of the nearer keyframe."""
        return self.start.chords if self.alpha < 0.5 else self.end.chords

    def level(self, name: str) -> float | None:
        """Energy, density or brightness at alpha as the keyframes set it; None if they leave it open."""
        return self._level_of(getattr(self.start, name), getattr(self.end, name))

    def _level_of(self, a: float | None, b: float | None) -> float | None:
        if a is None or b is None:
            return a if self.alpha < 0.5 else b
        return self._between(a, b)

    @property
    def prompts(self) -> tuple[PromptPart, ...]:
        """Prompt mix at alpha for display: the prompts of both keyframes, without parts below 1 %."""
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
