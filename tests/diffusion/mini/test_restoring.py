"""What the codec loses of a recording comes back where a clip stays near to it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from riffstream.diffusion.clip import ClipRequest
from riffstream.diffusion.engine import Engine
from riffstream.diffusion.family import Family
from riffstream.diffusion.mini.codec import mel_to_features
from riffstream.diffusion.mini.family import MiniFamily
from riffstream.diffusion.restoring import mixed, restored
from riffstream.diffusion.seed_clip import SeedClip
from riffstream.errors import ParameterError
from riffstream.journey.journey import Journey
from riffstream.models.seeds import SeedLibrary
from riffstream.spectrogram.analysis import analyse


@pytest.fixture(scope="module")
def family() -> MiniFamily:
    return MiniFamily.load(dtype=torch.float32)


@pytest.fixture(scope="module")
def recording(family: MiniFamily) -> torch.Tensor:
    """Mel amplitudes [2, M, T] of 4 s of music that no latents can hold: notes under noise that pulsates fast."""
    rate, rng = family.params.sample_rate, np.random.default_rng(3)
    at = np.arange(4 * rate) / rate
    notes = sum(0.1 * np.sin(2 * np.pi * 220 * 2 ** (step / 12) * at) for step in (0, 4, 7))
    hiss = rng.normal(0, 0.1, (2, len(at))) * (np.sin(2 * np.pi * 23 * at) > 0)
    wave = torch.from_numpy((notes + hiss).astype(np.float32))
    return analyse(wave, family.params, hop=len(at) / family.frames, frames=family.frames)


def apart(family: MiniFamily, one: torch.Tensor, other: torch.Tensor) -> float:
    """Mean difference of two clips in dB."""
    config = family.codec.config
    pair = [mel_to_features(mel[None], config)[:, 0] for mel in (one, other)]
    return float((pair[0] - pair[1]).abs().mean()) * config.span_db


def rendered(family: MiniFamily, seed: SeedClip | torch.Tensor, denoising: float, **more: object) -> torch.Tensor:
    spec = Journey.single("jazz", seed=4, denoising=denoising).clip(0)
    return Engine(family, steps=4).render(ClipRequest(spec, seed_image=seed, **more)).mel  # type: ignore[arg-type]


def test_without_denoising_a_recording_is_unchanged(family: MiniFamily, recording: torch.Tensor) -> None:
    seed = family.seed_clip(recording)
    assert apart(family, rendered(family, seed.latents, 0), recording) > 1, "the codec alone"
    assert apart(family, rendered(family, seed, 0), recording) < 0.01


def test_less_comes_back_the_further_a_clip_goes(family: MiniFamily, recording: torch.Tensor) -> None:
    seed = family.seed_clip(recording)
    added = [
        apart(family, rendered(family, seed, amount), rendered(family, seed.latents, amount))
        for amount in (0, 0.3, 0.6, 1.0)
    ]
    assert added == sorted(added, reverse=True)
    assert added[-1] == 0, "other music gets nothing"


def test_a_kept_region_is_the_recording(family: MiniFamily, recording: torch.Tensor) -> None:
    made = rendered(family, family.seed_clip(recording), 1.0, mask="right_half")
    away = 5 * 16  # decoder and share look across the border
    left = slice(0, recording.shape[-1] // 2 - away)
    assert apart(family, made[..., left], recording[..., left]) < 0.01
    right = slice(recording.shape[-1] // 2, None)
    assert apart(family, made[..., right], recording[..., right]) > 3


def test_a_part_of_a_clip_is_cut_from_the_whole(family: MiniFamily, recording: torch.Tensor) -> None:
    seed = family.seed_clip(recording)
    whole = rendered(family, seed, 0.2)
    assert apart(family, rendered(family, seed, 0.2, span=(128, 300)), whole[..., 128:300]) < 0.5
    torch.testing.assert_close(rendered(family, seed, 0, span=(128, 300)), recording[..., 128:300], atol=0.1, rtol=0.01)


def test_pictures_and_files_come_back_too(family: MiniFamily, recording: torch.Tensor) -> None:
    picture = family.decode_image(family.encode_mel(recording[None]))[0]
    picture[:, 100:110] = 40  # a bar that no latents hold
    shown = family.picture_clip(picture)
    torch.testing.assert_close(shown.latents, family.encode_image(picture)[0])
    assert shown.sound is not None
    bare = rendered(family, shown.latents, 0)
    assert apart(family, rendered(family, picture, 0), bare) > 0.5  # type: ignore[arg-type]


def test_seed_clips_are_cut_repeated_turned_and_mixed_as_a_whole(family: MiniFamily, recording: torch.Tensor) -> None:
    seed = family.seed_clip(recording)
    assert seed.sound is not None
    for width in (8, 24, 32, 48):
        fitted = seed.fitted(width)
        assert fitted.sound is not None
        assert fitted.latents.shape[-1] * 16 == fitted.sound.shape[-1] == 16 * width
        assert torch.equal(fitted.sound[..., :128], seed.sound[..., :128])
    turned = seed.rolled(-4)
    assert turned.sound is not None
    assert torch.equal(turned.latents[..., 0], seed.latents[..., 4])
    assert torch.equal(turned.sound[..., 0], seed.sound[..., 64])
    mix = mixed(family, seed, turned, 0.25)
    assert mix.sound is not None
    levels = [sound.float().clamp_min(0.03).log10() for sound in (seed.sound, turned.sound)]
    wanted = 10 ** (0.75 * levels[0] + 0.25 * levels[1])
    torch.testing.assert_close(mix.sound.float(), wanted, atol=1e-2, rtol=1e-2)
    bare = SeedClip(seed.latents)
    assert mixed(family, bare, bare, 0.5).sound is None
    assert SeedClip(seed.latents).fitted(8).rolled(1).sound is None


def test_mono_silence_and_a_mono_recording_stay_finite(family: MiniFamily, recording: torch.Tensor) -> None:
    for mel in (torch.zeros(2, 256, 512), recording[:1], 1e6 * recording):
        seed = family.seed_clip(mel)
        for amount in (0, 0.4):
            made = rendered(family, seed, amount)
            assert bool(torch.isfinite(made).all())
            assert float(made.min()) >= 0
    assert float(rendered(family, family.seed_clip(torch.zeros(2, 256, 512)), 0).max()) == 0


def test_the_parts_of_a_recording_join_without_a_loss(family: MiniFamily, recording: torch.Tensor) -> None:
    """The decoder sees the end of the clip before, in both decodings."""
    loop = family.seed_clip(recording.roll(100, -1))
    before = family.encode_mel(recording.roll(-40, -1)[None])[0]
    joined = rendered(family, loop, 0, previous=before)
    assert apart(family, joined, recording.roll(100, -1)) < 0.01


def test_latents_alone_change_nothing(family: MiniFamily) -> None:
    mel, latents = torch.rand(2, 256, 512), torch.zeros(family.latent_shape())
    assert restored(family, mel, SeedClip(latents), latents, None, (0, 32)) is mel


def test_half_the_distance_is_half_the_change(family: MiniFamily) -> None:
    """Of the whole way to other music, measured in latents; without the map half the distance is a fifth of it."""
    library = SeedLibrary()
    ways = []
    for number, name in enumerate(("techno", "solo_piano", "bossa_nova", "hip_hop")):
        seed = SeedClip(library.latents(name))

        def gone(denoising: float, seed: SeedClip = seed, number: int = number) -> float:
            spec = Journey.single("church organ", seed=number, denoising=denoising).clip(0)
            made = Engine(family).render(ClipRequest(spec, seed_image=seed)).latents
            return float((made - seed.latents).square().mean().sqrt())

        ways.append([gone(amount) for amount in (0.0, 0.25, 0.5, 0.75, 1.0)])
    way = np.mean(ways, 0) / np.mean(ways, 0)[-1]
    assert way[0] < 1e-3
    assert list(way) == sorted(way)
    assert 0.35 < way[2] < 0.75, way


def test_the_map_of_distances_is_even_and_keeps_its_ends(family: MiniFamily) -> None:
    times = [family.start_time(place / 200) for place in range(201)]
    assert times == sorted(set(times))
    assert (times[0], family.start_time(0.875), times[-1]) == (0.0, 0.875, 1.0)


def test_distances_and_times_are_inverse(family: MiniFamily) -> None:
    for place in range(21):
        assert family.start_time(family.distance(place / 20)) == pytest.approx(place / 20, abs=1e-12)


def test_a_mix_of_a_recording_and_a_loop_begins_at_the_recording(family: MiniFamily, recording: torch.Tensor) -> None:
    class Source:
        def load(self, name: str, family: Family) -> SeedClip | torch.Tensor:
            return family.seed_clip(recording) if name == "recording" else SeedLibrary().latents("hip_hop")

    spec = Journey.single("jazz", guidance=1, denoising=0).clip(0)
    ends = [replace(spec.start, seed_image=name) for name in ("recording", "loop")]
    engine = Engine(family, seeds=Source())

    def way(alpha: float) -> torch.Tensor:
        return engine.render(ClipRequest(replace(spec, start=ends[0], end=ends[1], alpha=alpha))).mel

    assert apart(family, way(0), recording) < 0.01
    assert apart(family, way(0.001), recording) < 0.1
    assert apart(family, way(0.5), recording) > 3


@pytest.mark.parametrize("shape", [(1, 256, 512), (2, 255, 512), (2, 256, 500)])
def test_a_sound_of_another_size_is_refused(family: MiniFamily, shape: tuple[int, ...]) -> None:
    seed = SeedClip(torch.zeros(family.latent_shape()), torch.zeros(shape).half())
    with pytest.raises(ParameterError, match="seed_image is 'sound"):
        Engine(family).submit(ClipRequest(Journey.single("jazz").clip(0), seed_image=seed))


def test_a_performer_keeps_rests_at_half_the_strength(family: MiniFamily, recording: torch.Tensor) -> None:
    """Half a loop of music and half of silence: the clip of a live input has the same, at about the same level."""
    half = recording.clone()
    half[..., 256:] = 0
    made = rendered(family, family.seed_clip(half), family.distance(0.5))
    played, rest = slice(0, 240), slice(272, 512)
    places = ((half, played), (made, played), (made, rest))
    given, kept, silent = (10 * float((mel[..., span].square().mean() + 1e-9).log10()) for mel, span in places)
    assert kept == pytest.approx(given, abs=3)
    assert silent < kept - 25
