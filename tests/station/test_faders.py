"""Steers of the desk on a station: answers, positions, state, loudness, crashes and replay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from riffstream import protocol
from riffstream.config import StationConfig, TimelineSettings
from riffstream.generator.renderer import ToneRenderer
from riffstream.journey.journey import Journey
from riffstream.protocol import Mix, MixChange
from riffstream.server.steering import merge
from riffstream.station.offline import replay, run
from riffstream.station.score import Score
from riffstream.station.steering_log import SteeringLog
from tests.station.sim import FRAME, Sim


def playing(**options: object) -> Sim:
    sim = Sim(waits=2, **options)  # type: ignore[arg-type]
    sim.run(3)
    return sim


def mix(**fields: object) -> MixChange:
    return MixChange(**fields)  # type: ignore[arg-type]


def loudness(pcm: np.ndarray) -> float:
    return float(np.sqrt((pcm.astype(np.float64) ** 2).mean()))


def test_a_change_of_the_desk_needs_nothing_of_the_generator() -> None:
    sim = playing()
    jobs, position = len(sim.jobs), sim.timeline.playout.mixer.position
    sim.steer("1", mix=mix(low=-12.0))
    assert sim.answers("1") == ["Scheduled"]
    sim.run(0.1)
    assert sim.answers("1") == ["Scheduled", "Applied"]
    assert sim.applied("1") == position
    assert position - (sim.timeline.playout.committed - FRAME) < 1500, "it begins with the next committed samples"
    assert len(sim.jobs) == jobs
    assert sim.timeline.rev == 1
    sim.run(0.2)
    assert sim.blocks[-1].rev == 1
    assert sim.timeline.target().mix == Mix(low=-12.0)
    assert sim.timeline.now(sim.applied("1") + 1).state.mix == Mix(low=-12.0)
    assert sim.timeline.now(sim.applied("1") - 1).state.mix == Mix()
    assert sim.timeline.now(sim.applied("1") + 1).state.steered
    assert sim.timeline.moment(sim.applied("1")) != sim.timeline.moment(sim.applied("1") - 1)


@pytest.mark.parametrize("at", ["beat", "bar", "clip"])
def test_a_change_waits_for_the_grid(at: str) -> None:
    sim = playing()
    sim.steer("1", mix=mix(width=0.0), at=at)
    sim.run(5)
    unit = {"beat": 1, "bar": 4, "clip": 8}[at]
    beat = sim.timeline.now(sim.applied("1")).beat
    assert beat / unit == pytest.approx(round(beat / unit), abs=1e-3)


def test_fields_merge_and_null_is_neutral() -> None:
    sim = playing()
    sim.steer("1", mix=mix(low=-12.0, tilt=1.0))
    sim.steer("2", mix=mix(tilt=None, mute=("bass", "drums")))
    assert sim.timeline.target().mix == Mix(low=-12.0, mute=("bass", "drums"))
    sim.run(0.2)
    assert sim.answers("2") == ["Scheduled", "Applied"]
    sim.steer("3", mix=None)
    sim.run(0.2)
    assert sim.timeline.target().mix == Mix()
    assert not sim.timeline.target().steered


def test_the_same_setting_again_is_applied_at_once_without_a_revision() -> None:
    sim = playing()
    sim.steer("1", mix=mix(low=-12.0))
    sim.run(0.2)
    sim.steer("2", mix=mix(low=-12.0))
    assert sim.answers("2") == ["Scheduled", "Applied"]
    assert sim.timeline.rev == 1


def test_a_newer_value_supersedes_one_that_has_not_begun() -> None:
    sim = playing()
    sim.steer("1", mix=mix(low=-12.0), at="bar")
    sim.steer("2", mix=mix(low=-3.0))
    assert sim.answers("1") == ["Scheduled", "Superseded"]
    sim.run(4)
    assert sim.timeline.now(sim.timeline.playout.committed).state.mix == Mix(low=-3.0)


def test_the_desk_and_a_prompt_in_one_steer_begin_together() -> None:
    sim = playing()
    sim.steer("1", prompt="second", mix=mix(low=-12.0), at="bar")
    sim.run(0.1)
    assert sim.timeline.target().mix == Mix(low=-12.0)
    assert sim.timeline.now(sim.timeline.playout.committed).state.mix == Mix()
    sim.run(5)
    pos = sim.applied("1")
    assert sim.timeline.now(pos - 1).state.mix == Mix()
    now = sim.timeline.now(pos)
    assert (now.state.mix, now.state.prompts[0].text) == (Mix(low=-12.0), "second")


def test_the_desk_moves_while_a_prompt_is_on_its_way() -> None:
    sim = playing()
    sim.steer("1", prompt="second", mix=mix(low=-12.0, high=3.0), at="clip")
    sim.steer("2", mix=mix(low=6.0))
    sim.run(0.1)
    assert sim.answers("2") == ["Scheduled", "Applied"]
    sim.run(6)
    assert sim.answers("1") == ["Scheduled", "Applied"], "the prompt was not disturbed"
    assert sim.timeline.now(sim.timeline.playout.committed).state.mix == Mix(low=6.0, high=3.0)


def test_a_rejected_prompt_takes_its_desk_with_it() -> None:
    sim = playing()
    sim.alive = False
    sim.steer("1", prompt="second", mix=mix(low=-12.0))
    take = sim.timeline._pending
    assert take is not None
    sim.timeline._reject(take, "internal", "broken")
    sim.alive = True
    assert sim.timeline.target().mix == Mix()


def test_reset_makes_the_desk_neutral_at_the_bar_line() -> None:
    sim = playing()
    sim.steer("1", mix=mix(fade=True, ramp_s=0.1))
    sim.run(1)
    sim.transport("reset", "2")
    sim.run(4)
    assert sim.answers("2") == ["Scheduled", "Applied"]
    state = sim.timeline.now(sim.timeline.playout.committed).state
    assert state.mix == Mix()
    assert not state.steered


def test_a_long_crossfade_does_not_delay_the_desk() -> None:
    sim = playing()
    sim.steer("1", prompt="second", ramp_s=3.0)
    sim.run(2)
    assert sim.timeline.playout.mixer.fading
    sim.steer("2", mix=mix(low=-12.0))
    sim.run(0.1)
    assert sim.answers("2") == ["Scheduled", "Applied"]


def test_a_fade_is_silence_and_no_fault() -> None:
    sim = playing(settings=TimelineSettings())
    before = loudness(sim.blocks[-1].pcm)
    sim.steer("1", mix=mix(fade=True, ramp_s=0.5))
    sim.run(30)
    assert all(block.silent for block in sim.blocks[-280:])
    assert (sim.timeline.playout.underruns, sim.timeline.playout.repeats) == (0, 0)
    assert not {"underrun", "repeat", "late"} & set(sim.events())
    sim.steer("2", mix=mix(fade=False, ramp_s=0.2))
    sim.run(1)
    assert loudness(sim.blocks[-1].pcm) == pytest.approx(before, rel=0.05), "the gain was not raised in the silence"


def test_the_default_fade_takes_two_seconds_and_other_changes_fifty_milliseconds() -> None:
    sim = playing()
    sim.steer("1", mix=mix(fade=True, mid=-60.0, low=-60.0))
    sim.run(3)
    pcm, pos = sim.pcm, sim.applied("1")
    pcm = np.concatenate([np.zeros(sim.blocks[0].pos), pcm])
    assert np.abs(pcm[pos + 4800 : pos + 80_000]).max() < 1e-4
    sim.steer("2", mix=mix(mid=None, low=None, fade=False))
    sim.run(1)
    assert loudness(sim.blocks[-1].pcm) > 0.01, "half of the way after a second"
    sim.run(2)
    assert loudness(sim.blocks[-1].pcm) == pytest.approx(0.1 / 2**0.5, rel=0.01)


def test_the_leveller_does_not_raise_what_the_desk_lowers() -> None:
    sim = playing(settings=TimelineSettings(), clicks=False)
    sim.run(10)
    before = loudness(sim.blocks[-1].pcm)
    sim.steer("1", mix=mix(tonal=-12.0))
    sim.run(20)
    assert loudness(sim.blocks[-1].pcm) == pytest.approx(before * 10 ** (-12 / 20), rel=0.02)


def test_muted_drums_are_gone_and_come_back_as_they_were() -> None:
    sim = playing(clicks=True)
    sim.run(3)
    clicks = np.abs(sim.pcm[-144_000:]).max()
    sim.steer("1", mix=mix(mute=("drums",)))
    sim.run(4)
    assert not sim.pcm[-48_000 * 3 :].any(), "this metronome has nothing but its drums"
    sim.steer("2", mix=mix(mute=()))
    sim.run(4)
    assert np.abs(sim.pcm[-144_000:]).max() == clicks


def test_a_generator_that_ends_takes_nothing_of_the_desk() -> None:
    sim = playing()
    sim.steer("1", mix=mix(filter=-0.5, ramp_s=2.0))
    sim.run(0.5)
    sim.kill()
    sim.steer("2", mix=mix(hold=True, low=3.0))
    sim.run(6)
    assert sim.answers("2") == ["Scheduled", "Applied"]
    sim.restart()
    sim.run(6)
    assert sim.timeline.now(sim.timeline.playout.committed).state.mix == Mix(filter=-0.5, low=3.0, hold=True)


def test_a_paused_station_moves_its_desk() -> None:
    sim = playing()
    sim.transport("pause")
    sim.run(1)
    sim.steer("1", mix=mix(low=-60.0, mid=-60.0, high=-60.0), at="bar")
    sim.run(0.2)
    assert sim.answers("1") == ["Scheduled", "Applied"]
    sim.transport("resume")
    sim.run(2)
    assert not sim.blocks[-1].pcm.any()


def test_a_rendered_file_has_the_desk_from_its_first_sample(tmp_path: Path) -> None:
    renderer = ToneRenderer(waits=1)
    score = Score.of(StationConfig(), renderer.info, Journey.single("first"))
    settings = TimelineSettings(loudness_lufs=None, ahead_s=1.0)
    plain = np.concatenate(list(run(score, ToneRenderer(waits=1), 96_000, settings)))
    log = SteeringLog("render", tmp_path / "log")
    rendered = np.concatenate(
        list(run(score, renderer, 96_000, settings, log=log, mix=Mix(mute=("drums",), width=0.5)))
    )
    log.close(96_000)
    assert np.abs(plain).max() > 0.15
    assert np.abs(rendered).max() < 0.11, "no click, not even the first"
    again = np.concatenate(list(replay(tmp_path / "log", ToneRenderer(waits=1))))
    assert np.array_equal(again, rendered)


def test_steers_of_a_held_connection_merge_field_by_field() -> None:
    old = protocol.Steer(id="1", mix=mix(low=-3.0, tilt=1.0, ramp_s=2.0))
    assert merge(old, protocol.Steer(id="2", mix=mix(low=1.0))).mix == mix(low=1.0, tilt=1.0, ramp_s=2.0)
    assert merge(old, protocol.Steer(id="2", bpm=90.0)).mix == old.mix
    assert merge(old, protocol.Steer(id="2", mix=None)).mix is None
    after_null = merge(protocol.Steer(id="1", mix=None), protocol.Steer(id="2", mix=mix(low=1.0))).mix
    assert isinstance(after_null, MixChange)
    assert Mix().changed(**after_null.fields()) == Mix(low=1.0)
