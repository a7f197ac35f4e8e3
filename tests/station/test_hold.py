"""Holding repeats the last bar on its beat, without a click, and returns to the stream where it is by then."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from riffstream.station.hold import FADE, Hold

BAR = 4800


def music(n: int) -> np.ndarray:
    count = np.arange(n)
    wave = 0.5 * np.sin(2 * np.pi * count / 480) + 0.2 * np.sin(2 * np.pi * count / 97)
    return np.stack([wave, -wave, wave / 2, wave / 3], axis=1).astype(np.float32)


def play(pcm: np.ndarray, turns: list[tuple[int, int]], cuts: list[int]) -> np.ndarray:
    hold, parts, start, at = Hold(4), [], 0, 0
    while start < len(pcm):
        stop = min(len(pcm), start + cuts[at % len(cuts)])
        at += 1
        for turn in [turn for turn in turns if start <= turn[0] < stop]:
            hold.turn(*turn)
        parts.append(hold.push(pcm[start:stop]))
        start = stop
    return np.concatenate(parts)


def test_the_last_bar_repeats_and_the_stream_comes_back_on_the_beat() -> None:
    pcm = music(40_000)
    out = play(pcm, [(10_000, BAR), (30_000, 0)], [1000])
    assert np.array_equal(out[:10_000], pcm[:10_000])
    inside = slice(10_000 + FADE, 10_000 + BAR - FADE)
    assert np.array_equal(out[inside], pcm[inside.start - BAR : inside.stop - BAR])
    assert np.array_equal(out[inside.start + 2 * BAR : inside.stop + 2 * BAR], out[inside])
    assert np.array_equal(out[30_000 + FADE :], pcm[30_000 + FADE :])


def test_a_bar_before_the_beginning_is_silence() -> None:
    out = play(music(20_000), [(1000, BAR)], [500])
    assert not out[1000 + FADE : 1000 + BAR - 1000 - FADE].any()
    assert out[1000 + BAR - 500].any()


@example([(0, 0), (0, 0), (0, BAR)], [500])
@given(
    st.lists(st.tuples(st.integers(0, 19_000), st.sampled_from([0, BAR, 2400])), max_size=5),
    st.lists(st.integers(1, 3000), min_size=1, max_size=5),
)
def test_any_cut_gives_the_same_samples(turns: list[tuple[int, int]], cuts: list[int]) -> None:
    turns.sort(key=lambda turn: turn[0])
    pcm = music(20_000)
    assert np.array_equal(play(pcm, turns, cuts), play(pcm, turns, [20_000]))
