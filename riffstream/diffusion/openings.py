"""The choice of opening sounds for a clip: the sound that a first clip continues, and the next origin of a stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from riffstream.diffusion.clip import ClipRequest, Evolution, Opening
from riffstream.diffusion.family import Family
from riffstream.diffusion.removal import REMOVABLE, without
from riffstream.diffusion.text import PromptEncoder
from riffstream.journey.conditions import QUIET, Levels
from riffstream.journey.keyframe import NONE, Keyframe
from riffstream.spectrogram.mel import treble_db

__all__ = ["TRIED", "Openings", "direction"]

TRIED: Final = 3  # sounds that are tried as the next origin of a stream, in a clip that follows
TURN: Final = 0x9E3779B1  # distance of the picks of one clip, so that neighbouring seeds have others


def direction(encoder: PromptEncoder, keyframe: Keyframe) -> Tensor:
    """Sentence vector [D] of a keyframe's prompts, of length 1."""
    return F.normalize(encoder.encode(keyframe.prompts).pooled()[0], dim=-1)


class Openings:
    """The opening sounds of a model for its clips.

    Args:
        family: the model.
        encoder: prompt encoder with its cache.
    """

    def __init__(self, family: Family, encoder: PromptEncoder) -> None:
        self._family, self._encoder = family, encoder

    def find(
        self,
        request: ClipRequest,
        beats: float,
        conditions: Tensor | None,
        *,
        next_of: Evolution | None = None,
        turn: int = 0,
        known: Sequence[Opening] = (),
    ) -> Opening | None:
        """The opening sound that a first clip continues as if it had been heard, or with ``next_of`` the next origin of
        a stream; None: nothing.

        Args:
            beats: length of the clip.
            turn: another one may choose another sound among those that fit nearly as well.
            known: results for other turns; the one with the same sounds is returned again.
        """
        spec, sounds = request.spec, self._family.sounds
        shares = ((spec.start, 1 - spec.alpha), (spec.end, spec.alpha))
        keyframes = [keyframe for keyframe, share in shares if share > 0]
        usual = self._family.defaults.seed_image
        if sounds is None or any((keyframe.seed_image or usual) == NONE for keyframe in keyframes):
            return None
        asked = None if conditions is None else Levels.of(conditions.cpu().numpy())
        if next_of is not None:
            keyframes = keyframes[:1]  # both have the same words then, and two seeds would choose two sounds
        chosen = [self._sound(keyframe, beats, asked, next_of, turn) for keyframe in keyframes]
        numbers = tuple(number for number in chosen if number is not None)
        if len(numbers) < len(keyframes):
            return None
        if again := next((opening for opening in known if opening.sounds == numbers), None):
            return again
        found = [sounds.latents(number) for number in numbers]
        mixed = found[0] if len(found) == 1 else torch.lerp(found[0], found[1], spec.alpha)
        mixed = mixed.to(self._family.device)
        # Sounds without a bass may have other low notes, which a clip makes a bass of.
        silent = REMOVABLE & {part for part, level in (asked.parts if asked else {}).items() if level < QUIET}
        if silent:
            mixed = without(self._family, self._family.decode_mel(mixed[None])[0], silent)
        return Opening(mixed, numbers, next_of is not None)

    def _sound(
        self, keyframe: Keyframe, beats: float, asked: Levels | None, next_of: Evolution | None, turn: int
    ) -> int | None:
        """Number of the opening sound for a keyframe; with ``next_of`` another one, of at most ``TRIED``."""
        sounds, vector = self._family.sounds, direction(self._encoder, keyframe)
        if sounds is None:
            return None
        pick = keyframe.seed + TURN * turn
        if next_of is None:
            return sounds.choose(vector, pick, beats=beats, asked=asked)
        besides = next_of.sounds
        for _ in range(TRIED):
            number = sounds.choose(vector, pick, beats=beats, asked=asked, besides=besides, like=next_of.like)
            if number is None:
                return None
            mel = self._family.decode_mel(sounds.latents(number)[None].to(self._family.device))[0]
            if next_of.treble_db[0] <= treble_db(mel) <= next_of.treble_db[1]:
                return number
            besides = (*besides, number)
        return None
