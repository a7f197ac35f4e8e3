"""Faults of every kind in any order: the station asks again, its sound comes back, everybody is answered once."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from riffstream.journey.journey import Journey
from tests.station.faults import Action, actions, hours, journeys, play


# Derandomised, so that a run in CI says something about the change it tests and not about the day.
@settings(max_examples=100, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(journeys(), actions(), st.sampled_from([0.0, 5.0, 20.0]))
@pytest.mark.slow
def test_whatever_goes_wrong_sound_comes_back(journey: Journey, row: list[Action], warm_s: float) -> None:
    play(journey, row, warm_s)


@pytest.mark.slow
def test_half_an_hour_with_a_fault_every_minute_ends_with_music_and_the_same_memory() -> None:
    report = hours(0.5, 1, every=10)
    assert report["longest_without_music_after_20_s"] < 10.0
    objects = [each["objects"] for each in report["memory"]]
    assert len(objects) == 3
    assert objects[-1] < 1.05 * objects[0]
    assert sum(report["done"].values()) == 30
