"""Prompts that lean towards the captions of sounds that fit: how far, and which clips have them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from riffstream.diffusion.clip import ClipRequest
from riffstream.diffusion.engine import Engine
from riffstream.diffusion.family import TextEmbedding
from riffstream.diffusion.mini.family import MiniFamily
from riffstream.diffusion.mini.leaning import APART, LEAN, lean
from riffstream.diffusion.mini.sounds import Sounds
from riffstream.diffusion.text import PromptEncoder
from riffstream.evaluation import trials
from tests.diffusion.mini.test_reader import SHAPE, folder, reader

__all__ = ["folder", "reader"]

WIDTH = 16


def _vectors(count: int, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed)), dim=1)


def _prompt(scale: float = 14.0) -> TextEmbedding:
    """Five tokens, and two places without weight."""
    tokens = torch.cat([scale * _vectors(5, seed=1), torch.zeros(2, WIDTH)])
    return TextEmbedding(tokens[None], F.pad(torch.ones(1, 5), (0, 2)))


def test_a_prompt_turns_towards_the_captions_that_fit() -> None:
    text, vectors = _prompt(), _vectors(30)
    fit = torch.full((30,), -9.0)
    fit[[3, 4]] = 1.0  # the others weigh nothing beside them
    centre, mean, pooled = vectors[3:5].mean(0), vectors.mean(0), text.pooled()[0]
    goal = pooled.norm() * F.normalize(centre + APART * (centre - mean), dim=0)
    torch.testing.assert_close(lean(text, vectors, fit).pooled()[0], pooled + LEAN * (goal - pooled))


def test_a_better_fit_weighs_more() -> None:
    text, vectors = _prompt(), _vectors(2)
    first = lean(text, vectors, torch.tensor([0.9, 0.8])).pooled()[0]
    second = lean(text, vectors, torch.tensor([0.8, 0.9])).pooled()[0]
    assert F.cosine_similarity(first, vectors[0], 0) > F.cosine_similarity(second, vectors[0], 0)


def test_a_prompt_is_never_longer_than_before() -> None:
    """A larger input would be unlike any of training."""
    for scale in (1.0, 14.0, 20.0):
        text = _prompt(scale)
        assert lean(text, _vectors(9), torch.ones(9)).pooled().norm() <= text.pooled().norm() * 1.001


def test_places_without_weight_stay() -> None:
    text = _prompt()
    leaning = lean(text, _vectors(9), torch.ones(9))
    assert not leaning.tokens[:, 5:].any()
    assert leaning.mask is text.mask
    moves = (leaning.tokens - text.tokens)[0, :5]
    torch.testing.assert_close(moves, moves[:1].expand(5, -1))


def test_sounds_without_a_reader_leave_words_alone(folder: Path) -> None:
    sounds = Sounds(folder / "sounds.safetensors", SHAPE)
    width = sounds._vectors.shape[1]
    text = TextEmbedding(torch.randn(1, 4, width), torch.ones(1, 4))
    assert not torch.equal(sounds.lean(text).tokens, text.tokens)
    wider = TextEmbedding(torch.randn(1, 4, width + 1), torch.ones(1, 4))
    assert sounds.lean(wider) is wider
    (folder / "reader.safetensors").unlink()
    assert Sounds(folder / "sounds.safetensors", SHAPE).lean(text) is text


class _Sounds:
    """One opening sound, or none, whose reader adds 1 to every token."""

    identity = ""

    def __init__(self, sound: Tensor | None) -> None:
        self._sound = sound

    def choose(self, vector: Tensor, pick: int, **_: object) -> int | None:
        return None if self._sound is None else 0

    def latents(self, index: int) -> Tensor:
        assert self._sound is not None
        return self._sound

    def lean(self, text: TextEmbedding) -> TextEmbedding:
        return TextEmbedding(text.tokens + 1, text.mask)


def test_prompts_lean_and_negative_and_empty_ones_do_not() -> None:
    family = MiniFamily.random()
    plain = {text: PromptEncoder(family).encode(text).tokens for text in ("slow jazz", "drums")}
    family.sounds = _Sounds(None)
    encoder = PromptEncoder(family)
    for alpha in (0.0, 0.5):
        pair = encoder.between("slow jazz", "slow jazz", alpha, ("drums", "drums"), lean=True)
        torch.testing.assert_close(pair.cond.tokens, plain["slow jazz"] + 1)
        torch.testing.assert_close(pair.uncond.tokens, plain["drums"])
    for text in ("", " ", "(techno:0)", "(techno:-1)", "()"):
        told = encoder.encode(text)
        assert encoder.between(text, text, 0, lean=True).cond is told, text
    torch.testing.assert_close(encoder.encode("slow jazz").tokens, plain["slow jazz"])
    torch.testing.assert_close(encoder.pair("slow jazz").cond.tokens, plain["slow jazz"])


@pytest.mark.parametrize(
    ("changes", "leans"),
    [
        ({}, True),
        ({"previous": True}, False),
        ({"sound": True}, False),
        ({"seed_image": True}, False),
        ({"recalled": True, "anew": True}, False),
    ],
)
def test_only_a_clip_that_words_alone_lead_leans(changes: dict[str, Any], leans: bool) -> None:
    """A sound has a style of its own, and words that lean take from the chords and parts that are asked for."""
    family = MiniFamily.random()
    latents = torch.randn(family.latent_shape(), generator=torch.Generator().manual_seed(2))
    family.sounds = _Sounds(latents if changes.pop("sound", False) else None)
    heard: list[Tensor] = []
    denoise = family.denoise

    def listen(x: Tensor, t: Tensor, text: TextEmbedding, **rest: Any) -> Tensor:
        heard.append(text.tokens)
        return denoise(x, t, text, **rest)

    family.denoise = listen  # type: ignore[method-assign]
    given = {name: latents if value is True and name != "anew" else value for name, value in changes.items()}
    request: ClipRequest = replace(trials.request("slow jazz", 1, None), **given)
    engine = Engine(family, steps=2)
    engine.render(request)
    expected = engine.encoder.encode("slow jazz").tokens + (1 if leans else 0)
    torch.testing.assert_close(heard[0], expected)
