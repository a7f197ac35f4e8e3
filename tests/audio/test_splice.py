from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from riffstream.audio.splice import At, BeatGrid, splice
from riffstream.errors import ParameterError
from tests.audio.signals import noise


def test_next_names_the_beat_bar_and_clip_at_or_after_a_sample() -> None:
    grid = BeatGrid(origin=1_000, samples_per_beat=24_000)
    assert grid.next(1_000, "beat") == 1_000
    assert grid.next(1_001, "beat") == 25_000
    assert grid.next(25_001, "bar") == 97_000
    assert grid.next(97_001, "clip") == 193_000
    assert grid.next(77, "asap") == 77
    assert grid.next(-100_000, "clip") == 1_000
    assert grid.beat(13_000) == 0.5


@given(
    st.floats(20, 400),
    st.integers(0, 10**10),
    st.integers(-(10**9), 10**10),
    st.sampled_from(["beat", "bar", "clip"]),
)
def test_next_is_the_earliest_place_of_the_grid(bpm: float, origin: int, sample: int, at: At) -> None:
    grid = BeatGrid(origin=origin, samples_per_beat=60 * 48_000 / bpm, beats_per_bar=3, beats_per_clip=6)
    step = {"beat": 1, "bar": 3, "clip": 6}[at]
    found = grid.next(sample, at)
    unit = round(grid.beat(found) / step)
    assert found == grid.position(unit * step)
    assert grid.position((unit - 1) * step) < sample <= found


def test_rounding_never_accumulates_at_an_odd_tempo() -> None:
    grid = BeatGrid(origin=0, samples_per_beat=60 * 48_000 / 127.3)
    assert grid.position(1_000_000) == round(1_000_000 * 60 * 48_000 / 127.3)


def test_splice_is_old_before_new_after_and_continuous_between() -> None:
    old, new = noise(1_000), noise(2_000, seed=1)
    out = splice(old, new, 600, 100)
    np.testing.assert_array_equal(out[:600], old[:600])
    np.testing.assert_array_equal(out[700:], new[700:])
    assert out.shape == new.shape
    np.testing.assert_allclose(splice(old, old, 600, 100), old, atol=1e-7)
    np.testing.assert_array_equal(splice(old, new, 600, 0)[600:], new[600:])


def test_splice_and_grid_refuse_what_does_not_fit() -> None:
    with pytest.raises(ParameterError, match="inside both"):
        splice(noise(100), noise(200), 50, 51)
    with pytest.raises(ParameterError, match="samples_per_beat"):
        BeatGrid(origin=0, samples_per_beat=0)
    with pytest.raises(ParameterError, match="asap, beat, bar or clip"):
        BeatGrid(origin=0, samples_per_beat=24_000).next(0, "phrase")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="beats_per_bar"):
        BeatGrid(origin=0, samples_per_beat=100, beats_per_bar=0)
