"""The timeline: splices, tempo, the ladder, pauses, and what requests are told."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from riffstream import protocol
from riffstream.config import StationConfig, TimelineSettings
from riffstream.generator.messages import Failed, Job
from riffstream.generator.renderer import pitch_of
from riffstream.journey.journey import Journey
from tests.station.sim import FRAME, Sim, click_positions, largest_step, pitch

SECOND = 48_000
BEAT = 24_000  # samples at 120 beats a minute
CLICK = 16  # samples, a third of a millisecond: where a click is found depends on its pitch
# A tone of amplitude 0.1 at 800 Hz, at most two of them at once, and rounding.
SMOOTH = 2 * 0.1 * 2 * np.pi * 801 / 48_000 * 1.05


def tone(prompt: str) -> float:
    spec = Journey.single(prompt).clip(0)
    return pitch_of(Job(station="", take=0, number=0, clip=0, spec=spec, hops=(375.0,) * 8))


def test_a_station_begins_with_sound_and_goes_on_for_ever() -> None:
    sim = Sim()
    sim.run(60)
    assert len(sim.pcm) > 59 * SECOND
    assert sim.events() == ["splice"]
    assert pitch(sim.pcm[SECOND : 9 * SECOND]) == pytest.approx(tone("first"), abs=0.5)
    assert largest_step(sim.pcm) < SMOOTH
    assert sim.timeline.playout.underruns == 0


def test_asap_is_heard_as_soon_as_its_first_audio_is_there() -> None:
    sim = Sim(waits=3)
    sim.run(10)
    before = sim.timeline.playout.committed
    sim.steer("a", "second")
    sim.run(3)
    assert sim.answers("a") == ["Scheduled", "Applied"]
    at = sim.applied("a")
    assert before <= at < before + 0.8 * SECOND
    assert pitch(sim.pcm[at - 2 * SECOND : at]) == pytest.approx(tone("first"), abs=1)
    assert pitch(sim.pcm[at + 1440 : at + SECOND]) == pytest.approx(tone("second"), abs=1)
    assert largest_step(sim.pcm) < SMOOTH


@pytest.mark.parametrize(("at", "beats"), [("beat", 1), ("bar", 4), ("clip", 8)])
def test_splices_fall_on_the_grid_that_was_asked_for(at: str, beats: int) -> None:
    sim = Sim()
    sim.run(7.3)
    sim.steer("a", "second", at=at)
    sim.run(6)
    # The crossfade ends on the beat, so that what begins on the beat is the new sound's.
    fade = round(sim.settings.crossfade_ms * 48)
    assert (sim.applied("a") + fade) % (beats * BEAT) == 0


def test_the_beat_does_not_stumble_when_the_music_changes() -> None:
    sim = Sim(clicks=True)
    sim.run(7.3)
    for number, at in enumerate(("asap", "beat", "bar", "clip")):
        sim.steer(str(number), f"prompt {number}", at=at)
        sim.run(7.1)
    clicks = click_positions(sim.pcm)[1:]  # the first is under the station's own fade-in
    gaps = np.diff(clicks)
    # A click under a crossfade may be too soft to be found: then a gap is two beats long.
    assert set(np.round(gaps / BEAT)) <= {1.0, 2.0}
    assert np.abs(gaps - np.round(gaps / BEAT) * BEAT).max() <= CLICK


@pytest.mark.parametrize("fields", [{"bpm": 150.0}, {"bpm": 70.0}, {"key": 5.0}])
def test_tempo_and_key_make_no_new_clip(fields: dict[str, float]) -> None:
    sim = Sim()
    sim.run(9)
    first = len(sim.jobs)
    sim.steer("a", **fields)
    sim.run(1)
    known = {job.clip for job in sim.jobs[:first]}
    assert sim.jobs[first].clip in known
    assert sim.answers("a") == ["Scheduled", "Applied"]


def test_a_new_tempo_is_exact_and_starts_on_the_old_beat() -> None:
    sim = Sim(clicks=True)
    sim.run(9)
    sim.steer("a", bpm=150.0, at="bar")
    sim.run(9)
    at = sim.applied("a")
    clicks = click_positions(sim.pcm)
    gaps = np.diff(clicks[clicks > at + 2000])
    assert np.abs(gaps - 60 / 150 * SECOND).max() <= CLICK
    bar = at + round(sim.settings.crossfade_ms * 48)
    assert np.abs(clicks - bar).min() <= 200  # a click sounds within 4 ms of the bar line, at either tempo


def test_a_key_change_transposes() -> None:
    sim = Sim()
    sim.run(9)
    sim.steer("a", key=-3.0)
    sim.run(5)
    assert pitch(sim.pcm[-3 * SECOND :]) == pytest.approx(tone("first") * 2 ** (-3 / 12), abs=1)


def test_a_tempo_ramp_speeds_up_beat_by_beat() -> None:
    sim = Sim(clicks=True)
    sim.run(9)
    sim.steer("a", bpm=160.0, ramp_s=6.0, at="beat")
    sim.run(14)
    clicks = click_positions(sim.pcm)
    gaps = np.diff(clicks[clicks > sim.applied("a") + BEAT])
    assert (np.diff(gaps) <= 2 * CLICK).all()
    assert gaps[-1] == pytest.approx(60 / 160 * SECOND, abs=CLICK)
    assert len(set(gaps.tolist())) > 5


def test_a_ramp_of_prompts_is_heard_as_a_glide() -> None:
    sim = Sim()
    sim.run(9)
    sim.steer("a", "second", ramp_s=30.0)
    sim.run(45)
    at = sim.applied("a")
    tones = [pitch(sim.pcm[at + s * SECOND : at + (s + 2) * SECOND]) for s in (1, 9, 17, 25, 36)]
    low, high = sorted((tone("first"), tone("second")))
    assert all(low - 1 <= each <= high + 1 for each in tones)
    assert tones[-1] == pytest.approx(tone("second"), abs=1)
    steps = np.diff(tones) * np.sign(tone("second") - tone("first"))
    assert (steps > -1).all()


def test_a_short_ramp_is_a_long_crossfade() -> None:
    sim = Sim()
    sim.run(9)
    sim.steer("a", "second", ramp_s=2.0)
    sim.run(6)
    at = sim.applied("a")
    middle = sim.pcm[at + SECOND - 12_000 : at + SECOND + 12_000]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)), SECOND))
    for prompt in ("first", "second"):
        place = round(tone(prompt))
        assert spectrum[place - 3 : place + 4].max() > 0.3 * spectrum.max(), prompt


def test_a_later_steer_takes_the_place_of_one_that_was_not_heard() -> None:
    sim = Sim(waits=20)
    sim.run(9)
    sim.steer("a", "second")
    sim.steer("b", bpm=100.0)
    sim.run(5)
    assert sim.answers("a") == ["Scheduled", "Superseded"]
    assert sim.answers("b") == ["Scheduled", "Applied"]
    superseded = next(reply for reply in sim.replies if isinstance(reply, protocol.Superseded))
    assert superseded.by == "b"
    # What the first asked for is merged into the second.
    state = sim.timeline.now(sim.timeline.playout.committed).state
    assert ([prompt.text for prompt in state.prompts], state.bpm) == (["second"], 100.0)
    assert pitch(sim.pcm[-2 * SECOND :]) == pytest.approx(tone("second"), abs=1)


def test_steers_that_never_end_are_still_heard() -> None:
    sim = Sim(waits=15)
    sim.steps = 2
    sim.run(20)
    for number in range(60):
        sim.steer(str(number), f"prompt {number}")
        sim.run(0.3)
    sim.steps = 12
    sim.run(5)
    applied = [number for number in range(60) if "Applied" in sim.answers(str(number))]
    assert len(applied) >= 3
    assert 59 in applied
    assert sim.timeline.playout.underruns == 0


def test_a_thousand_steers_in_a_row_leave_the_sound_continuous_and_the_state_right() -> None:
    sim = Sim(waits=2)
    sim.run(9)
    draw = np.random.default_rng(0)
    for number in range(1000):
        match number % 4:
            case 0:
                sim.steer(str(number), f"prompt {number}", at=("asap", "beat", "bar", "clip")[number // 4 % 4])
            case 1:
                sim.steer(str(number), key=float(draw.integers(-6, 7)))
            case 2:
                sim.steer(str(number), guidance=float(draw.integers(1, 9)), at="beat")
            case _:
                sim.steer(str(number), bpm=float(draw.integers(80, 160)))
        if number % 3 == 0:
            sim.run(0.1)
    sim.run(8)
    assert sim.timeline.rev > 700  # repeating what holds already makes no revision
    kinds = [sim.answers(str(number)) for number in range(1000)]
    assert all(kind[0] == "Scheduled" and kind[-1] in ("Applied", "Superseded") for kind in kinds)
    assert all(len(kind) == 2 for kind in kinds)
    state = sim.timeline.now(sim.timeline.playout.committed).state
    assert state == sim.timeline.target()
    assert state.prompts[0].text == "prompt 996"
    assert sim.timeline.playout.underruns == 0
    assert largest_step(sim.pcm) < 2 * SMOOTH  # transposed up by as much as six semitones
    assert len(sim.timeline._planner.takes) < 5
    assert len(sim.timeline._waiting) < 5


def test_a_stale_revision_is_rejected_and_changes_nothing() -> None:
    sim = Sim()
    sim.run(5)
    sim.steer("a", bpm=100.0)
    sim.steer("b", bpm=90.0, if_rev=0)
    sim.steer("c", bpm=95.0, if_rev=1)
    assert sim.answers("b") == ["Rejected"]
    assert sim.answers("c")[0] == "Scheduled"
    rejected = next(reply for reply in sim.replies if isinstance(reply, protocol.Rejected))
    assert (rejected.code, rejected.field) == ("stale_rev", "if_rev")


def test_a_steer_that_changes_nothing_is_applied_at_once() -> None:
    sim = Sim()
    sim.run(5)
    sim.steer("a", bpm=100.0)
    sim.run(3)
    rev = sim.timeline.rev
    sim.steer("b", bpm=100.0)
    assert sim.answers("b") == ["Scheduled", "Applied"]
    assert sim.timeline.rev == rev


def test_what_cannot_be_rendered_is_rejected_and_the_music_goes_on() -> None:
    sim = Sim(waits=1000)
    sim.steps = 1100
    sim.run(9)
    sim.steps = 0
    sim.steer("a", "second", seed_image="no such seed")
    sim.run(0.1)
    job = sim.jobs[-1]
    sim.renderer.drop(job.station, job.take)
    sim.timeline.failed(Failed("main", job.take, job.number, "parameter", "seed_image is unknown"), sim.time)
    sim.steps = 1100
    sim.run(5)
    assert sim.answers("a") == ["Scheduled", "Rejected"]
    assert sim.timeline.target().seed_image is None
    assert [prompt.text for prompt in sim.timeline.target().prompts] == ["first"]
    assert sim.timeline.playout.underruns == 0
    sim.steer("b", "third")
    sim.run(5)
    assert sim.answers("b") == ["Scheduled", "Applied"]


def test_a_change_that_waited_for_one_that_fails_is_what_the_next_builds_on() -> None:
    sim = Sim()
    sim.run(20)
    sim.steps = 0
    sim.steer("a", "second", seed_image="no such seed")
    sim.run(2.5)  # so long unheard that the next one waits for it
    sim.steer("b", "third", seed_image=None)
    job = sim.jobs[-1]
    sim.renderer.drop(job.station, job.take)
    sim.timeline.failed(Failed("main", job.take, job.number, "parameter", "seed_image is unknown"), sim.time)
    assert [prompt.text for prompt in sim.timeline.target().prompts] == ["third"]
    sim.steps = 12
    sim.run(6)
    assert [sim.answers(ident)[-1] for ident in "ab"] == ["Rejected", "Applied"]
    sim.steer("c", bpm=100.0)
    sim.run(20)
    state = sim.timeline.now(sim.timeline.playout.committed).state
    assert ([prompt.text for prompt in state.prompts], state.bpm) == (["third"], 100.0)
    assert pitch(sim.pcm[-2 * SECOND :]) == pytest.approx(tone("third"), abs=1)


def test_a_clip_of_the_journey_that_fails_is_stepped_over() -> None:
    sim = Sim()
    sim.run(3)
    lead = sim.timeline.playout.lead
    assert lead is not None
    sim.run(1)
    while lead.outstanding is None:
        sim.steps = 0
        sim.run(0.1)
    job = lead.outstanding
    sim.renderer.drop(job.station, job.take)
    sim.timeline.failed(Failed("main", job.take, job.number, "internal", "not finite"), sim.time)
    sim.steps = 12
    sim.run(20)
    assert sim.timeline.playout.underruns == 0
    assert sim.timeline.playout.lead is not lead


# -- the ladder -----------------------------------------------------------------------------------------------------


def test_a_slow_generator_is_asked_for_less() -> None:
    sim = Sim(waits=40)
    sim.steps = 1
    sim.run(120)
    steps = {job.steps for job in sim.jobs}
    assert any(step is not None for step in steps)
    assert "late" in sim.events()
    eased = [job for job in sim.jobs if job.spec.start.guidance == 1.0]
    assert eased


def test_a_steer_on_a_slow_machine_is_made_in_fewer_steps() -> None:
    sim = Sim(waits=22, settings=TimelineSettings(loudness_lufs=None, haste_s=0.8))
    sim.steps = 2  # 1.1 s to a clip's first audio, 1.5 s in all: enough to keep up, too slow to wait for
    sim.run(30)
    sim.steer("a", "second")
    sim.run(25)
    steered = [job for job in sim.jobs if job.rev > 0]
    assert steered[0].steps == 3  # of 4
    assert all(job.steps is None for job in steered[-3:])
    assert sim.answers("a") == ["Scheduled", "Applied"]
    assert sim.timeline.playout.underruns == sim.timeline.playout.repeats == 0


def test_when_nothing_comes_the_last_clip_is_repeated_in_time_and_then_silence() -> None:
    sim = Sim(clicks=True, settings=TimelineSettings(loudness_lufs=None, repeats=2))
    sim.run(10)
    sim.alive = False
    sim.run(40)
    events = sim.events()
    assert events[-2:] == ["repeat", "underrun"]
    silent = sim.pcm[-5 * SECOND :]
    assert not silent.any()
    clicks = click_positions(sim.pcm)[1:]
    gaps = np.diff(clicks)
    assert np.abs(gaps - np.round(gaps / BEAT) * BEAT).max() <= CLICK
    assert len(clicks) > 40  # ten seconds of music, what was ahead, and two repeats of four


def test_it_comes_back_from_silence_and_from_repeats() -> None:
    for away in (2.0, 12.0, 60.0):
        sim = Sim()
        sim.run(10)
        sim.alive = False
        sim.run(away)
        sim.alive = True
        sim.run(10)
        assert sim.pcm[-5 * SECOND :].any(), away
        assert pitch(sim.pcm[-4 * SECOND :]) == pytest.approx(tone("first"), abs=1), away
        assert largest_step(sim.pcm) < SMOOTH, away
        assert ("recovered" in sim.events()) == (away > 10), away


def test_no_history_means_silence_not_a_crash() -> None:
    sim = Sim(settings=TimelineSettings(loudness_lufs=None, repeats=0))
    sim.run(3)
    sim.alive = False
    sim.run(30)
    assert sim.timeline.playout.underruns == 1
    assert sim.timeline.playout.repeats == 0


def test_a_killed_generator_is_bridged_and_its_successor_taken_up() -> None:
    sim = Sim()
    sim.run(10)
    sim.kill()
    sim.run(3)
    assert sim.events() == ["splice", "generator"]
    sim.restart()
    sim.run(20)
    assert sim.timeline.playout.underruns == 0
    assert largest_step(sim.pcm) < SMOOTH
    assert sim.events() == ["generator", "splice"]


def test_a_steer_survives_the_generator() -> None:
    sim = Sim(waits=30)
    sim.run(20)
    sim.steer("a", "second")
    sim.run(0.1)
    sim.kill()
    sim.run(2)
    sim.restart()
    sim.run(10)
    assert sim.answers("a") == ["Scheduled", "Applied"]
    assert pitch(sim.pcm[-3 * SECOND :]) == pytest.approx(tone("second"), abs=1)


def test_moves_to_other_generators_are_no_clips_fault() -> None:
    sim = Sim(waits=30)
    sim.run(20)
    sim.steer("a", "second")
    for _ in range(4):  # a clip at fault in two ends would be given up
        sim.run(0.1)
        assert sim.jobs[-1].rev == 1
        sim.kill(blame=False)
        sim.restart()
    sim.run(10)
    assert sim.answers("a") == ["Scheduled", "Applied"]
    assert not any(job.suspect for job in sim.jobs)
    assert sim.timeline.playout.underruns == 0
    assert largest_step(sim.pcm) < SMOOTH


# -- pause ----------------------------------------------------------------------------------------------------------


def test_pause_is_silence_and_resume_goes_on_where_it_stopped() -> None:
    sim = Sim(clicks=True)
    sim.run(7.3)
    sim.transport("pause", "p")
    at = sim.applied("p")
    beat = sim.timeline.playout.beat(at)
    sim.run(5)
    assert not sim.pcm[-4 * SECOND :].any()
    assert sim.timeline.now(sim.timeline.playout.committed - 1).state.paused
    sim.transport("resume", "r")
    assert sim.timeline.playout.beat(sim.applied("r")) == pytest.approx(beat, abs=1e-3)
    sim.run(5)
    assert sim.pcm[-SECOND:].any()
    assert not sim.timeline.now(sim.timeline.playout.committed - 1).state.paused
    assert [event for event in sim.events() if event in ("paused", "resumed")] == ["paused", "resumed"]


def test_a_pause_before_two_scheduled_takes_leaves_nobody_without_an_answer() -> None:
    """A change is scheduled for the next bar, and the take of a new generator after it; a pause unschedules both."""
    sim = Sim()
    sim.run(0.2)
    sim.steer("a", "second", at="bar")
    sim.run(0.1)
    sim.kill()
    sim.restart()
    sim.run(0.1)
    assert len([cue for cue in sim.timeline.playout.mixer.coming if cue.kind == "take"]) == 2
    sim.transport("pause")
    sim.run(1)
    sim.transport("resume")
    sim.run(20)
    assert sim.answers("a") == ["Scheduled", "Applied"]
    assert sim.timeline.target().prompts[0].text == "second"


def test_audio_that_comes_right_after_a_resume_is_heard() -> None:
    """The resume begins with silence, since there is nothing yet; before that has begun there is."""
    sim = Sim(clicks=False, waits=3)
    sim.run(10)
    sim.alive = False
    sim.run(40)
    sim.transport("pause")
    sim.run(2)
    sim.transport("resume", "r")
    assert sim.timeline.playout.bridging
    sim.render(200)  # everything at once, before another block is due
    sim.alive = True
    sim.run(20)
    assert sim.pcm[-4 * SECOND :].any()
    assert sim.timeline.playout.mixer.current.kind == "take"
    assert sim.blocks[-1].rev == sim.timeline.rev


def test_nothing_is_rendered_while_paused() -> None:
    sim = Sim()
    sim.run(5)
    sim.transport("pause")
    sim.run(1)
    jobs = len(sim.jobs)
    sim.run(60)
    assert len(sim.jobs) == jobs


def test_a_steer_during_a_pause_is_heard_after_it() -> None:
    for at in ("asap", "bar", "clip"):
        sim = Sim()
        sim.run(9)
        sim.transport("pause")
        sim.run(2)
        sim.steer("a", "second", at=at)
        sim.run(3)
        assert sim.answers("a") == ["Scheduled"]
        sim.transport("resume")
        sim.run(9)
        assert sim.answers("a") == ["Scheduled", "Applied"], at
        assert pitch(sim.pcm[-2 * SECOND :]) == pytest.approx(tone("second"), abs=1)
        revs = [block.rev for block in sim.blocks]
        assert revs == sorted(revs)
        assert revs[-1] == sim.timeline.rev == 3, "the resume's, though the steer's take began right after it"


def test_pausing_right_after_a_steer_keeps_it() -> None:
    sim = Sim()
    sim.run(9)
    sim.steer("a", "second", at="clip")
    sim.run(0.5)
    sim.transport("pause")
    sim.run(3)
    sim.transport("resume")
    sim.run(9)
    assert sim.answers("a") == ["Scheduled", "Applied"]
    assert pitch(sim.pcm[-2 * SECOND :]) == pytest.approx(tone("second"), abs=1)


def test_reset_and_skip() -> None:
    sim = Sim(journey=Journey.visit(["first", "other"], 4, 2))
    sim.run(5)
    sim.transport("skip", "s")
    sim.run(6)
    assert sim.answers("s") == ["Scheduled", "Applied"]
    assert pitch(sim.pcm[-2 * SECOND :]) == pytest.approx(tone("other"), abs=1)
    sim.steer("a", "second", bpm=100.0)
    sim.run(3)
    sim.transport("reset", "r")
    sim.run(6)
    state = sim.timeline.now(sim.timeline.playout.committed).state
    assert (state.prompts[0].text, state.bpm, state.steered) == ("first", 120.0, False)


# -- loudness, deadlines, the shape of jobs -------------------------------------------------------------------------


def test_loudness_is_levelled_to_the_target() -> None:
    from riffstream.audio.loudness import LoudnessMeter

    sim = Sim(settings=TimelineSettings(loudness_lufs=-20.0))
    sim.run(20)
    meter = LoudnessMeter(48_000, 2)
    meter.push(np.concatenate([block.pcm for block in sim.blocks[50:]]))
    assert meter.integrated == pytest.approx(-20, abs=0.7)
    assert meter.true_peak <= -1


def test_jobs_of_a_take_are_numbered_in_a_row_and_continue_one_another() -> None:
    sim = Sim()
    sim.run(60)
    for one, two in itertools.pairwise(sim.jobs):
        assert (two.take, two.number, two.previous) == (one.take, one.number + 1, one.clip)
    assert all(job.start_frame == 0 for job in sim.jobs)


def test_a_steer_is_more_urgent_than_what_is_ahead() -> None:
    sim = Sim(waits=30)
    sim.run(20)
    sim.steps = 0
    sim.steer("a", "second")
    sim.run(0.2)
    steered = sim.jobs[-1]
    assert not steered.speculative
    assert steered.deadline <= sim.time
    assert steered.start_frame > 0 or steered.hops


def test_the_station_can_fix_tempo_and_key() -> None:
    sim = Sim(journey=Journey.single("first", bpm=90.0, key=2.0), station=StationConfig(bpm=140.0, key=-1.0))
    sim.run(2)
    state = sim.timeline.now(sim.timeline.playout.committed).state
    assert (state.bpm, state.key) == (140.0, -1.0)


def test_now_follows_the_beat() -> None:
    sim = Sim()
    sim.run(10)
    for pos in (0, SECOND, 5 * SECOND + 7):
        assert sim.timeline.now(pos).beat == pytest.approx(pos / BEAT, abs=1e-3)
    assert sim.timeline.now(5 * SECOND).clip == 1
    assert FRAME == 4800
