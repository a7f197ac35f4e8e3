"""Stations in three: clips of six beats, bars of three, and everything that counts them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from riffstream.config import Config, StationConfig, TimelineSettings
from riffstream.diffusion.engine import Engine
from riffstream.diffusion.mini.family import MiniFamily
from riffstream.errors import ParameterError
from riffstream.generator.messages import Info
from riffstream.generator.model_renderer import ModelRenderer
from riffstream.journey.journey import Journey
from riffstream.spectrogram.vocoder import Vocoder
from tests.station.sim import Sim, click_positions

WALTZ = StationConfig(beats_per_bar=3, bpm=120.0)
BEAT = 24_000


def test_a_waltz_has_clips_of_six_beats() -> None:
    sim = Sim(station=WALTZ)
    sim.run(12)
    assert {len(job.hops) for job in sim.jobs} == {6}
    assert {job.frames for job in sim.jobs} == {384}
    assert sim.timeline.now(3 * BEAT + 100).beat == pytest.approx(3.0, abs=0.01)
    clips = [sim.timeline.now(BEAT * beat + 4800).clip for beat in range(18)]
    assert clips == [0] * 6 + [1] * 6 + [2] * 6


def test_four_is_as_it_was() -> None:
    sim = Sim()
    sim.run(3)
    assert {len(job.hops) for job in sim.jobs} == {8}
    assert {job.frames for job in sim.jobs} == {None}


@pytest.mark.parametrize(("at", "step"), [("beat", 1), ("bar", 3), ("clip", 3)])
def test_splices_fall_on_the_lines_of_three(at: str, step: int) -> None:
    # Clips of a take begin where it was spliced in: on a bar line.
    sim = Sim(station=WALTZ)
    sim.run(4)
    for number in range(4):
        sim.steer(f"s{number}", f"prompt {number}", at=at)
        sim.run(5)
        end = sim.applied(f"s{number}") + sim.timeline.playout.fade
        assert end % (step * BEAT) == pytest.approx(0, abs=2) or (step * BEAT) - end % (step * BEAT) <= 2


def test_clicks_go_on_without_a_stumble_through_steers() -> None:
    sim = Sim(station=WALTZ, clicks=True)
    sim.run(3.3)
    for number in range(5):
        sim.steer(f"s{number}", f"prompt {number}", at="asap")
        sim.run(2.9)
    gaps = [after - before for before, after in itertools.pairwise(click_positions(sim.pcm))]
    assert all(abs(gap - BEAT) < 300 for gap in gaps), gaps


def test_a_late_waltz_repeats_whole_bars_of_three() -> None:
    sim = Sim(station=WALTZ, clicks=True)
    sim.run(5)
    sim.steps = 0
    sim.run(9)
    sim.steps = 12
    sim.run(6)
    assert "repeat" in sim.events()
    gaps = np.diff(click_positions(sim.pcm))
    assert all(abs(gap - BEAT) < 300 for gap in gaps), gaps


def test_the_model_makes_clips_of_three() -> None:
    torch.set_num_threads(1)
    family = MiniFamily.random(seed=1)
    renderer = ModelRenderer(Engine(family, steps=2), Vocoder(family.params))
    sim = Sim(renderer=renderer, station=WALTZ, journey=Journey.single("waltz"), settings=TimelineSettings())
    sim.run(8)
    sim.steer("a", "slow waltz", at="bar")
    sim.run(4)
    assert sim.answers("a") == ["Scheduled", "Applied"]
    assert sim.timeline.playout.underruns == 0
    assert all(mel.shape[-1] == 384 for mel, _ in renderer._clips("main").values())


def test_a_model_that_cannot_says_what_it_can() -> None:
    with pytest.raises(ParameterError, match="with the model march: 4"):
        Info(model="march", meters={4: (512, 8)}).in_meter(3)
    with pytest.raises(ParameterError, match="3 to 4"):
        Config.from_dict({"stations": {"x": {"beats_per_bar": 5}}})
