"""The key of music whose key is known, and of sounds that have none."""

from __future__ import annotations

import numpy as np
import pytest

from riffstream.audio.key import find_key, pitch_classes
from tests.audio.signals import RATE, bursts, cadence, clicks, noise, tone


@pytest.mark.parametrize("drums", [0.0, 2.0])
@pytest.mark.parametrize("minor", [False, True])
@pytest.mark.parametrize("key", range(-5, 7))
def test_every_key_is_found(key: int, minor: bool, drums: float) -> None:
    # C minor has the notes of E flat major, three semitones above C.
    expected = (key + (3 if minor else 0) + 5) % 12 - 5
    found = find_key(cadence(key, minor=minor, drums=drums), RATE)
    assert found is not None
    assert found.above == expected
    assert found.clear
    assert found.doubt is None


def test_an_unclear_key_is_the_nearest_one_and_says_so() -> None:
    chromatic = np.concatenate([tone(220 * 2 ** (n / 12), -12, 0.3) for n in range(24)]).T
    found = find_key(chromatic, RATE)
    assert found is not None
    assert not found.clear
    assert "key unclear" in (found.doubt or "")


def test_a_recording_has_its_own_tuning() -> None:
    wave = cadence(2)
    place = np.arange(0, wave.shape[1], 2 ** (0.35 / 12))  # a third of a semitone above 440 Hz
    high = np.stack([np.interp(place, np.arange(wave.shape[1]), channel) for channel in wave]).astype(np.float32)
    found = find_key(high, RATE)
    assert found is not None
    assert found.above == 2


def test_what_has_no_notes_has_no_key() -> None:
    for wave in (clicks(120, 6), noise(5 * RATE).T, tone(440, -6, 4).T, np.zeros((2, RATE), np.float32)):
        assert find_key(wave, RATE) is None


@pytest.mark.parametrize("seconds", [4, 8])
def test_drum_loops_have_no_key(seconds: int) -> None:
    """A sample of a drum, the same at each eighth: its resonances are peaks, but no notes."""
    for seed in range(8):
        hit = np.random.default_rng(seed).normal(0, 1, 2400) * np.exp(-np.arange(2400) / 400)
        wave = np.tile(np.pad(0.3 * hit, (0, RATE // 4 - len(hit))), 4 * seconds).astype(np.float32)
        assert find_key(np.stack([wave, wave]), RATE) is None, seed
        varied = bursts(np.arange(0.1, seconds, 0.25), seconds, seed=seed)
        assert find_key(varied, RATE) is None, seed


@pytest.mark.parametrize("seed", [2, 3])
def test_the_key_of_gongs_is_not_clear(seed: int) -> None:
    """Two gongs by turns, with narrow peaks that are not in tune, as those of cymbals and tablas."""
    rng = np.random.default_rng(seed)
    at = np.arange(2 * RATE)[:, None] / RATE
    hits = []
    for _ in range(2):
        level, decay_s, phase = rng.random(400), rng.uniform(0.2, 1.5, 400), rng.uniform(0, 6, 400)
        hertz = np.exp(rng.uniform(np.log(60), np.log(2000), 400))
        hits.append((level * np.exp(-at / decay_s) * np.sin(2 * np.pi * hertz * at + phase)).sum(1))
    wave = np.zeros(10 * RATE)
    for k in range(16):
        wave[k * RATE // 2 :][: 2 * RATE] += hits[k % 2]
    found = find_key(np.stack([wave, wave]).astype(np.float32), RATE)
    assert found is None or found.doubt


def test_what_fits_c_major_stays() -> None:
    """C, D, E, G, A: as much C major as F or G major."""
    scale = [tone(261.63 * 2 ** (n / 12), -12, 0.4) for n in (0, 2, 4, 7, 9, 12, 9, 7, 4, 2, 0)]
    found = find_key(np.concatenate(scale).T, RATE)
    assert found is not None
    assert found.above == 0


@pytest.mark.parametrize("rate", [22_050, 48_000])
def test_pitch_classes_are_those_of_the_notes(rate: int) -> None:
    chord = sum(tone(hz, -20, 2, rate=rate) for hz in (261.63, 329.63, 392.0)).T
    heard = pitch_classes(chord, rate)
    assert heard.sum() == pytest.approx(1)
    assert heard[[0, 4, 7]].min() > 0.25
    assert pitch_classes(np.zeros((1, 100), np.float32), rate).sum() == 0
