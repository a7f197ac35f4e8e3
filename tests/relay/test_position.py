"""The relay's estimate of the audible position, on a simulated clock."""

from __future__ import annotations

import random

from riffstream.relay.position import Position

RATE = 48_000


def test_the_position_follows_the_origin_within_half_a_round_trip() -> None:
    now, chance = [100.0], random.Random(1)
    position = Position(lambda: now[0])
    position.welcomed(0)
    shown = 0
    for _ in range(200):
        begin = now[0]
        there, back = chance.uniform(0.001, 0.08), chance.uniform(0.001, 0.08)
        now[0] = begin + there + back
        position.answered(begin, round((begin + there - 100) * RATE))
        for _ in range(4):
            now[0] += 0.5
            assert position.sample_pos >= shown  # never back
            shown = position.sample_pos
            assert abs(shown - (now[0] - 100) * RATE) <= 0.08 * RATE
    assert 0.01 < position.round_trip_s < 0.16


def test_it_stands_while_the_origin_rests_and_moves_when_it_wakes() -> None:
    now = [0.0]
    position = Position(lambda: now[0])
    for step in range(3):
        position.answered(now[0], RATE * (5 + 2 * step))
        now[0] += 2
    assert position.advancing
    position.answered(now[0], 10 * RATE)
    position.answered(now[0] + 1, 10 * RATE)
    now[0] += 10
    position.answered(now[0], 10 * RATE)
    now[0] += 5
    assert position.sample_pos == position.sample_pos
    assert not position.advancing
    position.answered(now[0], 11 * RATE)
    now[0] += 1
    assert position.advancing
    assert position.sample_pos >= 11 * RATE


def test_two_answers_at_once_say_nothing_about_rest() -> None:
    now = [0.0]
    position = Position(lambda: now[0])
    position.answered(0.0, RATE)
    now[0] = 0.05
    position.answered(0.05, RATE)
    assert position.advancing


def test_another_sample_clock_is_shown_at_once_and_a_lost_origin_stands() -> None:
    now = [0.0]
    position = Position(lambda: now[0])
    position.answered(0.0, 1000 * RATE)
    assert position.sample_pos == 1000 * RATE
    position.answered(0.0, 5 * RATE)
    assert position.sample_pos == 5 * RATE
    position.answered(0.0, 6 * RATE)
    now[0] = 1.0
    position.stop()
    now[0] = 60.0
    assert position.sample_pos == 7 * RATE
