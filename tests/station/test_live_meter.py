"""A metre that changes while the music plays: by a number, by words, along a journey, and beside faults."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from riffstream import protocol
from riffstream.config import StationConfig, TimelineSettings
from riffstream.generator.messages import Info
from riffstream.generator.renderer import ToneRenderer
from riffstream.journey.journey import Journey
from riffstream.journey.keyframe import Keyframe
from riffstream.station.offline import replay, run
from riffstream.station.score import Score
from riffstream.station.steering_log import SteeringLog
from tests.station.sim import FRAME, Sim, click_positions

STILL = StationConfig(bpm=120.0)
BEAT = 24_000
LAG = 21_600  # samples from the audible position to the committed one
GRAIN = 1200


class Listener:
    """Reads ``now`` at the audible position as time goes on, and counts the bars."""

    def __init__(self, sim: Sim) -> None:
        self.sim = sim
        self.pos = 0
        self.seen: list[protocol.Now] = []

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds * 10)):
            self.sim.run(0.1)
            while self.pos < self.sim.timeline.playout.committed - LAG:
                self.seen.append(self.sim.timeline.now(self.pos))
                self.pos += GRAIN

    @property
    def bars(self) -> list[tuple[int, int]]:
        """Number and beats of each bar, in order."""
        return [
            (bar, beats) for (bar, beats), _ in itertools.groupby((n.bar, n.state.beats_per_bar) for n in self.seen)
        ]

    def check(self, *, paused: bool = False) -> None:
        """Bars count up one by one. Each has one metre, and as many beats as it said."""
        numbers = [bar for bar, _ in self.bars]
        assert numbers == sorted(set(numbers)), self.bars
        beats = [now.beat for now in self.seen]
        assert all(after >= before for before, after in itertools.pairwise(beats))
        if paused:  # a pause before a scheduled change continues with the change
            return
        assert numbers == list(range(len(numbers))), self.bars
        lines = {now.bar: now.beat - now.bar_beat for now in reversed(self.seen)}
        for bar, beats_of_bar in self.bars[:-1]:
            assert lines[bar + 1] - lines[bar] == pytest.approx(beats_of_bar, abs=0.001), (bar, lines)
        for now in self.seen:
            assert 0 <= now.bar_beat < now.state.beats_per_bar, now
            assert now.beat - now.bar_beat == pytest.approx(lines[now.bar], abs=0.001), now


def strong(sim: Sim) -> list[int]:
    """Samples of the beats with a high click, which begin bars."""
    pcm = sim.pcm
    found = []
    for at in click_positions(pcm):
        piece = pcm[at : at + 200]
        spectrum = np.abs(np.fft.rfft(piece, 4800))
        if spectrum[200] > spectrum[100]:
            found.append(int(at))
    return found


@pytest.mark.parametrize("at", ["asap", "beat", "bar", "clip"])
def test_a_metre_changes_at_a_bar_line_and_nothing_stumbles(at: str) -> None:
    sim = Sim(clicks=True, station=STILL)
    listener = Listener(sim)
    listener.run(5.3)
    sim.steer("three", beats_per_bar=3, at=at)
    scheduled = sim.replies[-1]
    assert isinstance(scheduled, protocol.Scheduled)
    assert (scheduled.beats_per_bar, scheduled.beats_per_bar_reason) == (3, None)
    listener.run(8)
    sim.steer("four", beats_per_bar=4, at=at)
    listener.run(8)
    listener.check()
    applied = [sim.applied(ident) + sim.timeline.playout.fade for ident in ("three", "four")]
    assert applied[0] % (4 * BEAT) in (0, 1, 4 * BEAT - 1)
    assert (applied[1] - applied[0]) % (3 * BEAT) in (0, 1, 3 * BEAT - 1)
    gaps = np.diff(click_positions(sim.pcm))
    assert all(abs(gap - BEAT) < 300 for gap in gaps), gaps
    # The high clicks are where the bars begin.
    lines = [next(n.sample_pos for n in listener.seen if n.bar == bar) for bar, _ in listener.bars]
    clicks = [pos for pos in strong(sim) if pos < listener.pos]
    assert len(clicks) == len(lines)
    assert all(abs(click - line) < 2 * GRAIN for click, line in zip(clicks, lines, strict=True))


def test_the_words_of_a_prompt_bring_their_metre_and_take_it_away() -> None:
    sim = Sim(station=STILL)
    listener = Listener(sim)
    listener.run(3)
    sim.steer("a", "viennese waltz")
    scheduled = sim.replies[-1]
    assert isinstance(scheduled, protocol.Scheduled)
    assert (scheduled.beats_per_bar, scheduled.beats_per_bar_reason) == (3, "viennese waltz: 3 beats to the bar")
    listener.run(6)
    state = sim.timeline.now(sim.timeline.playout.committed).state
    assert (state.beats_per_bar, state.beats_per_bar_reason) == (3, "viennese waltz: 3 beats to the bar")
    sim.steer("b", "techno")
    listener.run(6)
    listener.check()
    assert sim.timeline.target().beats_per_bar == 4
    assert [beats for beats, _ in itertools.groupby(beats for _, beats in listener.bars)] == [4, 3, 4]


def test_a_number_outlasts_words_until_auto() -> None:
    sim = Sim(station=STILL)
    sim.run(2)
    sim.steer("a", beats_per_bar=4)
    sim.run(4)
    sim.steer("b", "waltz")
    sim.run(6)
    assert sim.timeline.target().beats_per_bar == 4
    assert sim.timeline.target().beats_per_bar_reason is None
    sim.steer("c", beats_per_bar="auto")
    sim.run(6)
    state = sim.timeline.now(sim.timeline.playout.committed).state
    assert (state.beats_per_bar, state.beats_per_bar_reason) == (3, "waltz: 3 beats to the bar")
    sim.transport("reset")
    sim.run(6)
    assert sim.timeline.now(sim.timeline.playout.committed).state.beats_per_bar == 4
    assert not sim.timeline.target().steered


def test_the_same_metre_as_a_number_makes_no_new_clip() -> None:
    sim = Sim(station=STILL)
    sim.run(3)
    clips = {job.clip for job in sim.jobs}
    sim.steer("a", beats_per_bar=4)
    sim.run(0.5)
    assert sim.answers("a") == ["Scheduled", "Applied"]
    assert {job.clip for job in sim.jobs} == clips


def test_a_model_without_the_metre_refuses_it_and_keeps_its_own() -> None:
    renderer = ToneRenderer()
    renderer.info = Info(model="march", meters={4: (512, 8)})
    sim = Sim(renderer=renderer)
    sim.run(2)
    sim.steer("a", beats_per_bar=3)
    rejected = sim.replies[-1]
    assert isinstance(rejected, protocol.Rejected)
    assert (rejected.code, rejected.field) == ("bad_request", "beats_per_bar")
    assert "march: 4" in rejected.message
    sim.steer("b", "waltz")
    sim.run(4)
    assert sim.answers("b") == ["Scheduled", "Applied"]
    assert sim.timeline.target().beats_per_bar == 4


def journey(*prompts: str, travel: int) -> Journey:
    return Journey.along([Keyframe.of(prompt) for prompt in prompts], stay=2, travel=travel, ending="loop")


@pytest.mark.parametrize("travel", [0, 1, 4])
def test_a_journey_changes_its_metre_between_clips(travel: int, tmp_path: Path) -> None:
    plan = journey("techno", "waltz", travel=travel)
    sim = Sim(clicks=True, station=STILL, journey=plan)
    listener = Listener(sim)
    listener.run(60)
    listener.check()
    assert sim.timeline.playout.splices == 1  # the whole journey is one take
    assert {beats for _, beats in listener.bars} == {3, 4}
    lengths = [len(job.hops) for job in sim.jobs]
    assert {6, 8} == set(lengths)
    gaps = np.diff(click_positions(sim.pcm))
    assert all(abs(gap - BEAT) < 300 for gap in gaps), gaps
    assert len(strong(sim)) == pytest.approx(len(listener.bars), abs=1)
    # Offline and in the replay the samples are the same.
    log = SteeringLog("render")
    info = ToneRenderer(clicks=True, level=0.0).info
    score = Score.of(STILL, info, plan)
    quiet = TimelineSettings(loudness_lufs=None)
    n = 40 * 48_000
    offline = np.concatenate(list(run(score, ToneRenderer(clicks=True, level=0.0), n, quiet, log=log)))
    log.save(tmp_path / "log", n)
    again = np.concatenate(list(replay(tmp_path / "log", ToneRenderer(clicks=True, level=0.0))))
    assert np.array_equal(offline, again)
    assert np.array_equal(offline[:, 0], sim.pcm[:n])


def test_a_keyframe_may_fix_its_metre() -> None:
    plan = Journey.along([Keyframe.of("waltz", beats_per_bar=4), Keyframe.of("waltz")], stay=1, travel=1)
    score = Score.of(StationConfig(), ToneRenderer().info, plan)
    assert [score.meter(plan.clip(n)) for n in range(3)] == [4, 4, 3]
    assert Keyframe.from_dict(plan.stops[0].keyframe.to_dict()) == plan.stops[0].keyframe


def test_a_generator_that_dies_beside_a_new_metre_leaves_whole_bars() -> None:
    sim = Sim(clicks=True, station=STILL)
    listener = Listener(sim)
    listener.run(5)
    sim.steer("three", beats_per_bar=3)
    sim.render(1)
    sim.kill()
    listener.run(9)
    sim.restart()
    listener.run(9)
    listener.check()
    assert {beats for _, beats in listener.bars} == {3, 4}


AT = st.sampled_from(["asap", "beat", "bar", "clip"])
STEERS = st.one_of(
    st.fixed_dictionaries({"beats_per_bar": st.sampled_from([3, 4, "auto"]), "at": AT}),
    st.fixed_dictionaries(
        {"prompt": st.sampled_from(["waltz", "techno", "minuet in 4/4", "rain"]), "at": AT},
        optional={"ramp_s": st.sampled_from([2.0, 12.0])},
    ),
    st.fixed_dictionaries({"bpm": st.sampled_from([60, 100, 180, "auto"]), "at": AT}),
)
ACTIONS = st.one_of(
    st.tuples(st.just("steer"), STEERS),
    st.tuples(st.just("steer"), STEERS),
    st.tuples(st.just("transport"), st.sampled_from(["reset", "skip"])),
    st.tuples(st.just("generator"), st.sampled_from(["kill", "restart", "stall", "go"])),
)
STORY = st.lists(st.tuples(ACTIONS, st.floats(0.1, 5)), min_size=1, max_size=10)
Story = list[tuple[tuple[str, Any], float]]


def lived(story: Story, waits: int, plan: Journey) -> Listener:
    """A station to which all this happens."""
    sim = Sim(waits=waits, journey=plan)
    listener = Listener(sim)
    connected = True
    listener.run(2)
    for number, ((kind, what), seconds) in enumerate(story):
        if kind == "steer":
            sim.steer(str(number), **what)
        elif kind == "transport":
            sim.transport(what, str(number))
        elif what == "kill" and connected:
            sim.kill()
            connected = False
        elif what == "restart" and not connected:
            sim.restart()
            connected = True
        elif what in ("stall", "go") and connected:
            sim.alive = what == "go"
        listener.run(seconds)
    if not connected:
        sim.restart()
    sim.alive = True
    listener.run(4)
    return listener


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STORY, st.sampled_from([1, 10, 60]), st.booleans())
def test_bars_are_whole_and_count_up_in_any_story(tmp_path: Path, story: Story, waits: int, visits: bool) -> None:
    plan = journey("techno", "waltz", "rain", travel=2) if visits else Journey.single("first")
    listener = lived(story, waits, plan)
    listener.check()
    sim = listener.sim
    assert [block.pos for block in sim.blocks] == [n * FRAME for n in range(len(sim.blocks))]
    sim.timeline.log.save(tmp_path / "log", sim.timeline.playout.committed)
    again = np.concatenate(list(replay(tmp_path / "log", ToneRenderer(waits=1, clicks=False))))
    assert np.array_equal(again, np.concatenate([block.pcm for block in sim.blocks]))
