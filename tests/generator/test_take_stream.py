"""A take's sound: frames in any portions are one stream, and the last ones wait for the next clip."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from riffstream.audio.resample import resample
from riffstream.generator.joins import complete
from riffstream.generator.take_stream import INT16, TakeStream
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
