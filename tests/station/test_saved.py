"""The saved state of a station: the same music, at the same place, with the same numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from riffstream import protocol
from riffstream.config import StationConfig, TimelineSettings
from riffstream.errors import ParameterError
from riffstream.generator.renderer import ToneRenderer
from riffstream.journey.journey import Journey
from riffstream.station.offline import replay
from riffstream.station.saved import SavedStation, begun, continued
from riffstream.station.saving import saved
from riffstream.station.score import Score
from riffstream.station.steering_log import SteeringLog
from riffstream.station.timeline import Timeline
from tests.station.sim import Sim

JOURNEY = Journey.visit(["one", "two", "three"], 2, 2)


def through_json(state: SavedStation | None) -> SavedStation:
    assert state is not None
    return msgspec.json.decode(msgspec.json.encode(state), type=SavedStation)


def restarted(sim: Sim, *, later: int = 0, journey: Journey = JOURNEY) -> Sim:
    """A new station that continues the saved state of ``sim``."""
    state = through_json(saved(sim.timeline)).after(later)
    new = Sim(journey=journey, settings=sim.settings)
    fresh = Score.of(StationConfig(), new.renderer.info, journey)
    start = continued(state, fresh)
    log = SteeringLog("main")
    log.header(
        {
            "version": "0",
            "model": "tone",
            "info": new.renderer.info,
            "journey": {},
            "timeline": new.settings,
            "begin": start.begin.pos,
        }
    )
    new.timeline = Timeline("main", fresh, new.settings, log, saved=start)
    return new


def played(seconds: float = 9.3, **fields: Any) -> Sim:
    sim = Sim(journey=JOURNEY)
    sim.run(2)
    if fields:
        sim.steer("s", **fields)
    sim.run(seconds - 2)
    return sim


@pytest.mark.parametrize("seconds", [2.5, 7.7, 19.2])
def test_the_music_goes_on_at_the_same_place(seconds: float) -> None:
    sim = played(seconds)
    end = sim.timeline.playout.committed
    before = sim.timeline.now(end - 1)
    new = restarted(sim)
    new.run(1)
    after = new.timeline.now(end)
    assert new.blocks[0].pos == end
    assert after.beat == pytest.approx(before.beat, abs=0.01)
    assert (after.rev, after.bar) == (before.rev, before.bar)
    assert after.state == before.state
    assert after.alpha == before.alpha
    assert after.clip > before.clip
    assert float(np.abs(new.pcm).max()) > 0.05
    # A station that was not interrupted is at the same place a few seconds later.
    sim.run(5)
    new.run(4)
    pos = end + 4 * 48_000
    assert new.timeline.now(pos).beat == pytest.approx(sim.timeline.now(pos).beat, abs=0.01)
    assert new.timeline.now(pos).state == sim.timeline.now(pos).state


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "rain"},
        {"prompt": "rain", "ramp_s": 20.0},
        {"bpm": 97.0, "ramp_s": 4.0},
        {"key": 3.0, "denoising": 0.4, "guidance": 5.0, "negative": "noise", "seed_image": "known"},
        {"beats_per_bar": 3, "seed": 77},
        {"mix": protocol.MixChange(low=-20.0, width=0.5, mute=("drums",))},
    ],
)
def test_what_was_steered_goes_on(fields: dict[str, Any]) -> None:
    sim = played(12.1, **fields)
    end = sim.timeline.playout.committed
    new = restarted(sim)
    assert new.timeline.target() == sim.timeline.target()
    new.run(2)
    sim.run(2)
    assert new.timeline.rev == sim.timeline.rev == 1
    assert new.timeline.now(end + 48_000).state == sim.timeline.now(end + 48_000).state


def test_an_accepted_change_that_was_not_audible_yet_is_kept() -> None:
    sim = played()
    sim.alive = False
    sim.steer("late", "thunder")
    end = sim.timeline.playout.committed
    new = restarted(sim)
    new.run(2)
    now = new.timeline.now(end + 4800)
    assert now.rev == 1
    assert [part.text for part in now.state.prompts] == ["thunder"]


def test_changes_that_wait_for_their_bars_are_kept() -> None:
    sim = played()
    for ident, prompt, bar in (("far", "third", 12), ("near", "second", 8)):
        sim.steer(ident, prompt, bar=bar)
    sim.steer("key", key=3.0)
    end = sim.timeline.playout.committed
    told = sim.timeline.now(end).coming
    new = restarted(sim)
    new.run(1)
    kept = [(each.at, each.prompts) for each in new.timeline.now(end).coming if each.by == "steer"]
    assert [prompts for _, prompts in kept] == [each.prompts for each in told if each.by == "steer" and each.prompts]
    assert [prompts[0].text for _, prompts in kept if prompts] == ["second", "third"]
    # They begin where they begin in a station that was not interrupted.
    sim.run(20)
    new.run(19)
    for ident, bar in (("near", 8), ("far", 12)):
        pos = sim.applied(ident)
        before, after = (new.timeline.now(pos + offset) for offset in (-4800, 4800))
        assert (before.bar, after.bar) == (bar - 1, bar)
        assert before.state.prompts != after.state.prompts
        assert after.state == sim.timeline.now(pos + 4800).state
    assert new.timeline.rev == sim.timeline.rev == 3
    assert new.timeline.timed.steers == ()


def test_a_change_whose_line_a_crash_has_skipped_begins_at_once() -> None:
    sim = played()  # in bar 4
    sim.steer("s", "rain", bar=7)
    new = restarted(sim, later=6 * 48_000)
    new.run(6)
    states = [new.timeline.now(block.pos) for block in new.blocks]
    assert states[0].bar == 7
    assert {now.state.prompts[0].text for now in states} == {"rain"}


def test_a_kept_change_that_the_model_cannot_play_any_more_is_named_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sim = played()
    state = through_json(saved(sim.timeline))
    steers = (protocol.Steer(id="a", energy=0.9, bar=9), protocol.Steer(id="b", key=2.0, bar=10))
    info = msgspec.structs.replace(sim.renderer.info, conditions=False)
    fresh = Score.of(StationConfig(), info, JOURNEY)
    start = begun(msgspec.structs.replace(state, waiting=steers), fresh, "main")
    timeline = Timeline("main", fresh, sim.settings, saved=start)
    assert timeline.timed.steers == steers[1:]
    assert "station main: a change that waited for its bar is left out: energy" in caplog.text


def test_changes_that_wait_end_where_the_bars_count_anew(caplog: pytest.LogCaptureFixture) -> None:
    sim = played()
    sim.steer("s", "rain", bar=40)
    state = through_json(saved(sim.timeline))
    other = Score.of(StationConfig(), sim.renderer.info, Journey.single("another"))
    start = begun(state, other, "main")
    assert start is not None
    assert start.waiting == ()
    assert "changes that waited for their bars end: 1" in caplog.text


def test_a_pause_goes_on() -> None:
    sim = played()
    sim.transport("pause")
    sim.run(1)
    held = sim.timeline.now(sim.timeline.playout.committed - 1)
    new = restarted(sim)
    new.run(2)
    assert new.timeline.paused
    now = new.timeline.now(new.timeline.playout.committed - 1)
    assert now.state.paused
    assert now.rev == held.rev == 1
    assert now.beat == pytest.approx(held.beat, abs=0.05)
    assert float(np.abs(new.pcm).max()) == 0.0
    new.transport("resume")
    new.run(2)
    assert float(np.abs(new.pcm).max()) > 0.05
    assert new.timeline.rev == 2


def test_a_crash_leaves_out_what_was_perhaps_sent() -> None:
    sim = played()
    end = sim.timeline.playout.committed
    new = restarted(sim, later=144_000)
    sim.run(6)
    new.run(2)
    first = new.blocks[0].pos
    assert first >= end + 144_000
    assert first % 480 == 0
    assert new.timeline.now(first).beat == pytest.approx(sim.timeline.now(first).beat, abs=0.01)


def test_a_late_generator_does_not_lose_the_place() -> None:
    sim = played()
    sim.kill()
    sim.run(9)  # the last bars are repeated, far behind the last clip
    end = sim.timeline.playout.committed
    beat = sim.timeline.now(end - 1).beat
    new = restarted(sim)
    new.run(1)
    assert new.timeline.now(end).beat == pytest.approx(beat, abs=0.05)


def test_another_default_journey_begins_anew_but_the_clock_goes_on() -> None:
    sim = played()
    end = sim.timeline.playout.committed
    new = restarted(sim, journey=Journey.visit(["four", "five"]))
    new.run(1)
    now = new.timeline.now(end + 4800)
    assert new.blocks[0].pos == end
    assert (now.rev, now.state.prompts[0].text) == (1, "four")
    steered = played(9.3, prompt="rain")
    new = restarted(steered, journey=Journey.visit(["four", "five"]))
    assert new.timeline.target().prompts[0].text == "rain"


@pytest.mark.parametrize(
    ("part", "wrong"),
    [
        ("key", 99.0),
        ("beats_per_bar", 4096),
        ("energy", 3.0),
        ("path", {"keyframe": []}),
        ("path", {"keyframe": [{"prompt": 3}]}),
        ("path", {"nothing": 1}),
    ],
)
def test_values_out_of_range_are_refused(part: str, wrong: object) -> None:
    sim = played()
    state = through_json(saved(sim.timeline))
    score = msgspec.structs.replace(state.score, **{part: wrong})
    info = replace_info(sim)
    with pytest.raises(ParameterError):
        continued(msgspec.structs.replace(state, score=score), Score.of(StationConfig(), info, JOURNEY))


def replace_info(sim: Sim) -> Any:
    return msgspec.structs.replace(sim.renderer.info, conditions=True)


def test_nothing_is_saved_before_the_first_audio() -> None:
    assert saved(Sim().timeline) is None


STEERS = st.lists(
    st.tuples(
        st.one_of(
            st.fixed_dictionaries({"prompt": st.sampled_from("abc"), "ramp_s": st.sampled_from([0.0, 12.0])}),
            st.fixed_dictionaries({"bpm": st.integers(50, 200), "ramp_s": st.sampled_from([0.0, 5.0])}),
            st.fixed_dictionaries({"key": st.integers(-6, 6), "at": st.sampled_from(["bar", "clip"])}),
            st.fixed_dictionaries({"beats_per_bar": st.sampled_from([3, 4])}),
            st.sampled_from(["pause", "resume", "skip", "reset", "kill", "restart"]),
        ),
        st.floats(0.1, 4),
    ),
    max_size=6,
)


@settings(
    max_examples=12, phases=[Phase.explicit, Phase.generate], deadline=None, suppress_health_check=list(HealthCheck)
)
@given(STEERS, st.integers(0, 300_000))
def test_any_station_goes_on_and_its_log_replays(tmp_path: Path, steers: list[Any], later: int) -> None:
    sim = Sim(journey=JOURNEY, settings=TimelineSettings(loudness_lufs=-16.0))
    sim.run(2)
    alive = True
    for number, (what, seconds) in enumerate(steers):
        if isinstance(what, dict):
            sim.steer(str(number), **what)
        elif what in ("kill", "restart"):
            if alive == (what == "kill"):
                (sim.kill if alive else sim.restart)()
                alive = not alive
        else:
            sim.transport(what, str(number))
        sim.run(seconds)
    new = restarted(sim, later=later)
    rev = new.timeline.rev
    assert new.timeline.target().steered == sim.timeline.target().steered
    assert rev == sim.timeline.rev
    new.run(3)
    assert new.blocks, "it plays"
    first = new.blocks[0].pos
    assert first >= sim.timeline.playout.committed + later
    assert [block.rev for block in new.blocks] == [rev] * len(new.blocks)
    log = tmp_path / "log.jsonl"
    end = new.timeline.playout.committed
    new.timeline.log.save(log, end)
    again = np.concatenate(list(replay(log, ToneRenderer(waits=1, clicks=False))))
    assert np.array_equal(again, np.concatenate([block.pcm for block in new.blocks]))
