"""What is played in place of what cannot be made."""

from __future__ import annotations

from dataclasses import replace

from riffstream.config import StationConfig
from riffstream.generator.renderer import ToneRenderer
from riffstream.journey.journey import Journey
from riffstream.station.fallback import KEPT, MISSES, Fallback
from riffstream.station.score import Score

HOME = Score.of(StationConfig(), ToneRenderer().info, Journey.single("home"))
STEERED = [replace(HOME, key=float(key)) for key in range(1, 8)]


def missed(fallback: Fallback, score: Score, times: int = MISSES) -> list[tuple[Score, int] | None]:
    return [fallback.missed(score) for _ in range(times)]


def test_single_clips_are_left_out() -> None:
    fallback = Fallback()
    for _ in range(10):
        assert missed(fallback, STEERED[0], MISSES - 1) == [None] * (MISSES - 1)
        fallback.made(STEERED[0], 7)


def test_clip_after_clip_leads_back_to_the_state_that_worked_and_after_its_last_clip() -> None:
    fallback = Fallback()
    fallback.made(HOME, 3)
    fallback.made(STEERED[0], 0)
    fallback.made(STEERED[1], 0)
    assert missed(fallback, STEERED[1]) == [None] * (MISSES - 1) + [(STEERED[0], 1)]
    assert fallback.misses == 0


def test_where_that_fails_too_the_stations_own_journey_is_next_and_then_there_is_nothing_else() -> None:
    fallback = Fallback()
    for score in STEERED[:3]:
        fallback.made(score, 0)
    assert missed(fallback, STEERED[3])[-1] == (STEERED[2], 1)
    home = missed(fallback, STEERED[2])[-1]
    assert home is not None
    assert (home[0].steered, home[1]) == (False, 0)
    assert missed(fallback, home[0], 3 * MISSES) == [None] * 3 * MISSES


def test_more_and_more_is_left_out_until_a_clip_is_made() -> None:
    fallback = Fallback()
    strides = []
    for _ in range(7):
        fallback.missed(HOME)
        strides.append(fallback.stride)
    assert strides == [1, 2, 4, 8, 16, 16, 16]
    fallback.made(HOME, 0)
    fallback.missed(HOME)
    assert fallback.stride == 1


def test_few_states_are_remembered() -> None:
    fallback = Fallback()
    for number in range(1000):
        fallback.made(STEERED[number % len(STEERED)], number)
    assert len(fallback._good) <= KEPT
