"""Lanes: ramps are continuous, exact on the sample clock, and independent of the blocks."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from riffstream.station.lanes import Lane

RAMPS = st.lists(st.tuples(st.integers(0, 3000), st.floats(-2, 2), st.integers(1, 2000)), max_size=6)


def lane(ramps: list[tuple[int, float, int]]) -> Lane:
    made = Lane(0.0)
    for pos, goal, length in sorted(ramps, key=lambda each: each[0]):
        made.move(pos, goal, length)
    return made


def values(made: Lane, start: int, n: int) -> np.ndarray:
    return np.broadcast_to(np.asarray(made.span(start, n), np.float32), n)


@given(RAMPS, st.lists(st.integers(1, 700), min_size=1, max_size=12))
def test_any_cut_gives_the_same_values(ramps: list[tuple[int, float, int]], cuts: list[int]) -> None:
    made = lane(ramps)
    parts, start = [], 0
    for n in cuts:
        parts.append(values(made, start, n))
        start += n
    assert np.allclose(np.concatenate(parts), values(made, 0, start), rtol=0, atol=1e-9)


@given(RAMPS)
def test_a_lane_never_jumps(ramps: list[tuple[int, float, int]]) -> None:
    made = lane(ramps)
    steepest = max((4 / length for _, _, length in ramps), default=0.0)
    assert np.abs(np.diff(values(made, 0, 6000))).max() <= steepest + 1e-5


@given(RAMPS, st.integers(0, 5000))
def test_quiet_is_the_truth(ramps: list[tuple[int, float, int]], pos: int) -> None:
    made = lane(ramps)
    until = made.quiet(pos)
    stop = 6000 if math.isinf(until) else int(until)
    assert (values(made, pos, max(0, stop - pos)) == 0).all()


def test_a_ramp_is_linear_and_a_newer_one_begins_where_it_is() -> None:
    made = Lane(1.0)
    made.move(100, 0.0, 100)
    made.move(150, 1.0, 50)
    assert [made.at(pos) for pos in (0, 100, 125, 150, 175, 200, 999)] == [1.0, 1.0, 0.75, 0.5, 0.75, 1.0, 1.0]
    made.forget(150)
    assert made.at(175) == 0.75
