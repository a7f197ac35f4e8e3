"""The ear in a model folder: it hears chords, parts and words in latents, and refuses wrong files."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from riffstream.diffusion.mini.ear import EAR, VALUES, EarNetwork, EarSizes, TrainedEar, write_ear
from riffstream.diffusion.mini.family import MODEL_FOLDER, MiniFamily
from riffstream.diffusion.mini.files import write_tensors
from riffstream.diffusion.mini.reader import READER
from riffstream.diffusion.mini.sounds import FILE, Sounds, fingerprint
from riffstream.errors import CheckpointError
from riffstream.journey.chords import Chord
from riffstream.journey.conditions import BarPlan, lay_out
from riffstream.models.seeds import SeedLibrary

SIZES = EarSizes(4, 16, 24, styles=5, instruments=7, width=8, reduced=2, embedding=6, blocks=1)
CODEC, OWNER = "00ff", "12"


@pytest.fixture(scope="module")
def family() -> MiniFamily:
    return MiniFamily.load(dtype=torch.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    write_ear(tmp_path / EAR, EarNetwork(SIZES), CODEC, OWNER)
    return tmp_path / EAR


def small(path: Path) -> TrainedEar:
    return TrainedEar(path, (4, 16, 32), 24, CODEC)


def asked(**plan: object) -> Tensor:
    return torch.from_numpy(lay_out([BarPlan(**plan)] * 2, 16, 4))  # type: ignore[arg-type]


def loops(part: str, level: float, count: int = 40) -> Tensor:
    """Latents of loops in 4/4 whose part has this level, 0 or 1."""
    library = SeedLibrary()
    four = [name for name in library.names if library[name].beats == 8]
    found = [name for name in four if abs(library[name].parts.get(part, 9) - level) < 0.05][:count]
    assert len(found) == count
    return torch.stack([library.latents(name) for name in found])


@pytest.mark.parametrize(("part", "least"), [("drums", 0.95), ("bass", 0.9), ("pad", 0.75)])
def test_a_clip_with_the_part_fits_where_it_plays(family: MiniFamily, part: str, least: float) -> None:
    assert family.ear is not None
    played, rested = loops(part, 1.0), loops(part, 0.0)
    plays, rests = asked(parts={part: 1.0}), asked(parts={part: 0.0})

    def gain(clips: Tensor) -> Tensor:
        return family.ear.fit(clips, None, plays) - family.ear.fit(clips, None, rests)  # type: ignore[union-attr]

    right = torch.cat([gain(played) > 0, gain(rested) < 0]).float().mean()
    assert right >= least


def test_a_clip_fits_its_own_chords(family: MiniFamily) -> None:
    assert family.ear is not None
    library, right = SeedLibrary(), 0
    named = [name for name in library.names if library[name].beats == 8 and plain(library[name].chords)][:40]
    assert len(named) == 40
    for name in named:
        own = [Chord.parse(symbol) for symbol in library[name].chords.split()]
        moved = [replace(chord, root=(chord.root + 1) % 12, bass=(chord.bass + 1) % 12) for chord in own]
        fits = [float(family.ear.fit(library.latents(name)[None], None, bars(chords))) for chords in (own, moved)]
        right += fits[0] > fits[1]
    assert right >= 36, "a semitone higher is another chord"


def plain(chords: str) -> bool:
    """Whether each of two bars has one chord."""
    return len(chords.split()) == 2 and "/" not in chords and "N.C." not in chords


def bars(chords: list[Chord]) -> Tensor:
    return torch.from_numpy(lay_out([BarPlan((chord,)) for chord in chords], 16, 4))


def test_words_count_with_the_reader_of_the_training_only(family: MiniFamily) -> None:
    sounds, codec = Sounds(MODEL_FOLDER / FILE, family.latent_shape()), fingerprint(family.codec)
    library = SeedLibrary()
    clips = torch.stack([library.latents(name) for name in ("techno", "solo_piano")])
    vectors = F.normalize(family.encode_text(["hard techno", "calm solo piano"]).pooled(), dim=-1)
    ear = TrainedEar(MODEL_FOLDER / EAR, family.latent_shape(), 24, codec, sounds.reader)
    assert [int(ear.fit(clips, vector, None).argmax()) for vector in vectors] == [0, 1]
    assert sounds.reader is not None
    sounds.reader.identity = "00"
    for reader in (sounds.reader, None):
        other = TrainedEar(MODEL_FOLDER / EAR, family.latent_shape(), 24, codec, reader)
        assert other.fit(clips, vectors[0], None).tolist() == [0, 0]
        assert other.identity != ear.identity


def test_an_estimate_of_no_numbers_is_never_the_best(family: MiniFamily) -> None:
    clips = torch.zeros(3, *family.latent_shape())
    clips[1] = torch.nan
    assert family.ear is not None
    assert family.ear.fit(clips, None, asked(parts={"drums": 1.0})).argmin() == 1


def test_levels_do_not_count(path: Path) -> None:
    clips = torch.randn(3, 4, 16, 32, generator=torch.Generator().manual_seed(1))
    ear = small(path)
    assert ear.fit(clips, None, asked(energy=0.9, density=0.1, brightness=0.5)).tolist() == [0, 0, 0]
    assert len(set(ear.fit(clips, None, asked(parts={"lead": 1.0})).tolist())) == 3


def test_a_file_keeps_the_network(path: Path) -> None:
    torch.manual_seed(0)
    before, clips = EarNetwork(SIZES).eval(), torch.randn(2, 4, 16, 32)
    heard, read = (ear(clips, torch.full((2,), 0.3), torch.tensor([False, True])) for ear in (before, small(path)._ear))
    assert read.values.shape == (2, 16, len(VALUES))
    for name in ("style", "instruments", "values"):
        own, other = getattr(heard, name), getattr(read, name)
        assert (own - other).abs().mean() < 0.02 * own.std(), name


def test_clips_in_three_four_are_narrow(path: Path) -> None:
    clips = torch.randn(2, 4, 16, 24, generator=torch.Generator().manual_seed(1))
    padded = F.pad(clips, (0, 8), value=9.0)
    conditions = torch.from_numpy(lay_out([BarPlan(parts={"drums": 1.0})] * 2, 12, 3))
    heard = small(path)._ear(padded, torch.full((2,), 0.3), torch.tensor([True, True]))
    again = small(path)._ear(F.pad(clips, (0, 8)), torch.full((2,), 0.3), torch.tensor([True, True]))
    torch.testing.assert_close(heard.style, again.style)
    assert len(set(small(path).fit(clips, None, conditions).tolist())) == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"codec": torch.zeros(2, dtype=torch.uint8)}, "another codec; 'riffstream train ear' makes a new one"),
        ({"codec": None}, "another codec"),
        ({"style.weight": None}, "has no network"),
        ({"row": torch.zeros(1, 12, 8, 1)}, "network of an unknown form"),
        ({"stem.weight": None}, r"stem\.weight is missing"),
        ({"values.1.weight": torch.zeros(3, 3)}, r"values\.1\.weight"),
        ({"stem.bias": torch.full((8,), torch.nan, dtype=torch.float16)}, "not finite"),
        ({"more": torch.zeros(1)}, "more is unknown"),
    ],
)  # fmt: skip
def test_wrong_files_are_refused(path: Path, change: dict[str, Tensor | None], said: str) -> None:
    tensors = {**load_file(path), **change}
    os.unlink(path)
    write_tensors(path, {name: value for name, value in tensors.items() if value is not None})
    with pytest.raises(CheckpointError, match=f"{path.parent.name}/ear.safetensors.*{said}"):
        small(path)


def test_a_damaged_file_and_one_of_another_shape_are_refused(path: Path) -> None:
    with pytest.raises(CheckpointError, match="ear"):
        TrainedEar(path, (6, 16, 32), 24, CODEC)
    path.write_bytes(b"ear")
    with pytest.raises(CheckpointError, match="cannot be read"):
        small(path)


def test_a_model_folder_may_lack_the_ear_and_not_its_codec(tmp_path: Path) -> None:
    family = MiniFamily.random()
    family.save(tmp_path)
    (tmp_path / "tokenizer").symlink_to(MODEL_FOLDER / "tokenizer")
    assert MiniFamily.load(tmp_path).ear is None
    sizes = replace(SIZES, channels=family.latent_shape()[0])
    write_ear(tmp_path / EAR, EarNetwork(sizes), fingerprint(family.codec), "")
    assert MiniFamily.load(tmp_path).ear is not None
    write_ear(tmp_path / EAR, EarNetwork(sizes), CODEC, "")
    with pytest.raises(CheckpointError, match="the ear is of another codec"):
        MiniFamily.load(tmp_path)
    assert not (tmp_path / READER).exists()
