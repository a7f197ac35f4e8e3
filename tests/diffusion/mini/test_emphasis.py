"""Emphasis of conditions: silent parts and densities reach the network beyond their range."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from riffstream.corpus import measures
from riffstream.diffusion.checkpoint import Checkpoint
from riffstream.diffusion.clip import ClipRequest
from riffstream.diffusion.engine import Engine
from riffstream.diffusion.mini.emphasis import emphasised
from riffstream.diffusion.mini.family import MiniFamily
from riffstream.errors import CheckpointError
from riffstream.generator.model_info import describe
from riffstream.journey.conditions import DENSITY, PARTS_LEVEL, SIZE, BarPlan, lay_out
from riffstream.journey.journey import ClipSpec, Keyframe


def laid(**plan: object) -> torch.Tensor:
    return torch.from_numpy(lay_out([BarPlan(**plan)] * 2, 16, 4))[None]  # type: ignore[arg-type]


def levels(conditions: torch.Tensor) -> list[float]:
    return conditions[0, 0, PARTS_LEVEL].tolist()


def test_only_silent_parts_are_emphasised() -> None:
    asked = laid(parts={"drums": 0.0, "bass": 1.0, "chords": 0.3}, energy=0.0, density=None)
    before = asked.clone()
    out = emphasised(asked, 1.5, 3.0)
    assert levels(out) == pytest.approx([-1.5, 1.0, 0.3, 0, 0, 0])
    out[..., PARTS_LEVEL.start] = 0
    assert torch.equal(out, before), "everything else stays"
    assert torch.equal(asked, before)
    assert levels(emphasised(laid(parts={"drums": 0.15}), 1.0, 1.0))[0] == pytest.approx(0.15 - 0.5)


def test_several_silent_parts_share_the_emphasis() -> None:
    silent = dict.fromkeys(("drums", "bass", "pad", "lead"), 0.0)
    assert levels(emphasised(laid(parts=silent), 1.0, 1.0)) == pytest.approx([-0.5, -0.5, 0, -0.5, 0, -0.5])


@pytest.mark.parametrize(("density", "expected"), [(0.0, -1.0), (0.5, 0.5), (0.9, 1.7)])
def test_densities_are_spread_around_the_middle(density: float, expected: float) -> None:
    out = emphasised(laid(density=density), 1.0, 3.0)
    assert out[0, :, DENSITY].tolist() == [pytest.approx([expected, 1.0])] * 16


def test_nothing_asked_stays_nothing() -> None:
    assert not emphasised(torch.zeros(2, 16, SIZE), 1.0, 3.0).any()
    asked = laid(parts={"drums": 0.0}, density=0.2, chords=[])
    assert torch.equal(emphasised(asked, 0.0, 1.0), asked)


def test_a_family_applies_its_emphasis_and_keeps_it(tmp_path: Path) -> None:
    family = MiniFamily.random(conditions=SIZE)
    x = torch.randn(1, *family.latent_shape(), generator=torch.Generator().manual_seed(1))
    t, text = torch.full((1,), 0.5), family.encode_text(["jazz"])
    beyond = laid(parts={"drums": -2.0}, density=-1.0)
    expected = family.denoise(x, t, text, conditions=beyond)
    plain = describe(family, 512).weights
    family.defaults = replace(family.defaults, silence=2.0, contrast=3.0)
    torch.testing.assert_close(family.denoise(x, t, text, conditions=laid(parts={"drums": 0.0}, density=0.0)), expected)
    assert describe(family, 512).weights != plain, "a log replays only with the same emphasis"
    family.save(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())["defaults"]
    assert (index["silence"], index["contrast"]) == (2.0, 3.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("silence", -1),
        ("silence", "1"),
        ("contrast", 0),
        ("contrast", True),
        ("above", 1.5),
        ("above", "0.5"),
        ("tries", 0),
        ("tries", 2.5),
        ("tries", True),
        ("tries", 17),
    ],
)
def test_a_default_out_of_range_is_refused(tmp_path: Path, name: str, value: object) -> None:
    from riffstream.diffusion.mini.family import MODEL_FOLDER

    for part in MODEL_FOLDER.iterdir():
        (tmp_path / part.name).symlink_to(part)
    (tmp_path / "model_index.json").unlink()
    index = json.loads((MODEL_FOLDER / "model_index.json").read_text())
    index["defaults"][name] = value
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=f"{name} is {value!r}; allowed"):
        MiniFamily.load(tmp_path)


def test_the_shipped_model_rests_its_drums_on_request() -> None:
    """Real clips without drums have a percussive level some 12 dB below that of clips with drums."""
    engine = Engine(Checkpoint.load("mini", device="cpu"))

    def percussive(level: float) -> float:
        clips = []
        for seed, prompt in enumerate(("funk, drums, bass and electric guitar", "deep house", "rock", "samba")):
            keyframe = Keyframe.of(prompt, seed=seed, parts={"drums": level})
            clips.append(engine.render(ClipRequest(ClipSpec(keyframe, keyframe, 0.0, 0))).mel.numpy())
        return sum(measures.percussive_db(clip) for clip in clips) / len(clips)

    assert percussive(1.0) - percussive(0.0) > 8


def test_the_shipped_model_rests_its_drums_by_words() -> None:
    engine = Engine(Checkpoint.load("mini", device="cpu"))

    def percussive(words: str) -> float:
        clips = []
        for seed, prompt in enumerate(("reggae", "trance", "samba", "deep house")):
            keyframe = Keyframe.of(prompt + words, seed=seed)
            clips.append(engine.render(ClipRequest(ClipSpec(keyframe, keyframe, 0.0, 0))).mel.numpy())
        return sum(measures.percussive_db(clip) for clip in clips) / len(clips)

    assert percussive("") - percussive(", no drums") > 8
