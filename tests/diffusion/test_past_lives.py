"""Lives of streams in any order: words, parts, levels, metres and steers change while the origin evolves."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any, Final

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from riffstream.diffusion.clip import Clip, ClipRequest
from riffstream.diffusion.engine import Engine
from riffstream.diffusion.family import TextEmbedding
from riffstream.diffusion.mini.family import MiniFamily
from riffstream.diffusion.past import SOUNDS, Past
from riffstream.journey.conditions import SIZE
from riffstream.journey.journey import ClipSpec, Keyframe
from riffstream.spectrogram.mel import treble_db

NUMBER: Final = 6  # sounds of each metre


class _Sounds:
    """Six sounds in 4/4 and, after them, six in 3/4. The next one in order is chosen."""

    identity = ""

    def __init__(self, family: MiniFamily) -> None:
        draw = torch.Generator().manual_seed(5)
        self._latents = [torch.randn(family.latent_shape(f), generator=draw) for f in [512] * NUMBER + [384] * NUMBER]

    def choose(
        self, vector: Tensor, pick: int, *, beats: float, besides: Collection[int] | None = None, **_: Any
    ) -> int | None:
        numbers = range(NUMBER, 2 * NUMBER) if beats == 6 else range(NUMBER)
        return next((number for number in numbers if number not in (besides or ())), None)

    def latents(self, index: int) -> Tensor:
        return self._latents[index]

    def lean(self, text: TextEmbedding) -> TextEmbedding:
        return text


FAMILY = MiniFamily.random(conditions=SIZE)
FAMILY.sounds = _Sounds(FAMILY)
STEPS = st.fixed_dictionaries(
    {
        "prompt": st.sampled_from(["jazz", "jazz", "jazz", "jazz", "techno", ""]),
        "parts": st.sampled_from([None, None, None, {"drums": 0.0}, {"bass": 0.0, "pad": 1.0}]),
        "energy": st.sampled_from([None, None, 0.4, 0.9]),
        "frames": st.sampled_from([512, 512, 384]),
        "steered": st.sampled_from([False, False, False, True]),
        "count": st.sampled_from([1, 4, 5, 8]),
    }
)


@settings(max_examples=60, deadline=None)
@given(lives=st.lists(STEPS, min_size=2, max_size=5))
def test_a_stream_lives_through_changes_in_any_order(lives: list[dict[str, Any]]) -> None:
    engine, past = Engine(FAMILY, steps=3), None
    for life in lives:
        keyframe = Keyframe.of(life["prompt"], parts=life["parts"], energy=life["energy"])
        spec = ClipSpec(keyframe, keyframe, 0.0, 0)
        for number in range(life["count"]):
            steered = life["steered"] and number == 0 and past is not None
            request = _request(past, spec, life["frames"], steered)
            clip = engine.render(request)
            _check(request, clip)
            past = Past.after(past, spec, clip.latents, clip.mel, FAMILY, steered=steered, opening=clip.opening)
            assert len(past.sounds) <= SOUNDS
            if clip.opening is not None and not _thin(request, clip):
                assert past.own.origin.latents is clip.opening.latents
                assert past.own.origin.sounds == clip.opening.sounds
            assert all(sound.origin.latents.shape == clip.latents.shape for _, sound in past.sounds)


def _request(past: Past | None, spec: ClipSpec, frames: int, steered: bool) -> ClipRequest:
    request = ClipRequest(spec=spec, frames=frames)
    if past is None:
        return request
    return replace(request, **(past.opening(spec, FAMILY) if steered else past.continuation(spec, FAMILY)))


def _thin(request: ClipRequest, clip: Clip) -> bool:
    """Whether a clip that evolved has lost too much treble: it keeps the origin before."""
    return request.evolves is not None and treble_db(clip.mel) < request.evolves.treble_db[0]


def _check(request: ClipRequest, clip: Clip) -> None:
    """A clip is music; its opening sound is of its metre, and no older one where the origin evolved."""
    assert torch.isfinite(clip.mel).all()
    opening = clip.opening
    if opening is None:
        return
    assert opening.latents.shape == clip.latents.shape
    assert opening.evolved == (request.evolves is not None and request.previous is not None and not request.opens)
    if opening.evolved:
        assert request.evolves is not None
        assert not set(opening.sounds) & set(request.evolves.sounds)
