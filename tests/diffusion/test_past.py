"""The past of a take: which sound the next clip continues. What the network makes of it: ``test_model_renderer.py``."""

from __future__ import annotations

import pytest
import torch

from riffstream.diffusion.mini.family import MiniFamily
from riffstream.diffusion.past import SOUNDS, Past, without_drums
from riffstream.journey.conditions import SIZE
from riffstream.journey.journey import ClipSpec, Keyframe


def spec(prompt: str, **parts: float) -> ClipSpec:
    keyframe = Keyframe.of(prompt, parts=parts or None)
    return ClipSpec(keyframe, keyframe, 0.0, 0)


@pytest.fixture(scope="module")
def family() -> MiniFamily:
    return MiniFamily.random(conditions=SIZE)


@pytest.fixture
def latents(family: MiniFamily) -> torch.Tensor:
    return torch.randn(3, *family.latent_shape(), generator=torch.Generator().manual_seed(1))


def test_sounds_return_with_their_parts_and_their_prompt(family: MiniFamily, latents: torch.Tensor) -> None:
    past = None
    for row, each in zip(latents, (spec("jazz"), spec("jazz", bass=0.0), spec("jazz", drums=0.0)), strict=True):
        past = Past.after(past, each, row, 2)
    assert past is not None
    assert torch.equal(past.continuation(spec("jazz"), family)["recalled"], latents[0])
    assert torch.equal(past.continuation(spec("jazz", bass=0.0), family)["recalled"], latents[1])
    assert past.continuation(spec("techno"), family)["recalled"] is None
    same = past.continuation(spec("techno", drums=0.0), family)
    assert list(same) == ["previous"]
    assert torch.equal(same["previous"], latents[2])


def test_the_memory_of_a_take_is_bounded(latents: torch.Tensor) -> None:
    past = None
    for number in range(20):
        past = Past.after(past, spec(f"prompt {number}"), latents[0], 2)
    assert past is not None
    assert [texts for (_, texts), _ in past.sounds] == [(f"prompt {k}",) * 2 for k in range(20 - SOUNDS, 20)]


def test_drums_are_removed_from_a_sound_and_notes_stay() -> None:
    family = MiniFamily.load()
    mel = torch.full((2, 256, 512), 0.05)
    mel[:, 60:62] = 20.0  # a note
    mel[:, 100:, 32::64] = 20.0  # hits
    latents = family.encode_mel(mel[None])[0]
    before, after = family.decode_mel(latents[None])[0], family.decode_mel(without_drums(family, latents)[None])[0]

    def energy(each: torch.Tensor, bins: slice) -> float:
        return float(each[:, bins].square().mean())

    assert energy(after, slice(60, 62)) > 0.7 * energy(before, slice(60, 62))
    assert energy(after, slice(120, 256)) < 0.4 * energy(before, slice(120, 256))
