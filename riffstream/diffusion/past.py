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

With one origin a stream keeps one sound for hours. So the origin evolves: some clips later, where a phrase begins,
another opening sound of the same style takes its place, for the same words, parts and levels. It has about as much
treble, so that the music neither jumps nor becomes brighter with each change.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from torch import Tensor

from riffstream.diffusion.clip import NEAR_NOISE, Evolution, Opening
from riffstream.diffusion.family import Family
from riffstream.diffusion.removal import REMOVABLE, without
from riffstream.journey.keyframe import ClipSpec
from riffstream.spectrogram.mel import treble_db

__all__ = ["EVOLVES", "FULLER_DB", "LATE", "LATE_CHORDS", "PHRASE", "RENEWAL", "SOUNDS", "Past"]

SOUNDS: Final = 4  # combinations of resting parts whose last clip is kept
LEVEL_STEP: Final = 0.14  # change of energy, density or brightness above which a sound is late: verse to chorus is 0.15
STEERED_STEP: Final = 0.04  # the same after a steer
RENEWAL: Final = 3  # while parts rest, they are removed again in each of so many clips: they would creep back
WORDS_STEP: Final = 0.2  # share of the words that must have changed for another origin
FULLER_DB: Final = 6.0  # more treble than that of the origin's clip makes a clip the new origin
EVOLVES: Final = 4  # clips after which the origin evolves
PHRASE: Final = 8  # bars of a section's phrase, at whose beginning it does
LATE: Final = NEAR_NOISE  # time above which a sound is hidden where parts or levels change
LATE_CHORDS: Final = 0.9  # the same for chords: one of eight steps

_Key = tuple[frozenset[str], tuple[str, ...]]  # resting parts, and the texts of the prompts
_Levels = tuple[float | None, ...]
_Words = dict[str, float]  # share of each text


@dataclass(frozen=True, slots=True, eq=False)
class _Origin:
    """Latents [C, h, w] of an origin, its words, and the treble (``mel.treble_db``) of the clip that began with it.

    ``sounds`` are the numbers of the newest opening sound with these words, and ``like`` is the first of them where it
    has the parts of the music. ``clips`` counts the clips since then, or since a steer or a change of parts or levels.
    """

    latents: Tensor
    words: _Words
    treble: float
    sounds: tuple[int, ...] = ()
    like: int | None = None
    clips: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class _Sound:
    """Latents [C, h, w] of a clip, the levels for which its sound was made, and the origin of the sound."""

    latents: Tensor
    levels: _Levels
    origin: _Origin


@dataclass(frozen=True, slots=True, eq=False)
class _Choice:
    """The sound that a clip continues, the parts to remove from it, whether it is late, and whether the clip is one in
    which resting parts are removed again (``RENEWAL``)."""

    sound: _Sound
    silent: frozenset[str] = frozenset()
    late: bool = False
    renews: bool = False

    def keeps_origin(self, words: _Words) -> bool:
        """Whether a clip with these words goes back to the origin of the sound."""
        return not self.late and not self.silent and _near(self.sound.origin.words, words)

    def origin_after(self, own: _Origin, opening: Opening | None, *, anew: bool) -> _Origin:
        """The origin after a clip that is ``own`` origin otherwise, and has evolved to ``opening``; ``anew``: the count
        of clips begins anew."""
        before = self.sound.origin
        if not self.goes_on(own.words):
            return replace(own, sounds=before.sounds) if _near(before.words, own.words) else own
        thinner = own.treble < before.treble - FULLER_DB
        if opening is not None and not thinner:
            return replace(own, latents=opening.latents, sounds=opening.sounds, like=opening.sounds[0])
        clips = 1 if anew else before.clips + 1
        if own.treble > before.treble + FULLER_DB:
            # The sound, which had less, is no model for the parts of the next one.
            return replace(own, sounds=before.sounds, clips=clips)
        if self.silent and opening is None:
            return replace(own, sounds=before.sounds, like=before.like, clips=clips)
        return replace(before, clips=clips)

    def goes_on(self, words: _Words) -> bool:
        """Whether the sound goes on with these words, also after a removal of parts that have crept back."""
        return not self.late and (self.renews or not self.silent) and _near(self.sound.origin.words, words)


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
        opening: Opening | None = None,
    ) -> Past:
        """The past after a clip with parameters ``spec``.

        Args:
            before: the past that it continued; None: there was none.
            spec, latents, mel: of the clip.
            family: the model.
            steered: True for :meth:`opening`, False for :meth:`continuation`.
            opening: the clip's opening sound (``Clip.opening``).
        """
        resting = _resting(spec, family)[1]
        key = (resting, _texts(spec))
        levels, clips = spec.levels(family.bars)[1], 1
        origin = _Origin(latents, _words(spec), treble_db(mel))
        begins = opening is not None and not opening.evolved
        if opening is not None and begins:
            origin = replace(origin, latents=opening.latents, sounds=opening.sounds, like=opening.sounds[0])
        if before is not None:
            choice = before._choice(spec, family, steered=steered)
            if not choice.late and not begins:
                levels = choice.sound.levels  # slow changes add up
            if not begins and choice.sound.origin.latents.shape == latents.shape:
                # Where no other sound was found, the next attempt is later, too: each one decodes some sounds.
                anew = steered or before._evolves(spec, choice)
                origin = choice.origin_after(origin, opening, anew=anew)
            if before.sounds[-1][0] == key:
                clips += before.clips
        own = _Sound(latents, levels, origin)
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
            fields["origin"] = choice.sound.origin.latents
        if family.continues and family.sounds is not None and self._evolves(spec, choice):
            origin = choice.sound.origin
            limits = (origin.treble - FULLER_DB, origin.treble + FULLER_DB)
            fields["evolves"] = Evolution(origin.sounds, origin.like, limits)
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

    def _evolves(self, spec: ClipSpec, choice: _Choice) -> bool:
        """Whether a clip begins a phrase with which the origin is due to evolve. On the way to other words it does not,
        because it goes along with them."""
        phrase = not spec.plan or any(not bar.section or bar.place % PHRASE == 0 for bar in spec.plan)
        due = choice.sound.origin.clips >= EVOLVES and phrase and spec.start.prompts == spec.end.prompts
        return due and choice.goes_on(_words(spec))

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
            return _Choice(known, silent, _moved(known.levels, levels, step), renews)
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
