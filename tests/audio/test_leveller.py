from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riffstream.audio.limiter import TruePeakLimiter
from riffstream.audio.loudness import LoudnessLeveller, LoudnessMeter
from riffstream.errors import ParameterError
from tests.audio.signals import RATE, noise, pieces, stream, tone


def drums(seconds: float, level: float, seed: int = 0) -> np.ndarray:
    """Noise bursts twice a second: a high ratio of peaks to loudness."""
    n = round(seconds * RATE)
    envelope = np.exp(-(np.arange(n) % (RATE // 2)) / 2_000)[:, None]
    return (noise(n, level=level, seed=seed) * (0.02 + envelope)).astype(np.float32)


def true_peak_db(pcm: np.ndarray) -> float:
    meter = LoudnessMeter(RATE)
    meter.push(pcm)
    return meter.true_peak


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("level", [0.3, 2.0, 10.0])
def test_limiter_holds_the_ceiling_and_the_length(level: float, seed: int) -> None:
    limiter, wave = TruePeakLimiter(RATE), drums(3, level, seed)
    out = stream(limiter.push, limiter.flush, wave, [4_800])
    assert out.shape == wave.shape
    assert true_peak_db(out) <= -1.0


def test_limiter_holds_the_ceiling_on_single_clicks_and_on_the_first_sample() -> None:
    wave = np.zeros((RATE, 2), np.float32)
    wave[[0, 9, 20_000, 20_003, 47_999]] = [[3, 0], [-4, 4], [9, 9], [-9, 2], [5, -5]]
    limiter = TruePeakLimiter(RATE)
    assert true_peak_db(stream(limiter.push, limiter.flush, wave, [1_000])) <= -1.0


def test_limiter_leaves_quiet_sound_untouched_and_recovers_after_a_peak() -> None:
    wave = noise(RATE, level=0.1)
    limiter = TruePeakLimiter(RATE)
    np.testing.assert_array_equal(stream(limiter.push, limiter.flush, wave, [999]), wave)
    wave[5_000] = 4
    out = stream(limiter.push, limiter.flush, wave, [999])
    np.testing.assert_array_equal(out[:4_500], wave[:4_500])
    assert np.abs(out[5_100:5_200]).max() < 0.7 * np.abs(wave[5_100:5_200]).max()
    np.testing.assert_allclose(out[-1_000:], wave[-1_000:], rtol=0.01)


def test_limiter_gain_moves_smoothly() -> None:
    wave = np.full((RATE, 2), 0.1, np.float32)
    wave[24_000] = 6
    limiter = TruePeakLimiter(RATE)
    gain = stream(limiter.push, limiter.flush, wave, [4_800])[:, 0] / wave[:, 0]
    assert gain.min() < 0.15
    assert np.abs(np.diff(gain)).max() < 1.1 / 240  # from 1 to 0.15 over the look-ahead; a clipper would jump


def test_limiter_says_how_much_it_takes_away() -> None:
    limiter = TruePeakLimiter(RATE)
    limiter.push(tone(997, 5, 1))
    assert limiter.reduction_db == pytest.approx(6.15, abs=0.1)


@pytest.mark.parametrize(("level", "expected"), [(-30, 12.0), (-20, 4.0), (-8, -8.0)])
def test_leveller_reaches_the_target_and_no_boost_beyond_its_limit(level: float, expected: float) -> None:
    leveller = LoudnessLeveller(RATE, target=-16)
    out = leveller.push(tone(1_000, level, 15))
    assert leveller.gain_db == pytest.approx(expected, abs=0.15)
    meter = LoudnessMeter(RATE)
    meter.push(out[-4 * RATE :])
    assert meter.integrated == pytest.approx(level + expected, abs=0.2)


def test_leveller_gain_is_limited_in_rate() -> None:
    leveller = LoudnessLeveller(RATE, rate_db_s=0.5)
    leveller.push(tone(1_000, -16, 10))
    before = leveller.gain_db
    leveller.push(tone(1_000, -8, 4))
    assert before == pytest.approx(0, abs=0.1)
    assert -2.1 <= leveller.gain_db - before <= -1.5


def test_leveller_holds_its_gain_through_silence_and_breaks() -> None:
    leveller = LoudnessLeveller(RATE)
    leveller.push(tone(1_000, -22, 12))
    settled = leveller.gain_db
    for quiet in (np.zeros((20 * RATE, 2), np.float32), tone(1_000, -60, 20)):
        leveller.push(quiet)
        # The 400 ms across the edge may still move it by a step.
        assert leveller.gain_db == pytest.approx(settled, abs=0.3)


def test_prime_starts_at_the_right_gain() -> None:
    leveller = LoudnessLeveller(RATE)
    wave = tone(1_000, -26, 3)
    leveller.prime(wave)
    out = leveller.push(wave)
    assert np.abs(out[:RATE]).max() == pytest.approx(10 ** (-16 / 20), rel=0.02)
    leveller.reset()
    leveller.prime(np.zeros((RATE, 2), np.float32))
    assert leveller.gain_db == 0


def test_levelled_drums_stay_under_the_ceiling() -> None:
    leveller = LoudnessLeveller(RATE, target=-10, max_boost_db=30)
    out = stream(leveller.push, leveller.flush, drums(8, 0.5), [4_800])
    assert true_peak_db(out) <= -1.0


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(1, 9_000), max_size=4), st.sampled_from([0.02, 0.3, 3.0]))
def test_any_chunking_gives_the_same_samples(sizes: list[int], level: float) -> None:
    wave = drums(1.2, level)
    whole, cut = LoudnessLeveller(RATE), LoudnessLeveller(RATE)
    np.testing.assert_array_equal(
        stream(cut.push, cut.flush, wave, [*sizes, 3_000]), stream(whole.push, whole.flush, wave, [len(wave)])
    )


def test_one_sample_at_a_time_gives_the_same_samples() -> None:
    wave = drums(0.1, 3.0)
    whole, cut = LoudnessLeveller(RATE), LoudnessLeveller(RATE)
    np.testing.assert_array_equal(
        stream(cut.push, cut.flush, wave, [1]), stream(whole.push, whole.flush, wave, [len(wave)])
    )


def test_output_lags_by_the_latency_and_no_more_than_a_step() -> None:
    leveller = LoudnessLeveller(RATE)
    given_samples = returned = 0
    for block in pieces(drums(1, 0.3), [480]):
        given_samples += len(block)
        returned += len(leveller.push(block))
        assert given_samples - leveller.latency - 16 <= returned <= given_samples


def test_reset_and_flush_leave_it_as_new() -> None:
    leveller, wave = LoudnessLeveller(RATE), drums(1, 1.0)
    first = stream(leveller.push, leveller.flush, wave, [5_000])
    np.testing.assert_array_equal(stream(leveller.push, leveller.flush, wave, [5_000]), first)
    leveller.push(wave)
    leveller.reset()
    assert leveller.loudness == -math.inf
    np.testing.assert_array_equal(stream(leveller.push, leveller.flush, wave, [5_000]), first)


def test_a_nan_from_the_generator_becomes_silence() -> None:
    leveller, wave = LoudnessLeveller(RATE), tone(1_000, -16, 1)
    wave[1_000:1_100] = np.nan
    out = stream(leveller.push, leveller.flush, wave, [4_800])
    assert np.isfinite(out).all()
    assert np.abs(out[-1_000:]).max() > 0.1


@pytest.mark.parametrize(("field", "value"), [("target", 0), ("rate_db_s", 0), ("max_boost_db", 99), ("ceiling_db", 1)])
def test_bad_settings_are_named(field: str, value: float) -> None:
    with pytest.raises(ParameterError, match=field):
        LoudnessLeveller(RATE, **{field: value})
