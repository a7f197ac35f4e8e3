"""Tempo and first beat of recordings."""

from __future__ import annotations

import numpy as np
import pytest

from riffstream.audio.key import find_key
from riffstream.audio.mono import centred
from riffstream.audio.tempo import find_tempo, first_onset, music_start, rise_of_loudness, tempo_of
from tests.audio.signals import RATE, bursts, cadence, clicks


@pytest.mark.parametrize("bpm", [88.0, 97.3, 120.0, 141.6])
def test_tempo_of_clicks_is_found(bpm: float) -> None:
    found, first = find_tempo(clicks(bpm, 25))
    assert found == pytest.approx(bpm, abs=0.4)
    beat = RATE * 60 / bpm
    off = (first - 0.3 * RATE) % beat
    assert min(off, beat - off) < 0.03 * RATE  # within 30 ms of a beat


def test_the_last_beat_of_a_long_recording_is_met_too() -> None:
    found, first = find_tempo(clicks(117.55, 180))
    beats = int(170 * 117.55 / 60)
    assert first / RATE + beats * 60 / found == pytest.approx(0.3 + beats * 60 / 117.55, abs=0.03)


@pytest.mark.parametrize("first_s", [0.0, 1.3, 4.21])
def test_the_first_beat_is_where_the_music_begins(first_s: float) -> None:
    _, first = find_tempo(clicks(93.0, 25, first_s=first_s))
    assert first / RATE == pytest.approx(first_s, abs=0.03)


def test_a_known_tempo_is_kept_and_its_first_beat_found() -> None:
    wave = clicks(100.0, 20, first_s=0.42)
    known, first = find_tempo(wave, bpm=100.0)
    assert known == 100.0
    assert first == pytest.approx(0.42 * RATE, abs=0.011 * RATE)
    slow, first = find_tempo(wave, bpm=50.0)
    assert slow == 50.0
    assert ((first / RATE - 0.42) / 0.6) % 1 == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize(("played", "tapped"), [(62.0, 124.0), (174.0, 87.0), (200.0, 100.0), (110.0, 110.0)])
def test_the_octave_is_the_one_that_people_tap(played: float, tapped: float) -> None:
    found, _ = find_tempo(clicks(played, 12))
    assert found == pytest.approx(tapped, rel=0.01)


def test_a_few_seconds_are_enough_for_a_plain_beat() -> None:
    assert find_tempo(clicks(128, 4))[0] == pytest.approx(128, rel=0.015)


@pytest.mark.parametrize("first_s", [0.0, 0.3, 2.5])
def test_music_begins_at_its_first_strong_onset(first_s: float) -> None:
    onset = first_onset(rise_of_loudness(clicks(120, 8, first_s=first_s), RATE))
    assert onset * 0.01 == pytest.approx(first_s, abs=0.011)


@pytest.mark.parametrize("wave", [np.zeros((2, 96_000)), np.ones((1, 10)), np.zeros((2, 0))])
def test_what_has_no_rhythm_gets_a_middle_tempo(wave: np.ndarray) -> None:
    rise = rise_of_loudness(wave.astype(np.float32), RATE)
    assert first_onset(rise) == 0
    assert tempo_of(rise) == 110.0
    assert find_tempo(wave.astype(np.float32)) == (110.0, 0)


@pytest.mark.parametrize("bang_s", [12.0, 22.0])
def test_a_bang_is_not_the_start_of_the_music(bang_s: float) -> None:
    wave = clicks(97.3, 25) * np.float32(0.05)
    at = round(bang_s * RATE)
    wave[:, at : at + 500] += 0.9
    assert music_start(wave, RATE) == pytest.approx(30, abs=2)
    found, first = find_tempo(wave)
    assert found == pytest.approx(97.3, abs=0.4)
    assert first / RATE == pytest.approx(0.3, abs=0.03)


def test_one_bang_in_soft_noise_is_the_start() -> None:
    assert music_start(bursts(np.array([4.0]), 12), RATE) == 400


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 96_000])
def test_the_rate_does_not_change_the_tempo(rate: int) -> None:
    """100 does not divide 11,025 and 22,050, so steps of 10 ms have one sample more or less."""
    wave = clicks(117.55, 60)
    place = np.arange(0, wave.shape[1] - 1, RATE / rate)
    other = np.stack([np.interp(place, np.arange(wave.shape[1]), channel) for channel in wave]).astype(np.float32)
    found, first = find_tempo(other, rate)
    assert found == pytest.approx(117.55, abs=0.03)
    assert first / rate == pytest.approx(0.3, abs=0.02)


def test_an_inverted_channel_hides_no_beat_and_no_key() -> None:
    wave = np.tile(cadence(2, drums=1.0), (1, 3))
    inverted = wave * np.array([[1], [-1]], np.float32)
    assert find_tempo(inverted) == find_tempo(wave)
    assert find_key(inverted, RATE) == find_key(wave, RATE)


def test_a_constant_offset_is_taken_away() -> None:
    wave = clicks(120, 3)
    assert np.abs(centred(wave + np.float32(0.3)) - centred(wave)).max() < 1e-6
