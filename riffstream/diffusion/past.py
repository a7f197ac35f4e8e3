"""The past of a clip: the sounds that a later clip can continue.

Where a journey arrives at a stop with a new section of its form, the clip continues an opening sound, if there is one
for its words. The network continues the parts and the levels of the previous clip, whatever the conditions of the
next one say. So where parts rest or return, a clip continues another sound: the last clip with the same resting
parts, or the previous clip without the sound of the parts that begin to rest. Only drums and bass can be removed; in
a long rest they creep back from clip to clip and are removed again. Where another part, a level or the chords of a
steer change, the sound is late: it is hidden in the steps near noise, which decide them.

From clip to clip the sound wears off: after eight clips it is as far from music as a clip from noise alone. So while
words, parts, levels and metre stay, the steps near noise continue the origin: the opening sound with which the music
began, or else the first clip with all of these (docs/mini.md, "Opening sounds"). A sound may be a beginning without
drums or behind a filter: the first clip with more treble takes its place, so that the music does not fall back to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

from torch import Tensor

from riffstream.diffusion.clip import NEAR_NOISE
from riffstream.diffusion.family import Family
from riffstream.diffusion.removal import REMOVABLE, without
from riffstream.journey.keyframe import ClipSpec

__all__ = ["LATE", "LATE_CHORDS", "SOUNDS", "Past"]

SOUNDS: Final = 4  # combinations of resting parts whose last clip is kept
LEVEL_STEP: Final = 0.14  # change of energy, density or brightness above which a sound is late: verse to chorus is 0.15
STEERED_STEP: Final = 0.04  # the same after a steer
RENEWAL: Final = 3  # while parts rest, they are removed again in each of so many clips: they would creep back
WORDS_STEP: Final = 0.2  # share of the words that must have changed for another origin
FULLER_DB: Final = 6.0  # more treble than that of the origin's clip makes a clip the new origin
LATE: Final = NEAR_NOISE  # time above which a sound is hidden where parts or levels change
LATE_CHORDS: Final = 0.9  # the same for chords: one of eight steps

_Key = tuple[frozenset[str], tuple[str, ...]]  # resting parts, and the texts of the prompts
_Levels = tuple[float | None, ...]
_Words = dict[str, float]  # share of each text


@dataclass(frozen=True, slots=True, eq=False)
class _Sound:
    """Latents [C, h, w] of a clip, the levels for which its sound was made, and the origin of the sound: its latents
    [C, h, w], its words, and the treble in dB (:func:`_treble`) of the clip that began with it."""

    latents: Tensor
    levels: _Levels
    origin: Tensor
    words: _Words
    treble: float


@dataclass(frozen=True, slots=True, eq=False)
class _Choice:
    """The sound that a clip continues, the parts to remove from it, and whether it is late."""

    sound: _Sound
    silent: frozenset[str] = frozenset()
    late: bool = False

    def keeps_origin(self, words: _Words) -> bool:
        """Whether a clip with these words goes back to the origin of the sound."""
        return not self.late and not self.silent and _near(self.sound.words, words)


@dataclass(frozen=True, slots=True, eq=False)
class Past:
    """A clip and the sounds before it, immutable.

    Attributes:
        mel: [A, M, T] amplitudes of the clip.
        resting: parts that rest at its end.
        own: the clip's own sound.
        clips: number of clips with the same resting parts and prompts up to this one.
        sounds: the newest sound of each combination of resting parts and prompts, oldest first; all in its metre.
    """

    mel: Tensor
    resting: frozenset[str]
    own: _Sound
    clips: int
    sounds: tuple[tuple[_Key, _Sound], ...]

    @property
    def latents(self) -> Tensor:
        """Latents [C, h, w] of the clip."""
        return self.own.latents

    @classmethod
    def after(
        cls,
        before: Past | None,
        spec: ClipSpec,
        latents: Tensor,
        mel: Tensor,
        family: Family,
        *,
        steered: bool = False,
        opening: Tensor | None = None,
    ) -> Past:
        """The past after a clip with parameters ``spec``.

        Args:
            before: the past that it continued; None: there was none.
            spec, latents, mel: of the clip.
            family: the model.
            steered: True for :meth:`opening`, False for :meth:`continuation`.
            opening: [C, h, w] latents of the opening sound that the clip continued (``Clip.opening``).
        """
        resting = _resting(spec, family)[1]
        key = (resting, _texts(spec))
        levels, clips = spec.levels(family.bars)[1], 1
        origin, words, treble = latents if opening is None else opening, _words(spec), _treble(mel)
        if before is not None:
            choice = before._choice(spec, family, steered=steered)
            if not choice.late and opening is None:
                levels = choice.sound.levels  # slow changes add up
                metre = choice.sound.origin.shape == latents.shape
                fuller = treble > choice.sound.treble + FULLER_DB
                if metre and not fuller and choice.keeps_origin(words):
                    origin, words, treble = choice.sound.origin, choice.sound.words, choice.sound.treble
            if before.sounds[-1][0] == key:
                clips += before.clips
        own = _Sound(latents, levels, origin, words, treble)
        known = () if before is None else before.sounds
        older = [(each, sound) for each, sound in known if each != key and sound.latents.shape == latents.shape]
        return cls(mel, resting, own, clips, (*older, (key, own))[-SOUNDS:])

    def continuation(self, spec: ClipSpec, family: Family) -> dict[str, Any]:
        """Fields of a :class:`ClipRequest` for the next clip of the take, with parameters ``spec``."""
        choice = self._choice(spec, family, steered=False)
        fields: dict[str, Any] = {"previous": self.latents}
        if not self._plain(choice) and family.continues:
            fields |= self._recalled(choice, family)
        if family.continues and choice.keeps_origin(_words(spec)):
            fields["origin"] = choice.sound.origin
        if family.sounds is not None and self._begins(spec):
            fields["opens"] = True
        return fields

    def opening(self, spec: ClipSpec, family: Family) -> dict[str, Any]:
        """The same for the first clip of another take: it continues the sound, and is not joined to the clip."""
        if not family.continues:
            return {}
        choice = self._choice(spec, family, steered=True)
        if self._plain(choice):  # a steer of chords, or of the form
            return {"anew": True, "recalled": self.latents, "late": LATE_CHORDS}
        return self._recalled(choice, family)

    def _begins(self, spec: ClipSpec) -> bool:
        """Whether a clip is the first one of a form's section with words of its own: a journey arrives at a stop."""
        texts, parts = _texts(spec), [tuple(part.text for part in each.prompts) for each in (spec.start, spec.end)]
        new = all(texts != known for (_, known), _ in self.sounds)
        return bool(spec.plan and spec.plan[0].starts) and parts[0] == parts[1] and new

    def _plain(self, choice: _Choice) -> bool:
        """Whether a clip simply continues the clip."""
        return choice.sound is self.own and not choice.silent and not choice.late

    def _choice(self, spec: ClipSpec, family: Family, *, steered: bool) -> _Choice:
        resting, levels = _resting(spec, family)[0], spec.levels(family.bars)[0]
        step = STEERED_STEP if steered else LEVEL_STEP
        key = (resting, _texts(spec))
        known = self.own if resting == self.resting else next((own for each, own in self.sounds if each == key), None)
        if known is not None:
            renews = known is self.own and not steered and self.clips % RENEWAL == 0
            silent = resting & REMOVABLE if renews else frozenset()
            return _Choice(known, silent, _moved(known.levels, levels, step))
        silent = (resting - self.resting) & REMOVABLE
        late = resting != self.resting | silent or _moved(self.own.levels, levels, step)
        return _Choice(self.own, silent, late)

    def _recalled(self, choice: _Choice, family: Family) -> dict[str, Any]:
        sound = without(family, self.mel, choice.silent) if choice.silent else choice.sound.latents
        return {"anew": True, "recalled": sound, **({"late": LATE} if choice.late else {})}


def _resting(spec: ClipSpec, family: Family) -> tuple[frozenset[str], frozenset[str]]:
    return spec.resting(family.bars, words=bool(family.conditions))


def _moved(before: _Levels, after: _Levels, step: float) -> bool:
    """Whether a level was given or withdrawn, or has changed by more than ``step``."""
    return any(a != b and (a is None or b is None or abs(a - b) > step) for a, b in zip(before, after, strict=True))


def _treble(mel: Tensor) -> float:
    """Level in dB of the upper half of the bins, at least 30 dB below that of the whole clip [A, M, T]."""
    rows = mel.float().square().mean((0, 2))
    return 10 * math.log10(float(rows[len(rows) // 2 :].mean()) + 1e-3 * float(rows.mean()) + 1e-12)


def _words(spec: ClipSpec) -> _Words:
    """Share of each text in the words of a clip; they add up to 1."""
    shares: _Words = {}
    for keyframe, share in ((spec.start, 1 - spec.alpha), (spec.end, spec.alpha)):
        whole = sum(part.weight for part in keyframe.prompts) or 1.0
        for part in keyframe.prompts:
            shares[part.text] = shares.get(part.text, 0.0) + share * part.weight / whole
    return shares


def _near(before: _Words, after: _Words) -> bool:
    """Whether less than ``WORDS_STEP`` of the words are new."""
    return sum(max(0.0, share - before.get(text, 0.0)) for text, share in after.items()) < WORDS_STEP


def _texts(spec: ClipSpec) -> tuple[str, ...]:
    return tuple(part.text for keyframe in (spec.start, spec.end) for part in keyframe.prompts)
