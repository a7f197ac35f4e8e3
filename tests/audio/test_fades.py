from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from riffstream.audio.fades import Crossfade, correlated, correlation, crossfade, equal_power, linear
from riffstream.errors import ParameterError
from tests.audio.signals import noise, pieces, tone

PLACES = np.linspace(0, 1, 101)


def test_equal_power_squares_sum_to_one_and_linear_sums_to_one() -> None:
    out, into = equal_power(PLACES)
    np.testing.assert_allclose(out**2 + into**2, 1)
    out, into = linear(PLACES)
    np.testing.assert_allclose(out + into, 1)


@given(st.floats(-0.5, 1))
def test_correlated_keeps_the_power_and_starts_and_ends_clean(r: float) -> None:
    out, into = correlated(PLACES, r)
    np.testing.assert_allclose(out**2 + into**2 + 2 * r * out * into, 1, atol=1e-12)
    np.testing.assert_allclose([out[0], into[0], out[-1], into[-1]], [1, 0, 0, 1], atol=1e-12)
    assert (np.diff(out) <= 1e-12).all() or r < 0  # only cancelling sounds need a boost on the way


def test_correlated_is_equal_power_at_zero_and_sums_to_one_at_one() -> None:
    np.testing.assert_allclose(correlated(PLACES, 0.0), equal_power(PLACES))
    np.testing.assert_allclose(sum(correlated(PLACES, 1.0)), 1)
    assert max(gain.max() for gain in correlated(PLACES, -1.0)) < 1.5


def test_correlation_of_same_opposite_unrelated_and_silent_blocks() -> None:
    a = noise(48_000)
    assert correlation(a, a) == pytest.approx(1)
    assert correlation(a, -0.1 * a) == pytest.approx(-1)
    assert abs(correlation(a, noise(48_000, seed=1))) < 0.02
    assert correlation(a, np.zeros_like(a)) == 0


def test_auto_crossfade_keeps_the_loudness_of_half_correlated_noise() -> None:
    shared = noise(144_000)
    old, new = shared[:96_000] + noise(96_000, seed=1), shared[48_000:] + noise(96_000, seed=2)
    assert correlation(old[48_000:], new[:48_000]) == pytest.approx(0.5, abs=0.02)
    joined = crossfade(old, new, 48_000)
    assert joined.shape == (144_000, 2)
    level = np.sqrt(np.mean(joined.astype(np.float64).reshape(30, -1) ** 2, axis=1))
    assert 20 * np.log10(level.max() / level.min()) < 0.4  # an equal-power fade would bulge by 1.8 dB
    bulge = crossfade(old, new, 48_000, "equal-power")[71_000:73_000]
    assert 20 * np.log10(bulge.std() / old.std()) > 1.2


def test_auto_crossfade_of_one_sound_with_itself_changes_nothing() -> None:
    wave = tone(440, -6, 1)
    joined = crossfade(wave[:30_000], wave[20_000:], 10_000)
    np.testing.assert_allclose(joined, wave, atol=1e-6)


@given(st.lists(st.integers(1, 700), min_size=1, max_size=5), st.integers(-100, 100))
def test_crossfade_in_pieces_is_the_same_as_whole(sizes: list[int], offset: int) -> None:
    old, new, fade = noise(1_000), noise(1_000, seed=1), Crossfade(500, "auto", 0.3)
    whole = fade.mix(old, new, offset)
    parts, at = [], 0
    for block in pieces(old, sizes):
        parts.append(fade.mix(block, new[at : at + len(block)], offset + at))
        at += len(block)
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    np.testing.assert_array_equal(whole[: max(0, -offset)], old[: max(0, -offset)])
    np.testing.assert_array_equal(whole[500 - offset :], new[500 - offset :])


@pytest.mark.parametrize("offset", [500, 5_000])
def test_past_its_end_a_crossfade_is_the_new_sound(offset: int) -> None:
    old, new = noise(100), noise(100, seed=1)
    np.testing.assert_array_equal(Crossfade(500).mix(old, new, offset), new)
    np.testing.assert_array_equal(Crossfade(500).mix(old, new, -offset), old)


def test_crossfade_refuses_what_makes_no_sense() -> None:
    with pytest.raises(ParameterError, match="0 to 10"):
        crossfade(noise(10), noise(20), 11)
    with pytest.raises(ParameterError, match="curve"):
        Crossfade(10, "cubic")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="shape"):
        Crossfade(10).mix(noise(5), noise(6))
    assert len(crossfade(noise(10), noise(20), 0)) == 30
