"""The desk on a stream: neutral is untouched, blocks equal the whole, and each control does what it says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from riffstream.protocol import MIX_NUMBERS, Mix
from riffstream.station.desk import COLUMNS, Desk, Move

RATE = 48_000
SECOND = np.arange(RATE)


def tone(hz: float, n: int = RATE) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(n) / RATE)


def music(n: int = RATE, *, clicks: bool = True) -> np.ndarray:
    """Bass, a chord that is louder on the right, a hiss, and clicks that are its drums; [n, 4]."""
    bass, chord = 0.2 * tone(60, n), 0.1 * tone(700, n)
    drums = np.zeros(n)
    if clicks:
        for start in range(0, n - 240, 6000):
            drums[start : start + 240] = 0.3 * tone(3000, 240) * np.hanning(240)
    hiss = 0.02 * np.random.default_rng(1).normal(size=n)
    left, right = bass + 0.5 * chord + hiss + drums, bass + chord + drums
    return np.stack([left, right, drums, drums], axis=1).astype(np.float32)


def play(pcm: np.ndarray, moves: Sequence[Move], cuts: Sequence[int] = (4800,)) -> np.ndarray:
    desk, parts, start, at = Desk(), [], 0, 0
    waiting = sorted(moves, key=lambda move: move.pos)
    while start < len(pcm):
        stop = min(len(pcm), start + cuts[at % len(cuts)])
        at += 1
        while waiting and waiting[0].pos < stop:
            desk.add(waiting.pop(0))
        parts.append(desk.push(pcm[start:stop]))
        start = stop
    return np.concatenate([*parts, desk.flush()])


def level(pcm: np.ndarray, hz: float) -> float:
    """Amplitude of a frequency in [n]."""
    n = np.arange(len(pcm))
    return 2 * abs(np.exp(-2j * np.pi * hz * n / RATE) @ (pcm * np.hanning(len(pcm)))) / (len(pcm) / 2)


def after(pcm: np.ndarray, **fields: object) -> np.ndarray:
    """The last half second, half a second after a change."""
    out = play(pcm, [Move(pos=4000, fields=fields)])
    assert len(out) == len(pcm)
    return out[RATE // 2 :]


@given(st.lists(st.integers(1, 9000), min_size=1, max_size=6))
def test_a_neutral_desk_returns_its_input_at_once(cuts: list[int]) -> None:
    pcm = music(20_000)
    desk, start = Desk(), 0
    for n in cuts:
        out = desk.push(pcm[start : start + n])
        assert np.array_equal(out, pcm[start : start + n, :2])
        start += n


def test_samples_before_a_change_and_after_the_way_back_are_untouched() -> None:
    pcm = music()
    fields = {"low": -60.0, "filter": 0.4, "width": 0.2, "drums": -60.0, "tilt": 2.0, "mute": ("bass",), "fade": True}
    back = {"low": 0.0, "filter": 0.0, "width": 1.0, "drums": 0.0, "tilt": 0.0, "mute": (), "fade": False}
    out = play(pcm, [Move(pos=7001, fields=fields, ramp=960), Move(pos=20_000, fields=back, ramp=4800)])
    assert np.array_equal(out[:7001], pcm[:7001, :2])
    assert np.array_equal(out[25_200:], pcm[25_200:, :2])
    assert not np.allclose(out[9000:19_000], pcm[9000:19_000, :2], atol=0.05)


NUMBERS = {name: st.floats(*each.ends) for name, each in MIX_NUMBERS.items()}
FLAGS = {"hold": st.booleans(), "fade": st.booleans()}
STEMS = {name: st.sampled_from([(), ("drums",), ("bass",), ("bass", "drums")]) for name in ("mute", "solo")}
MOVES = st.lists(
    st.builds(
        lambda pos, fields, ramp: Move(pos=pos, fields=fields, ramp=ramp, bar=4800),
        st.integers(0, 15_000),
        st.fixed_dictionaries({}, optional=NUMBERS | FLAGS | STEMS).filter(bool),
        st.none() | st.integers(0, 9000),
    ),
    max_size=6,
)


@given(MOVES, st.lists(st.integers(60, 6000), min_size=1, max_size=5))
@example([Move(pos=479, fields={"filter": -1.0}), Move(pos=1441, fields={"filter": 0.0})], [480])
@example([Move(pos=0, fields={"drums": 0.0, "solo": ("drums",)}, ramp=5761), Move(pos=1, fields={"solo": ()})], [60])
@example([Move(pos=0, fields={"mute": ("bass",)}), Move(pos=960, fields={"solo": ("drums",)})], [7])
def test_any_moves_in_any_blocks_equal_the_whole_bit_for_bit(moves: list[Move], cuts: list[int]) -> None:
    pcm = music(16_000)
    whole = play(pcm, moves, [16_000])
    assert np.array_equal(play(pcm, moves, cuts), whole)
    assert len(whole) == len(pcm)
    assert np.isfinite(whole).all()


@given(MOVES)
def test_no_change_clicks(moves: list[Move]) -> None:
    """The steepest step of a smooth input grows by the gain, and a little by the shortest ramp."""
    smooth = np.repeat((0.3 * tone(200, 16_000))[:, None], COLUMNS, axis=1).astype(np.float32)
    smooth[:, 2:] = 0
    out = play(smooth, moves, [4800])[:15_000]  # the end of the input is a step
    steepest = np.abs(np.diff(smooth[:, 0])).max()
    loudest = max(1.0, np.abs(out).max() / 0.3)
    assert np.abs(np.diff(out, axis=0)).max() < 4 * loudest * steepest


@pytest.mark.parametrize(
    ("fields", "bass", "chord", "click"),
    [
        ({"low": -60.0}, 0.0, 1.0, 1.0),
        ({"mid": -60.0}, 1.0, 0.0, 1.0),
        ({"high": -60.0}, 1.0, 1.0, 0.2),
        ({"low": 6.0, "mid": -6.0}, 2.0, 0.5, 0.8),
        ({"drums": -60.0}, 1.0, 1.0, 0.0),
        ({"drums": -6.0}, 1.0, 1.0, 0.5),
        ({"tonal": -60.0}, 0.0, 0.0, 1.0),
        ({"mute": ("drums",)}, 1.0, 1.0, 0.0),
        ({"mute": ("bass",)}, 0.0, 1.0, 1.0),
        ({"solo": ("drums",)}, 0.0, 0.0, 1.0),
        ({"solo": ("bass",)}, 1.0, 0.0, 0.0),
        ({"solo": ("drums", "bass")}, 1.0, 0.0, 1.0),
        ({"solo": ("drums", "bass"), "mute": ("drums",)}, 1.0, 0.0, 0.0),
        ({"filter": -1.0}, 1.0, 0.0, 0.0),
        ({"filter": 0.65}, 0.0, 0.1, 1.0),
        ({"fade": True}, 0.0, 0.0, 0.0),
    ],
)
def test_each_control_changes_what_it_names(fields: dict[str, object], bass: float, chord: float, click: float) -> None:
    pcm = music(4 * RATE)
    fields = dict(fields)
    out = play(pcm, [Move(pos=4000, fields=fields)])[-RATE:, 1]
    original = pcm[-RATE:, 1]
    assert level(out, 60) / level(original, 60) == pytest.approx(bass, abs=0.12)
    assert level(out, 700) / level(original, 700) == pytest.approx(chord, abs=0.1)
    assert level(out, 3000) / level(original, 3000) == pytest.approx(click, abs=0.15)


def test_width_keeps_the_middle() -> None:
    pcm = music()
    for width in (0.0, 0.5, 2.0):
        out = after(pcm, width=width)
        middle, side = pcm[RATE // 2 :, :2].sum(1), pcm[RATE // 2 :, 0] - pcm[RATE // 2 :, 1]
        np.testing.assert_allclose(out.sum(1), middle, atol=1e-6)
        np.testing.assert_allclose(out[:, 0] - out[:, 1], side * width, atol=1e-6)


def test_music_without_drums_is_tonal() -> None:
    pcm = music(clicks=False)
    assert np.array_equal(after(pcm, drums=-60.0), pcm[RATE // 2 :, :2])
    assert not after(pcm, tonal=-60.0).any()


def test_a_fade_is_silent_to_the_last_bit_and_comes_back() -> None:
    pcm = music(3 * RATE)
    moves = [Move(pos=0, fields={"fade": True}, ramp=RATE), Move(pos=2 * RATE, fields={"fade": False}, ramp=9600)]
    out = play(pcm, moves)
    assert not out[RATE + 1 : 2 * RATE].any()
    assert np.array_equal(out[-RATE // 2 :], pcm[-RATE // 2 :, :2])


def test_hold_repeats_the_last_bar_through_the_other_controls() -> None:
    pcm = music(2 * RATE)
    out = play(pcm, [Move(pos=48_000, fields={"hold": True, "low": -60.0}, bar=24_000)])
    late = out[60_000:70_000]
    np.testing.assert_allclose(late, out[84_000:94_000], atol=1e-6)
    assert level(out[70_000:94_000, 1], 60) < 0.02


def test_a_newer_move_takes_its_fields_from_those_that_have_not_begun() -> None:
    desk = Desk()
    desk.move(Move(pos=9000, fields={"low": -6.0, "high": -6.0}, rev=1))
    assert [each.rev for each in desk.move(Move(pos=0, fields={"low": 3.0}, rev=2))] == []
    assert [each.rev for each in desk.move(Move(pos=100, fields={"high": 1.0}, rev=3))] == [1]
    assert desk.target == Mix(low=3.0, high=1.0)
    desk.push(music(5000))
    assert desk.at(50) == (2, Mix(low=3.0))
    assert desk.at(100) == (3, Mix(low=3.0, high=1.0))
    assert not desk.coming
    with pytest.raises(ValueError, match="the first free sample is 5000"):
        desk.move(Move(pos=4999, fields={"low": 0.0}))
