"""How near prompts are to the styles that the embedded model knows."""

from __future__ import annotations

import pytest
import torch

from riffstream.diffusion.checkpoint import Checkpoint
from riffstream.diffusion.mini.family import MiniFamily
from riffstream.diffusion.mini.likeness import KnownStyles
from riffstream.diffusion.text import PromptEncoder
from riffstream.training.known_styles import style_names

LIMIT = 0.38  # the page's


@pytest.fixture(scope="module")
def encoder() -> PromptEncoder:
    family = Checkpoint.load("mini", device="cpu")
    assert isinstance(family, MiniFamily)
    return PromptEncoder(family)


def test_the_file_has_the_names_of_the_corpus_and_the_vectors_of_the_shipped_encoder(encoder: PromptEncoder) -> None:
    known = KnownStyles.load()
    assert known.names == style_names()
    for name in known.names[::80]:
        assert known.nearest(encoder.encode(name).pooled()[0]) == (name, pytest.approx(1.0, abs=0.002))


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("techno", True),
        ("a dark warehouse rave at 4 am", True),
        ("sad violin", True),
        ("neurofunk with a growling bass", True),
        ("asdfgh", False),
        ("tax return form", False),
        ("windows update failed", False),
    ],
)
def test_words_of_music_are_known_and_others_are_not(encoder: PromptEncoder, text: str, known: bool) -> None:
    near = KnownStyles.load().nearest(encoder.encode(text).pooled()[0])
    assert near is not None
    assert (near[1] >= LIMIT) == known, near


def test_vectors_of_another_encoder_have_no_answer() -> None:
    assert KnownStyles(["a"], torch.ones(1, 8)).nearest(torch.ones(16)) is None
