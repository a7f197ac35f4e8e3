"""The reader of words: it prefers sounds with the style and the instruments of the words, and refuses wrong files."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from riffstream.diffusion.mini import sounds as module
from riffstream.diffusion.mini.family import MODEL_FOLDER, MiniFamily
from riffstream.diffusion.mini.files import write_tensors
from riffstream.diffusion.mini.reader import INSTRUMENTS, READER, STYLE, UNLIKELY, LabelledSounds, Reader, write_reader
from riffstream.diffusion.mini.sounds import FILE, Sounds, write_sounds
from riffstream.errors import CheckpointError
from riffstream.journey.conditions import Levels
from riffstream.training.reader import fit_reader

WIDTH, SHAPE = 16, (4, 16, 32)
WORDS = F.normalize(torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(2)), dim=1)  # three prompts
PLAYED = torch.tensor([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 0]])  # instruments of the three styles


@pytest.fixture(scope="module")
def reader() -> Reader:
    """A reader that knows the styles of the three prompts."""
    return fit_reader(WORDS, torch.arange(3), torch.arange(3), PLAYED, styles=3, steps=150)


@pytest.fixture
def folder(reader: Reader, tmp_path: Path) -> Path:
    """Four sounds with the same captions; the first three have the three styles, the last one has other instruments."""
    latents = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(3))
    levels = np.stack([Levels({"drums": float(k != 1)}).row for k in range(4)])
    write_sounds(tmp_path / FILE, latents, WORDS.sum(0).expand(4, -1), levels, torch.zeros(4, dtype=torch.bool))
    identity = Sounds(tmp_path / FILE, SHAPE).identity
    played = torch.cat([PLAYED, 1 - PLAYED[:1]])
    write_reader(tmp_path / READER, reader, torch.tensor([0, 1, 2, 0]), played, identity)
    return tmp_path


def test_words_choose_the_sound_of_their_style(folder: Path) -> None:
    sounds = Sounds(folder / FILE, SHAPE)
    for style, words in enumerate(WORDS):
        assert {sounds.choose(words, pick, beats=8) for pick in range(8)} == {style}
    (folder / READER).unlink()
    alike = Sounds(folder / FILE, SHAPE)
    assert len({alike.choose(WORDS[0], pick, beats=8) for pick in range(16)}) == 4, "their captions are the same"


def test_instruments_decide_within_a_style(folder: Path) -> None:
    reader = LabelledSounds(folder / READER, 4, WIDTH, Sounds(folder / FILE, SHAPE).identity[:16])
    fits = reader.likeness(WORDS[0])
    assert fits[0] > fits[3] + 0.5 * INSTRUMENTS, "the same style with other instruments"
    assert fits[3] > fits[1] + STYLE, "another style"
    assert np.all(fits >= STYLE * np.log(UNLIKELY))


def test_another_sound_than_before_is_of_its_style(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sounds = Sounds(folder / FILE, SHAPE)
    fits = LabelledSounds(folder / READER, 4, WIDTH, sounds.identity[:16]).likeness(WORDS[0])
    apart = float(fits[0] - fits[3])
    assert apart > module.WIDER_NEAR, "the only other sound of the style has other instruments"
    assert sounds.choose(WORDS[0], 0, beats=8, besides=(0,), like=0) is None
    monkeypatch.setattr(module, "WIDER_NEAR", 2 * apart)
    assert {sounds.choose(WORDS[0], pick, beats=8) for pick in range(8)} == {0}, "the usual choice is narrower"
    assert {sounds.choose(WORDS[0], pick, beats=8, besides=(0,), like=0) for pick in range(8)} == {3}
    monkeypatch.setattr(module, "WIDER_NEAR", 10.0)
    assert {sounds.choose(WORDS[0], pick, beats=8, besides=(0,), like=0) for pick in range(8)} == {3}, "one style"
    assert {sounds.choose(WORDS[0], pick, beats=8, besides=()) for pick in range(16)} == {0, 3}, "that of the best"


def test_parts_that_rest_come_before_the_style(folder: Path) -> None:
    sounds = Sounds(folder / FILE, SHAPE)
    assert {sounds.choose(WORDS[0], pick, beats=8, asked=Levels({"drums": 0.0})) for pick in range(8)} == {1}


def test_in_three_four_a_sound_of_the_style_needs_no_near_caption(folder: Path) -> None:
    latents, levels = torch.randn(4, *SHAPE), np.zeros((4, len(Levels().row)))
    write_sounds(folder / FILE, latents, WORDS.sum(0).expand(4, -1), levels, torch.ones(4, dtype=torch.bool))
    tensors = load_file(folder / READER)
    (folder / READER).unlink()
    identity = bytes.fromhex(Sounds(folder / FILE, SHAPE).identity)
    write_tensors(folder / READER, {**tensors, "sounds": torch.tensor(list(identity), dtype=torch.uint8)})
    sounds = Sounds(folder / FILE, SHAPE)
    assert sounds.choose(WORDS[0], 0, beats=6) in (0, 3), "its caption is of three styles, with a cosine below 0.8"
    (folder / READER).unlink()
    assert Sounds(folder / FILE, SHAPE).choose(WORDS[0], 0, beats=6) is None


def test_the_reader_belongs_to_the_identity(folder: Path) -> None:
    """A log replays with its own choice of sounds alone."""
    whole = Sounds(folder / FILE, SHAPE).identity
    tensors = load_file(folder / READER)
    write_tensors(folder / READER, {**tensors, "style": tensors["style"].flip(0)})
    changed = Sounds(folder / FILE, SHAPE).identity
    (folder / READER).unlink()
    assert len({whole, changed, Sounds(folder / FILE, SHAPE).identity}) == 3


def test_a_loaded_reader_does_not_depend_on_its_file(folder: Path) -> None:
    sounds = Sounds(folder / FILE, SHAPE)
    os.truncate(folder / READER, 100)
    copied = pickle.loads(pickle.dumps(sounds))
    assert sounds.choose(WORDS[2], 0, beats=8) == copied.choose(WORDS[2], 0, beats=8) == 2
    assert copied.identity == sounds.identity


def _refusal(folder: Path, **changed: Tensor | None) -> str:
    tensors = load_file(folder / READER)
    tensors = {key: value for key, value in {**tensors, **changed}.items() if value is not None}
    write_tensors(folder / READER, tensors)
    with pytest.raises(CheckpointError, match=READER) as caught:
        Sounds(folder / FILE, SHAPE)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("style", None, "no labels for 4 sounds"),
        ("instruments", torch.zeros(3, 4, dtype=torch.uint8), "no labels for 4 sounds"),
        ("instruments", torch.zeros(4, dtype=torch.uint8), "no labels for 4 sounds"),
        ("style", torch.tensor([0.0, torch.nan, 1.0, 0.0]), "no labels for 4 sounds"),
        ("instruments", torch.full((4, 4), torch.nan), "no labels for 4 sounds"),
        ("outer.weight", None, "no network"),
        ("style", torch.tensor([0, 1, 3, 0], dtype=torch.int16), "outside 0 to 2"),
        ("style", torch.tensor([0, 1, -1, 0], dtype=torch.int16), "outside 0 to 2"),
        ("sounds", torch.zeros(8, dtype=torch.uint8), "other opening sounds"),
        ("sounds", None, "other opening sounds"),
        ("inner.bias", torch.zeros(5, dtype=torch.float16), "inner.bias"),
        ("inner.bias", torch.full((512,), torch.nan, dtype=torch.float16), "not finite"),
        ("inner.weight", torch.zeros(512, 3, dtype=torch.int8), "inner.weight"),
    ],
)
def test_a_wrong_file_is_refused_by_name(folder: Path, name: str, value: Tensor | None, told: str) -> None:
    assert told in _refusal(folder, **{name: value})


def test_a_damaged_file_is_refused(folder: Path) -> None:
    (folder / READER).write_bytes((folder / READER).read_bytes()[:-9])
    with pytest.raises(CheckpointError, match="cannot be read"):
        Sounds(folder / FILE, SHAPE)


def test_the_shipped_reader_knows_what_a_style_means() -> None:
    """Neighbours by their words: reggae for "reggaeton", any jazz for "smooth jazz", a bossa by name for a café."""
    family = MiniFamily.load()
    tensors = load_file(MODEL_FOLDER / READER)
    style = tensors["style"].tolist()
    of = {text: _chosen(family, text) for text in ("reggaeton", "reggae", "smooth jazz", "jazz trio")}
    kinds = {text: {style[index] for index in found} for text, found in of.items()}
    assert all(len(found) == 1 for found in kinds.values()), "eight seeds, one style"
    assert len(set.union(*kinds.values())) == 4, "four styles"


def _chosen(family: MiniFamily, text: str) -> list[int]:
    assert isinstance(family.sounds, Sounds)
    vector = F.normalize(family.encode_text([text]).pooled()[0], dim=-1)
    return [index for pick in range(8) if (index := family.sounds.choose(vector, pick, beats=8)) is not None]
