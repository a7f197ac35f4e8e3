"""A tempo that the onsets do not support is called unclear, and a clear one is not."""

from __future__ import annotations

import numpy as np
import pytest

from riffstream.audio.beats import _behind_a_jump, find_beats
from tests.audio.signals import RATE, bursts, cadence, clicks, noise, played, ramp, tone

RNG = np.random.default_rng(3)
RUBATO = 0.3 + np.cumsum(np.exp(RNG.normal(0, 0.25, 100)) * 0.5)
SLIP = np.concatenate([np.arange(0.3, 25, 0.5), np.arange(29.17, 60, 0.5)])  # a pause of 4.37 s at 120 bpm
LATE_SLIP = np.concatenate([np.arange(0.3, 45, 0.5), np.arange(49.17, 60, 0.5)])
FASTER = np.concatenate([np.arange(0.3, 30, 0.6), np.arange(30.3, 60, 60 / 140)])
SWING = np.sort(np.concatenate([np.arange(0.3, 30, 0.5), np.arange(0.3 + 1 / 3, 30, 0.5)]))


@pytest.mark.parametrize(
    "wave",
    [
        noise(20 * RATE).T,
        noise(5 * RATE, seed=1).T,
        np.zeros((2, 20 * RATE), np.float32),
        bursts(np.array([1.0]), 20),  # one click
        bursts(RUBATO, 50),
        clicks(97.3, 0.5),
        np.zeros((2, 0), np.float32),
    ],
    ids=["noise", "short noise", "silence", "one click", "rubato", "half a second", "nothing"],
)
def test_a_recording_without_a_beat_has_an_unclear_tempo(wave: np.ndarray) -> None:
    found = find_beats(wave)
    assert not found.drifts
    assert (found.doubt or "").startswith(f"tempo unclear: taken as {found.bpm:g} bpm")
    assert find_beats(wave, bpm=100).doubt is None  # the user knows it


@pytest.mark.parametrize(
    ("places", "start_s", "end_s"),
    [(SLIP, 0, 25), (LATE_SLIP, 49, 60), (FASTER, 30, 60)],
    ids=["a slip", "a late slip", "another tempo"],
)
def test_a_part_that_does_not_meet_the_beats_is_named(places: np.ndarray, start_s: float, end_s: float) -> None:
    found = find_beats(bursts(places, 60))
    assert found.unclear == pytest.approx((start_s, end_s), abs=4)
    assert "onsets there do not meet the beats" in (found.doubt or "")


@pytest.mark.parametrize(
    "wave",
    [
        clicks(97.3, 40),
        clicks(128, 4),
        np.tile(cadence(), (1, 5)),
        bursts(SWING, 30),
        bursts(np.arange(0.3, 30, 0.5), 30, np.tile([0.6, 0.15, 0.15], 20)),
        bursts(np.concatenate([np.arange(0.3, 30, 0.5), np.arange(30.3, 60, 1.0)]), 60),
        bursts(np.concatenate([np.arange(0.3, 20, 0.5), np.arange(24.3, 40, 0.5)]), 40),
        bursts(np.arange(0.3, 20, 0.5), 30),
    ],
    ids=["clicks", "two bars", "chords", "swing", "3/4", "half time", "a pause of eight beats", "silence behind"],
)
def test_a_beat_is_clear(wave: np.ndarray) -> None:
    assert find_beats(wave).doubt is None


@pytest.mark.parametrize(("low", "high"), [(80, 140), (130, 75)])
def test_a_tempo_that_leaves_the_narrow_reach_is_followed(low: float, high: float) -> None:
    places = ramp(low, high, 150)
    parts = np.interp(np.arange(2 * len(places) - 1) / 2, np.arange(len(places)), places)
    found = find_beats(bursts(parts, 150, np.tile([0.5, 0.15], len(places))))
    assert found.drifts
    off = np.array([np.abs(found.at / RATE - place).min() for place in places])
    assert np.quantile(off, 0.9) < 0.012


@pytest.mark.parametrize(("low", "high"), [(80, 160), (160, 80), (140, 80)])
@pytest.mark.parametrize("parts", [1, 4])
def test_a_steep_ramp_is_followed(low: float, high: float, parts: int) -> None:
    places = ramp(low, high, 60)
    found = find_beats(bursts(places, 60) if parts == 1 else played(places, 60, parts)[0])
    assert found.drifts
    off = np.array([np.abs(found.at / RATE - place).min() for place in places])
    assert np.quantile(off, 0.9) < 0.02
    assert abs(len(found.at) - len(places)) < 0.05 * len(places), "neither half nor twice as many beats"


@pytest.mark.parametrize(("low", "high", "seconds"), [(70, 150, 40), (60, 180, 60), (180, 60, 60), (60, 180, 30)])
def test_a_ramp_beyond_reach_is_not_called_followed_everywhere(low: float, high: float, seconds: float) -> None:
    places = ramp(low, high, seconds)
    found = find_beats(bursts(places, seconds))
    off = np.array([np.abs(found.at / RATE - place).min() for place in places])
    assert np.quantile(off, 0.95) < 0.03 or found.doubt


def test_a_jump_of_followed_beats_is_named_with_its_shorter_side() -> None:
    steady, faster = np.arange(0.3, 40, 0.5), np.arange(40, 60, 0.42)
    assert _behind_a_jump(steady) is None
    assert _behind_a_jump(ramp(80, 160, 60)) is None
    assert _behind_a_jump(np.concatenate([steady, faster])) == pytest.approx((40, 60), abs=1.0)
    assert _behind_a_jump(np.concatenate([steady[:20], steady[20] + 0.42 * np.arange(60)])) == pytest.approx(
        (0.3, 10.3), abs=1.0
    )


def test_a_drone_says_what_it_is_taken_as() -> None:
    drone = tone(220, -20, 20).T * np.linspace(0, 1, 20 * RATE, dtype=np.float32)
    assert "tempo unclear" in (find_beats(drone).doubt or "")
