"""A take's sound: frames in any portions are one stream, and the last ones wait for the next clip."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from riffstream.audio.resample import resample
from riffstream.generator.take_stream import INT16, QUIET, TakeStream, complete, reach
from riffstream.spectrogram.params import SpectrogramParams
from riffstream.spectrogram.vocoder import Vocoder

HOP = 375.0


@pytest.fixture(scope="module")
def vocoder() -> Vocoder:
    return Vocoder(SpectrogramParams.mini())


def frames(seed: int, count: int, bands: int, channels: int = 2) -> torch.Tensor:
    return torch.rand(channels, bands, count, generator=torch.Generator().manual_seed(seed))


def test_portions_of_frames_are_one_stream(vocoder: Vocoder) -> None:
    mel = frames(0, 64, vocoder.params.num_frequencies)
    stream = TakeStream(vocoder, 2)
    parts = [stream.push(part, HOP, 0.0, 0) for part in mel.split([5, 30, 1, 28], -1)]
    joined = np.concatenate([*parts, stream.flush()])
    whole = vocoder(mel, hop=HOP).numpy().T
    assert joined.dtype == np.float32
    assert joined.shape == whole.shape
    assert np.abs(joined - whole).max() < 1e-4 * np.abs(whole).max()


def test_frames_that_are_held_are_led_to_the_next_clip(vocoder: Vocoder) -> None:
    first, second = (frames(seed, 32, vocoder.params.num_frequencies) for seed in (1, 2))
    stream = TakeStream(vocoder, 2)
    joined = np.concatenate([stream.push(first, HOP, 0.0, 3), stream.push(second, HOP, 0.0, 0), stream.flush()])
    led = complete(first[..., -4:], second[..., :1])
    whole = vocoder(torch.cat([first[..., :-3], led, second], -1), hop=HOP).numpy().T
    assert joined.shape == whole.shape
    assert np.abs(joined - whole).max() < 1e-4 * np.abs(whole).max()


def test_frames_that_are_held_are_voiced_as_they_are_at_the_end(vocoder: Vocoder) -> None:
    mel = frames(3, 32, vocoder.params.num_frequencies)
    stream = TakeStream(vocoder, 2)
    joined = np.concatenate([stream.push(mel, HOP, 0.0, 3), stream.flush()])
    whole = vocoder(mel, hop=HOP).numpy().T
    assert joined.shape == whole.shape
    assert np.abs(joined - whole).max() < 1e-4 * np.abs(whole).max()


def test_images_in_mono_at_another_rate_become_stereo_at_48_khz() -> None:
    vocoder = Vocoder(SpectrogramParams())
    mel = frames(4, 40, vocoder.params.num_frequencies, channels=1) * INT16
    stream = TakeStream(vocoder, 1)
    hop = float(vocoder.params.hop())
    joined = np.concatenate([stream.push(mel[..., :17], hop, 0.0, 0), stream.push(mel[..., 17:], hop, 0.0, 0)])
    joined = np.concatenate([joined, stream.flush()])
    whole = resample(vocoder(mel, hop=hop).numpy().T / INT16, vocoder.params.sample_rate, 48_000)
    assert joined.shape == (len(whole), 2)
    assert np.array_equal(joined[:, 0], joined[:, 1])
    assert np.abs(joined[:, :1] - whole).max() < 1e-4 * np.abs(whole).max()


def test_an_attack_rises_evenly_in_decibels() -> None:
    tail, head = torch.full((1, 1, 3), 0.1), torch.full((1, 1, 1), 100.0)
    torch.testing.assert_close(complete(tail, head), torch.tensor([[[1.0, 10.0]]]))


def test_what_ends_falls_evenly() -> None:
    tail, head = torch.full((1, 1, 3), 100.0), torch.full((1, 1, 1), 0.1)
    torch.testing.assert_close(complete(tail, head), torch.tensor([[[10.0, 1.0]]]))


def test_what_is_on_its_way_or_steady_stays() -> None:
    torch.testing.assert_close(
        complete(torch.tensor([[[0.1, 5.0, 50.0]]]), torch.tensor([[[100.0]]])), torch.tensor([[[5.0, 50.0]]])
    )
    steady = torch.full((2, 4, 3), 0.7)
    torch.testing.assert_close(complete(steady, steady[..., :1]), steady[..., 1:])
    assert complete(torch.zeros(1, 1, 3), torch.zeros(1, 1, 1)).max() <= QUIET + 1e-6


def test_reach_is_half_a_window() -> None:
    assert [reach(2048, hop) for hop in (375.0, 409.1, 700.0, 1100.0)] == [2, 2, 1, 0]


def test_completing_gives_the_attack_its_slope() -> None:
    params = SpectrogramParams.mini()
    vocoder = Vocoder(params, iterations=0)
    quiet, loud = torch.full((2, 256, 64), 0.02), torch.full((2, 256, 64), 2.0)
    bare = torch.cat([quiet, loud], -1)
    done = bare.clone()
    done[..., 62:64] = complete(bare[..., 61:64], bare[..., 64:65])
    rise = [vocoder(mel, hop=375.0)[0, 375 * 62 : 375 * 64].square().mean().sqrt() for mel in (bare, done)]
    assert rise[1] > 1.5 * rise[0]  # 1.8: half of these samples lie under windows that are all quiet
