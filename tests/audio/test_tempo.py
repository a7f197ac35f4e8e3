"""Tempo and first beat of recordings."""

from __future__ import annotations

import numpy as np
import pytest

from riffstream.audio.tempo import find_tempo, first_onset, rise_of_loudness, tempo_of
from tests.audio.signals import RATE, clicks


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
