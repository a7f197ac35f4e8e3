"""Beats of steady and of drifting recordings."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from riffstream.audio.beats import _on_sixteenths, find_beats, frame_positions
from tests.audio.signals import RATE, clicks, drifting_beats, noise, played


@pytest.mark.parametrize(("low", "high", "jitter_s"), [(100, 112, 0.008), (112, 100, 0.01), (95, 104, 0.012)])
def test_drifting_beats_are_followed(low: float, high: float, jitter_s: float) -> None:
    beats = drifting_beats(low, high, 40, jitter_s=jitter_s)
    found = find_beats(played(beats, 40)[0])
    assert found.drifts
    assert "drifts" in (found.words(RATE) or "")
    off = np.array([np.abs(found.at / RATE - beat).min() for beat in beats[1:-1]])
    assert np.quantile(off, 0.9) < 0.012, "within about a frame"
    assert found.at[-1] >= 40 * RATE - 1
    assert (np.diff(found.at) > 0).all()


@pytest.mark.parametrize("wave", [clicks(120, 40), clicks(97.3, 40), noise(20 * RATE).T, clicks(100, 3)])
def test_steady_beats_and_noise_have_one_tempo(wave: np.ndarray) -> None:
    found = find_beats(wave.astype(np.float32))
    assert not found.drifts
    assert found.words(RATE) is None
    assert np.ptp(np.diff(found.at)) < 1e-6
    assert found.at[-1] >= wave.shape[1] - 1


def test_an_hour_of_beats_needs_little_memory() -> None:
    """10,000 beats, of which the last third slipped by a third of a sixteenth: no matrix of all pairs (1.6 GB)."""
    places = np.arange(10_000) * 36.0
    places[7000:] += 3.0
    tracemalloc.start()
    share = _on_sixteenths(places, 36.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert share == pytest.approx(0.7)
    assert peak < 5e6


def test_every_beat_is_divided_evenly_into_frames() -> None:
    assert frame_positions(np.array([0.0, 4.0, 10.0]), 2).tolist() == [0, 2, 4, 7, 10]
