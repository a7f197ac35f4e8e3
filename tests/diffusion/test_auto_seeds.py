"""Clips that name no seed image start from the loop of the library that is most like their prompts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from riffstream.diffusion import seed_images
from riffstream.diffusion.clip import ClipRequest
from riffstream.diffusion.engine import Engine
from riffstream.diffusion.mini.family import MODEL_FOLDER, MiniFamily
from riffstream.diffusion.slots import HELD
from riffstream.journey.conditions import SIZE
from riffstream.journey.journey import ClipSpec, Keyframe
from riffstream.models.seeds import SeedEntry, SeedLibrary

CAPTIONS = {
    "piano": ("slow calm piano", 8),
    "grand": ("slow calm piano", 8),
    "techno": ("driving techno", 8),
    "waltz": ("vienna waltz", 6),
}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A random model beside a library whose loops are constants: 0, 1, 2, 3.

    A random text encoder finds all texts alike, so "near" means the same here.
    """
    family = MiniFamily.random()
    family.defaults = replace(family.defaults, seed_image="auto", sampler="euler", steps=2, guidance=1.0)
    folder: Path = tmp_path_factory.mktemp("seeds")
    entries = [SeedEntry(name, name, (), caption, 100.0, beats) for name, (caption, beats) in CAPTIONS.items()]
    levels = torch.arange(4.0)[:, None, None, None] + torch.zeros(4, *family.latent_shape())
    SeedLibrary.write(folder, entries, levels, family.text_encoder.sentences([e.caption for e in entries]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seed_images, "NEAR", 1e-4)
        yield Engine(family, seeds=SeedLibrary(folder))


def start(engine: Engine, keyframe: Keyframe, *, end: Keyframe | None = None, alpha: float = 0.0, **rest: Any) -> float:
    """The level of the loop that a clip starts from: with denoising 0 it is the clip."""
    ends = [replace(k, denoising=0.0) for k in (keyframe, end or keyframe)]
    latents: Tensor = engine.render(ClipRequest(ClipSpec(ends[0], ends[1], alpha), **rest)).latents
    assert latents.std() < 1e-5
    return round(float(latents.mean()), 3)


def test_the_most_alike_loop_is_taken(engine: Engine) -> None:
    assert start(engine, Keyframe.of("driving techno")) == 2
    assert start(engine, Keyframe.of("driving techno", seed_image="auto", seed=7)) == 2


def test_the_noise_seed_chooses_among_equally_near_ones(engine: Engine) -> None:
    seeds = range(0, 4 * HELD, HELD // 2)
    chosen = [start(engine, Keyframe.of("slow calm piano", seed=seed)) for seed in seeds]
    assert set(chosen) == {0, 1}
    assert chosen == [start(engine, Keyframe.of("slow calm piano", seed=seed)) for seed in seeds]


def test_a_walk_of_the_noise_stays_with_a_loop_for_a_while(engine: Engine) -> None:
    chosen = [start(engine, Keyframe.of("slow calm piano", seed=seed)) for seed in range(4 * HELD)]
    assert chosen == [level for level in chosen[::HELD] for _ in range(HELD)]


def test_a_named_loop_wins(engine: Engine) -> None:
    assert start(engine, Keyframe.of("driving techno", seed_image="piano")) == 0


def test_clips_in_three_start_from_loops_in_three(engine: Engine) -> None:
    assert start(engine, Keyframe.of("driving techno"), frames=384) == 3
    assert start(engine, Keyframe.of("vienna waltz")) != 3


def test_parts_that_rest_choose_the_loop_and_a_slow_change_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seed_images, "NEAR", 1e-4)
    family = MiniFamily.random(conditions=SIZE)
    family.defaults = replace(family.defaults, seed_image="auto", sampler="euler", steps=2, guidance=1.0)
    rows = [({"drums": 1.0}, 0.5), ({"drums": 0.0}, 0.5), ({"drums": 0.0}, 0.5)]
    entries = [
        SeedEntry(f"loop_{k}", "techno", (), "techno", 100.0, 8, parts=parts, energy=energy)
        for k, (parts, energy) in enumerate(rows)
    ]
    levels = torch.arange(3.0)[:, None, None, None] + torch.zeros(3, *family.latent_shape())
    SeedLibrary.write(tmp_path, entries, levels, family.text_encoder.sentences(["techno"] * 3))
    engine = Engine(family, seeds=SeedLibrary(tmp_path))
    chosen = {start(engine, Keyframe.of("techno", parts={"drums": 0.0}, seed=HELD * k)) for k in range(6)}
    assert chosen == {1, 2}
    assert {start(engine, Keyframe.of("techno", parts={"drums": 1.0}, seed=HELD * k)) for k in range(6)} == {0}
    soft, loud = (Keyframe.of("techno", parts={"drums": 0.0}, energy=energy) for energy in (0.35, 0.65))
    assert len({start(engine, soft, end=loud, alpha=alpha) for alpha in (0.0, 0.3, 0.6, 1.0)}) == 1
    assert start(engine, Keyframe.of("techno", seed=HELD)) in (0, 1, 2)


def test_two_loops_are_mixed_between_keyframes(engine: Engine) -> None:
    piano, techno = Keyframe.of("slow calm piano", seed=1), Keyframe.of("driving techno")
    ends = {start(engine, piano), start(engine, techno)}
    assert start(engine, piano, end=techno, alpha=0.5) == sum(ends) / 2


def test_none_starts_from_noise(engine: Engine) -> None:
    alone = Engine(engine.family)  # without a library there is nothing to choose from
    for keyframe in (Keyframe.of("driving techno", seed_image="none"), Keyframe.of("driving techno", denoising=1.0)):
        made = engine.render(ClipRequest(ClipSpec(keyframe, keyframe, 0.0))).latents
        plain = Keyframe.of("driving techno")
        assert torch.equal(made, alone.render(ClipRequest(ClipSpec(plain, plain, 0.0))).latents)


def test_a_model_without_that_default_starts_from_noise(engine: Engine) -> None:
    family = MiniFamily.random()
    with_library, without = Engine(family, steps=2, seeds=engine.seed_images.source), Engine(family, steps=2)
    keyframe = Keyframe.of("driving techno")
    request = ClipRequest(ClipSpec(keyframe, keyframe, 0.0))
    assert torch.equal(with_library.render(request).latents, without.render(request).latents)
    assert with_library.seed_images.nearest(torch.ones(3), 0, beats=8) is None, "vectors of another encoder"


def test_the_shipped_model_starts_from_its_library_where_asked() -> None:
    family = MiniFamily.load(MODEL_FOLDER)
    engine, library = Engine(family, seeds=SeedLibrary()), SeedLibrary()
    keyframe = Keyframe.of("slow jazz ballad, grand piano and upright bass", seed_image="auto", denoising=0.0)
    clip = engine.render(ClipRequest(ClipSpec(keyframe, keyframe, 0.0)))
    near = [entry.name for entry, _ in library.nearest(keyframe.prompts[0].text, family.text_encoder, 8)]
    assert any(torch.allclose(clip.latents.cpu(), library.latents(name), atol=1e-3) for name in near[:4])
