"""Opening sounds in a model folder: the choice by words, parts and metre, and the first clip that continues one."""

from __future__ import annotations

import os
import pickle
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from riffstream.diffusion import slots
from riffstream.diffusion.clip import ClipRequest, Evolution
from riffstream.diffusion.engine import Engine
from riffstream.diffusion.mini import sounds as module
from riffstream.diffusion.mini.family import MODEL_FOLDER, MiniFamily
from riffstream.diffusion.mini.files import write_tensors
from riffstream.diffusion.mini.reader import READER
from riffstream.diffusion.mini.sounds import FILE, Sounds, write_sounds
from riffstream.diffusion.past import EVOLVES, Past
from riffstream.diffusion.removal import without
from riffstream.errors import CheckpointError
from riffstream.journey.conditions import SIZE, Levels
from riffstream.journey.journey import ClipSpec, Keyframe
from riffstream.spectrogram.mel import treble_db

TEXTS = ("slow calm piano", "slow calm piano", "driving techno", "vienna waltz")


@pytest.fixture(scope="module")
def family() -> MiniFamily:
    return MiniFamily.random(conditions=SIZE)


@pytest.fixture
def sounds(family: MiniFamily, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sounds:
    """Four sounds of noise; a random text encoder finds all texts alike, so "near" means the same here."""
    monkeypatch.setattr(module, "NEAR", 1e-4)
    latents = torch.randn(4, *family.latent_shape(), generator=torch.Generator().manual_seed(3))
    levels = np.stack([Levels({"drums": float(k != 1)}, energy=0.5).row for k in range(4)])
    triple = torch.tensor([False, False, False, True])
    write_sounds(tmp_path / FILE, latents, family.text_encoder.sentences(TEXTS), levels, triple)
    return Sounds(tmp_path / FILE, family.latent_shape())


def direction(family: MiniFamily, text: str) -> Tensor:
    return F.normalize(family.encode_text([text]).pooled()[0], dim=-1)


def test_words_choose_and_the_seed_decides_among_equals(family: MiniFamily, sounds: Sounds) -> None:
    techno, piano = direction(family, "driving techno"), direction(family, "slow calm piano")
    assert {sounds.choose(techno, seed, beats=8) for seed in range(8)} == {2}
    chosen = [sounds.choose(piano, seed, beats=8) for seed in range(16)]
    assert set(chosen) == {0, 1}
    assert chosen == [sounds.choose(piano, seed, beats=8) for seed in range(16)]


def test_resting_parts_and_the_metre_choose_too(family: MiniFamily, sounds: Sounds) -> None:
    piano = direction(family, "slow calm piano")
    assert {sounds.choose(piano, seed, beats=8, asked=Levels({"drums": 0.0})) for seed in range(8)} == {1}
    assert {sounds.choose(piano, seed, beats=8, asked=Levels({"drums": 1.0})) for seed in range(8)} == {0}
    assert sounds.choose(piano, 0, beats=6) == 3
    assert sounds.latents(3).shape == family.latent_shape(384)
    assert sounds.choose(torch.ones(3), 0, beats=8) is None, "a vector of another text encoder"


def test_another_sound_than_before_has_its_drums(
    family: MiniFamily, sounds: Sounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    piano, techno = direction(family, "slow calm piano"), direction(family, "driving techno")
    apart = 1 - float(piano @ techno)
    assert apart < 0.1, "a random text encoder finds all texts alike"
    monkeypatch.setattr(module, "NEAR", apart / 2)
    assert sounds.choose(piano, 0, beats=8, besides=(0,), like=0) is None, "without drums, and other words"
    assert sounds.choose(techno, 0, beats=8, besides=(2,)) is None
    assert sounds.choose(techno, 0, beats=8, besides=()) == 2
    assert {sounds.choose(piano, seed, beats=8, besides=()) for seed in range(8)} == {0, 1}
    assert sounds.choose(piano, 0, beats=6, besides=(3,)) is None
    monkeypatch.setattr(module, "NEAR", 2 * apart)
    assert {sounds.choose(piano, seed, beats=8, besides=(0,), like=0) for seed in range(8)} == {2}, "with drums, too"
    assert {sounds.choose(piano, seed, beats=8, besides=(0,)) for seed in range(8)} == {1, 2}


def test_a_sound_in_three_is_near_to_the_words_or_none(family: MiniFamily, sounds: Sounds) -> None:
    """Few sounds are in 3/4, so the nearest may be of another style: noise alone is nearer to the words then."""
    waltz = direction(family, "vienna waltz")
    across = F.normalize(torch.randn(len(waltz), generator=torch.Generator().manual_seed(1)), dim=-1)
    across = F.normalize(across - (across @ waltz) * waltz, dim=-1)
    for likeness, found in ((0.9, 3), (0.7, None)):
        words = likeness * waltz + (1 - likeness**2) ** 0.5 * across
        assert sounds.choose(words, 0, beats=6) == found
        assert sounds.choose(words, 0, beats=8) is not None


def test_no_sound_of_the_metre_is_none(family: MiniFamily, tmp_path: Path) -> None:
    latents = torch.randn(1, *family.latent_shape())
    levels = np.stack([Levels().row])
    write_sounds(tmp_path / FILE, latents, family.text_encoder.sentences(["a"]), levels, torch.tensor([False]))
    alone = Sounds(tmp_path / FILE, family.latent_shape())
    assert alone.choose(direction(family, "a"), 0, beats=6) is None


def test_a_damaged_file_or_one_of_another_model_is_refused(family: MiniFamily, sounds: Sounds, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"{FILE}: latents.* is .4, 1024.; this model needs .4, 2048."):
        Sounds(tmp_path / FILE, (8, 16, 32))
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:-9])
    with pytest.raises(CheckpointError, match="cannot be read"):
        Sounds(tmp_path / FILE, family.latent_shape())


@pytest.mark.parametrize("name", ["latents", "latents.scale", "vectors", "levels", "beats"])
def test_a_tensor_that_is_missing_or_wrong_is_named(
    family: MiniFamily, sounds: Sounds, tmp_path: Path, name: str
) -> None:
    tensors = load_file(tmp_path / FILE)

    def refusal(changed: Tensor | None) -> str:
        rest = {key: value for key, value in tensors.items() if key != name}
        write_tensors(tmp_path / FILE, rest if changed is None else {**rest, name: changed})
        with pytest.raises(CheckpointError, match=f"{FILE}: {name} ") as caught:
            Sounds(tmp_path / FILE, family.latent_shape())
        return str(caught.value)

    own = tensors[name]
    assert "missing" in refusal(None)
    for changed in (own[:-1], own[..., None], own.flatten()[0], own[:0]):
        if name != "latents" or changed.ndim != 2:  # their number is the number of sounds
            assert "needs" in refusal(changed)
    if name == "latents":
        assert "uint8" in refusal(own.float())
    elif name != "levels":  # nan there is an unknown level
        assert "finite" in refusal(torch.full(own.shape, torch.nan))


def test_loaded_sounds_do_not_depend_on_their_file(family: MiniFamily, sounds: Sounds, tmp_path: Path) -> None:
    """An update may overwrite or shorten the file in place; a mapped file would then kill the process or lie."""
    wanted = sounds.latents(2)
    os.truncate(tmp_path / FILE, 100)
    assert torch.equal(sounds.latents(2), wanted)
    copied = pickle.loads(pickle.dumps(sounds))
    assert torch.equal(copied.latents(2), wanted)
    assert copied.identity == sounds.identity


def test_other_latents_are_another_set(family: MiniFamily, sounds: Sounds, tmp_path: Path) -> None:
    """A log replays with its own sounds alone."""
    tensors = load_file(tmp_path / FILE)
    write_tensors(tmp_path / FILE, {**tensors, "latents": tensors["latents"].flip(0)})
    assert Sounds(tmp_path / FILE, family.latent_shape()).identity != sounds.identity


def test_a_link_to_a_missing_file_is_refused(family: MiniFamily, tmp_path: Path) -> None:
    family.save(tmp_path)
    shutil.copytree(MODEL_FOLDER / "tokenizer", tmp_path / "tokenizer")
    assert MiniFamily.load(tmp_path).sounds is None
    (tmp_path / FILE).symlink_to(tmp_path / "gone")
    with pytest.raises(CheckpointError, match=f"holds no {FILE}"):
        MiniFamily.load(tmp_path)


def rendered(engine: Engine, start: Keyframe, end: Keyframe | None = None, alpha: float = 0.0, **more: Any) -> Tensor:
    return engine.render(ClipRequest(ClipSpec(start, end or start, alpha), **more)).latents


def test_a_first_clip_continues_the_sound(family: MiniFamily, sounds: Sounds, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Engine(family, steps=2)
    techno, piano = Keyframe.of("driving techno"), Keyframe.of("slow calm piano", seed=5)
    alone = rendered(plain, techno)
    told = rendered(plain, techno, anew=True, recalled=sounds.latents(2))
    assert not torch.equal(alone, told)
    monkeypatch.setattr(family, "sounds", sounds)
    engine = Engine(family, steps=2)
    assert torch.equal(rendered(engine, techno), told)
    assert torch.equal(rendered(engine, Keyframe.of("driving techno", seed_image="none")), alone)
    # Other sounds come first: a previous clip, an own sound, a seed image.
    before = torch.randn(family.latent_shape())
    assert torch.equal(rendered(engine, techno, previous=before), rendered(plain, techno, previous=before))
    recalled = {"anew": True, "recalled": before}
    assert torch.equal(rendered(engine, techno, **recalled), rendered(plain, techno, **recalled))
    assert torch.equal(rendered(engine, techno, seed_image=before), rendered(plain, techno, seed_image=before))
    # At a journey's stop the sound comes first, at all times; without one for the words the clip goes on.
    opened = rendered(plain, techno, previous=before, anew=True, recalled=sounds.latents(2))
    for more in ({}, {**recalled, "late": 0.5}):
        assert torch.equal(rendered(engine, techno, previous=before, opens=True, **more), opened)
    silent = Keyframe.of("driving techno", seed_image="none")
    goes_on = rendered(engine, silent, previous=before, opens=True, **recalled, late=0.5)
    assert torch.equal(goes_on, rendered(plain, silent, previous=before, **recalled, late=0.5))
    origin = torch.zeros(family.latent_shape())
    assert torch.equal(rendered(engine, techno, previous=before, opens=True, origin=origin), opened)
    clips = [engine.render(ClipRequest(ClipSpec(techno, techno, 0.0), previous=p)) for p in (None, before)]
    assert clips[0].opening is not None
    assert torch.equal(clips[0].opening.latents, sounds.latents(2))
    assert clips[0].opening.sounds == (2,)
    assert clips[1].opening is None
    # Between two keyframes the sounds are mixed.
    chosen = sounds.choose(direction(family, "slow calm piano"), 5, beats=8)
    assert chosen is not None
    mixed = torch.lerp(sounds.latents(2), sounds.latents(chosen), 0.25)
    wanted = rendered(plain, techno, piano, 0.25, anew=True, recalled=mixed)
    torch.testing.assert_close(rendered(engine, techno, piano, 0.25), wanted)


@pytest.mark.parametrize("beats", [8, 6])
def test_another_sound_becomes_the_origin(
    family: MiniFamily, sounds: Sounds, monkeypatch: pytest.MonkeyPatch, beats: int
) -> None:
    words, number, frames = ("driving techno", 2, None) if beats == 8 else ("vienna waltz", 3, 384)
    plain, start = Engine(family, steps=4), Keyframe.of(words)
    before, origin = torch.randn(2, *family.latent_shape(frames), generator=torch.Generator().manual_seed(5))
    more: dict[str, Any] = {"previous": before, "origin": origin, "frames": frames}
    stays = rendered(plain, start, **more)
    with monkeypatch.context() as changed:
        changed.setattr(slots, "NEAR_NOISE", slots.EVOLVING)
        wanted = rendered(plain, start, **more | {"origin": sounds.latents(number)})
    assert not torch.equal(stays, wanted)
    assert not torch.equal(rendered(plain, start, **more | {"origin": sounds.latents(number)}), wanted), "three steps"
    monkeypatch.setattr(family, "sounds", sounds)
    engine = Engine(family, steps=4)
    clip = engine.render(ClipRequest(ClipSpec(start, start, 0.0), evolves=Evolution(), **more))
    assert torch.equal(clip.latents, wanted)
    assert clip.opening is not None
    assert (clip.opening.sounds, clip.opening.evolved) == ((number,), True)
    # The sound is that of the first of two keyframes with the same words, whatever the seed of the other is.
    second = Keyframe.of(words, seed=9)
    clip = engine.render(ClipRequest(ClipSpec(start, second, 0.25), evolves=Evolution(), **more))
    assert clip.opening is not None
    assert clip.opening.sounds == (number,)
    treble = treble_db(family.decode_mel(sounds.latents(number)[None])[0])
    for limits, evolves in (((-1.0, 1.0), True), ((1.0, 2.0), False), ((-2.0, -1.0), False)):
        limited = Evolution(treble_db=(treble + limits[0], treble + limits[1]))
        assert torch.equal(rendered(engine, start, evolves=limited, **more), wanted if evolves else stays), limits
    # It stays where there is no other sound, in noise alone, and where the clip does not go on from one before.
    assert torch.equal(rendered(engine, start, evolves=Evolution((0, 1, 2, 3)), **more), stays)
    silent = Keyframe.of(words, seed_image="none")
    assert torch.equal(rendered(engine, silent, evolves=Evolution(), **more), stays)
    for other in ({"seed_image": before}, {"anew": True, "recalled": before, "late": 0.8}):
        told = rendered(plain, start, **{**more, **other})
        assert torch.equal(rendered(engine, start, evolves=Evolution(), **{**more, **other}), told)


def test_no_origin_evolves_where_the_metre_changes(
    family: MiniFamily, sounds: Sounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clip becomes the origin of its metre (``Past``), so a sound in it would be forgotten with the next clip."""
    plain, start = Engine(family, steps=4), Keyframe.of("vienna waltz")
    before = torch.randn(family.latent_shape(), generator=torch.Generator().manual_seed(5))
    more: dict[str, Any] = {"previous": before, "origin": before, "frames": 384}
    stays = rendered(plain, start, **more)
    monkeypatch.setattr(family, "sounds", sounds)
    clip = Engine(family, steps=4).render(ClipRequest(ClipSpec(start, start, 0.0), evolves=Evolution(), **more))
    assert clip.opening is None
    assert torch.equal(clip.latents, stays)


def test_noise_alone_has_no_sound(family: MiniFamily, sounds: Sounds, monkeypatch: pytest.MonkeyPatch) -> None:
    """``none`` counts where a keyframe has a share in the clip, and as the default of the configuration too."""
    plain, techno, silent = Engine(family, steps=2), Keyframe.of("driving techno"), Keyframe.of("b", seed_image="none")
    alone = [rendered(plain, techno, silent, alpha) for alpha in (0.0, 0.5, 1.0)]
    told = rendered(plain, techno, anew=True, recalled=sounds.latents(2))
    monkeypatch.setattr(family, "sounds", sounds)
    engine = Engine(family, steps=2)
    assert torch.equal(rendered(engine, techno, silent, 0.0), told), "the other keyframe has no share yet"
    assert torch.equal(rendered(engine, techno, silent, 0.5), alone[1])
    assert torch.equal(rendered(engine, techno, silent, 1.0), alone[2])
    monkeypatch.setattr(family, "defaults", replace(family.defaults, seed_image="none"))
    assert torch.equal(rendered(engine, techno), alone[0]), 'generator.seed_image = "none"'
    monkeypatch.setattr(family, "defaults", replace(family.defaults, seed_image="auto"))
    assert torch.equal(rendered(engine, techno), told), "auto without a library"


def test_the_released_model_has_sounds_for_every_metre() -> None:
    family = MiniFamily.load(MODEL_FOLDER)
    assert isinstance(family.sounds, Sounds)
    for text, beats in (("ambient piano", 8), ("techno beat", 8), ("bossa nova", 8), ("vienna waltz", 6), ("waltz", 6)):
        index = family.sounds.choose(direction(family, text), 1, beats=beats)
        assert index is not None, text
        assert family.sounds.latents(index).shape == family.latent_shape(64 * beats)
    assert family.sounds.choose(direction(family, "techno beat"), 1, beats=6) is None


@pytest.mark.parametrize("part", ["bass", "drums"])
def test_parts_that_rest_are_removed_from_the_sound(part: str) -> None:
    """A sound of a song without bass may have a low guitar, which the clip would make a bass of."""
    family = MiniFamily.load()
    assert family.sounds is not None
    family.ear = None  # it might choose another sound
    engine, words = Engine(family, steps=1), "rock"

    def opening(**parts: float) -> Tensor | None:
        start = Keyframe.of(words, parts=parts or None)
        opened = engine.render(ClipRequest(ClipSpec(start, start, 0.0))).opening
        return None if opened is None else opened.latents

    rests, plays = (
        family.sounds.choose(direction(family, words), 0, beats=8, asked=asked) for asked in (Levels({part: 0.0}), None)
    )
    assert rests is not None
    assert plays is not None
    mel = family.decode_mel(family.sounds.latents(rests)[None])[0]
    torch.testing.assert_close(opening(**{part: 0.0}), without(family, mel, {part}))
    torch.testing.assert_close(opening(), family.sounds.latents(plays))
    # So they are from a later origin.
    start = Keyframe.of(words, parts={part: 0.0})
    before = torch.zeros(family.latent_shape())
    request = ClipRequest(ClipSpec(start, start, 0.0), previous=before, origin=before, evolves=Evolution((rests,)))
    later = engine.render(request).opening
    assert later is not None
    assert later.sounds != (rests,)
    mel = family.decode_mel(family.sounds.latents(later.sounds[0])[None])[0]
    torch.testing.assert_close(later.latents, without(family, mel, {part}))


def test_a_stream_of_the_released_model_evolves_within_its_style() -> None:
    family = MiniFamily.load()
    engine, styles = Engine(family, steps=2), load_file(MODEL_FOLDER / READER)["style"]
    start = Keyframe.of("rock")

    def play() -> tuple[list[Tensor], list[tuple[int, ...]]]:
        past, clips, heard = None, [], []
        for number in range(2 * EVOLVES + 1):
            asked = ClipSpec(start, start, 0.0, index=number)
            more = {} if past is None else past.continuation(asked, family)
            clip = engine.render(ClipRequest(asked, **more))
            past = Past.after(past, asked, clip.latents, clip.mel, family, opening=clip.opening)
            clips.append(clip.latents)
            heard += [] if clip.opening is None else [clip.opening.sounds]
        return clips, heard

    (clips, heard), (again, same) = play(), play()
    assert len(heard) == 3, "the first sound, and another one each fourth clip"
    assert all(before != after for before, after in pairwise(heard))
    assert len({int(styles[number]) for numbers in heard for number in numbers}) == 1
    assert heard == same
    assert all(torch.equal(one, other) for one, other in zip(clips, again, strict=True)), "equal logs, equal samples"
