"""The seam detector finds bad joins and passes good ones; joins between clips are like the inside of clips."""

from __future__ import annotations

import numpy as np
import pytest

from riffstream.bench import seam_measures as seams
from riffstream.config import TimelineSettings
from riffstream.errors import ParameterError
from tests.station.sim import Sim

RATE = 48_000
BAR = 2 * RATE
PLACES = [BAR * (n + 1) for n in range(24)]


def music(seed: int = 0, *, cut: tuple[int, ...] = ()) -> np.ndarray:
    """Notes on every beat over a drone, [n]; at the places in ``cut`` the drone jumps in phase."""
    draw = np.random.default_rng(seed)
    n = BAR * 26
    t = np.arange(n) / RATE
    phase = np.zeros(n)
    for place in cut:
        phase[place:] += draw.uniform(1, 5)
    sound = 0.2 * np.sin(2 * np.pi * 220 * t + phase) + 0.1 * np.sin(2 * np.pi * 331 * t + 2 * phase)
    for beat in range(26 * 4):
        start, long = beat * RATE // 2, RATE // 2
        hz = 220 * 2 ** (draw.integers(0, 12) / 12)
        tone = np.sin(2 * np.pi * hz * np.arange(long) / RATE) * np.exp(-np.arange(long) / 6000)
        sound[start : start + long] += 0.2 * draw.uniform(0.7, 1) * tone * np.minimum(1, np.arange(long) / 300)
    return (sound + 0.001 * draw.standard_normal(n)).astype(np.float32)


def test_joins_that_are_like_the_rest_pass() -> None:
    report = seams.report(music(), PLACES[::2], PLACES[1::2])
    assert report.worst_p > 0.05
    assert (report.joins, report.references) == (12, 12)


@pytest.mark.parametrize("fault", ["phase", "click", "level", "gap"])
def test_joins_with_a_fault_are_found(fault: str) -> None:
    joins, rest = PLACES[::2], PLACES[1::2]
    pcm = music(cut=tuple(joins) if fault == "phase" else ())
    for place in joins:
        if fault == "click":
            pcm[place] += 0.5
        elif fault == "level":
            pcm[place : place + BAR] *= 2.5
        elif fault == "gap":
            pcm[place - 240 : place + 240] = 0
    assert seams.report(pcm, joins, rest).worst_p < 0.01, fault


def test_the_detector_says_what_it_needs() -> None:
    with pytest.raises(ParameterError, match="three places or more"):
        seams.report(music(), PLACES[:2], PLACES[2:])
    with pytest.raises(ParameterError, match="place"):
        seams.measure(music(), 10)


def test_clips_of_a_take_join_without_a_seam() -> None:
    sim = Sim(clicks=False, settings=TimelineSettings(loudness_lufs=None))
    sim.run(110)
    pcm = sim.pcm + 0.001 * np.random.default_rng(0).standard_normal(len(sim.pcm)).astype(np.float32)
    clip = 4 * RATE
    joins = [clip * n for n in range(1, 26)]
    report = seams.report(pcm, joins, [join + RATE * 2 for join in joins])
    assert report.worst_p > 0.05
