"""Two faults at once, and one that repeats, on a station without processes: it asks again, and its sound comes back."""

from __future__ import annotations

import itertools

import pytest

from riffstream import protocol
from riffstream.generator.isolation import Isolation
from riffstream.generator.messages import Done, Failed, Job, Piece
from riffstream.generator.renderer import Report, ToneRenderer
from riffstream.journey.journey import Journey
from riffstream.station.fallback import MISSES
from riffstream.station.planner import LOST_S
from tests.station.sim import Sim

SECOND = 48_000


class Failing(ToneRenderer):
    """Fails the jobs that a test names."""

    def __init__(self) -> None:
        super().__init__(waits=3, clicks=False)
        self.failing: list[Failed] = []
        self.words: set[str] = set()  # every job with such a prompt fails

    def fail(self, job: Job, kind: str = "internal") -> None:
        self.drop(job.station, job.take)
        self.failing.append(Failed(job.station, job.take, job.number, kind, "no memory left for a single clip"))

    def step(self) -> list[Report]:
        for tone in list(self._jobs):
            if tone.job.spec.prompts[0].text in self.words:
                self.fail(tone.job)
        failing, self.failing = self.failing, []
        return [(failed, None) for failed in failing] or super().step()


def outstanding(sim: Sim) -> Job:
    """The lead's next job, in hand and without audio; the renderer stands still."""
    sim.steps = 0
    lead = sim.timeline.playout.lead
    assert lead is not None
    while lead.outstanding is None or sim.timeline.playout.horizon_s > 1.0:
        sim.run(0.1)
    assert not lead.sounding
    return lead.outstanding


@pytest.mark.parametrize("lead_first", [True, False])
def test_a_clip_of_what_plays_and_a_steers_clip_that_fail_together_leave_a_station_that_asks(lead_first: bool) -> None:
    renderer = Failing()
    sim = Sim(renderer=renderer)
    sim.run(20)
    ahead = outstanding(sim)
    sim.steer("a", "second")
    sim.render(0)
    steered = sim.jobs[-1]
    assert steered.take != ahead.take
    for job in (ahead, steered) if lead_first else (steered, ahead):
        renderer.fail(job)
    sim.steps = 12
    asked = len(sim.jobs)
    sim.run(60)
    assert sim.answers("a") == ["Scheduled", "Rejected"]
    assert len(sim.jobs) > asked + 10
    assert sim.pcm[-2 * SECOND :].any()
    assert sim.timeline.playout.underruns == 0
    assert {job.spec.prompts[0].text for job in sim.jobs[asked:]} == {"first"}
    sim.steer("b", "third")
    sim.run(5)
    assert sim.answers("b") == ["Scheduled", "Applied"]


def test_a_steer_whose_music_fails_after_it_was_applied_is_gone_back_on() -> None:
    """Its first clip was made; then its seed image was deleted."""
    renderer = Failing()
    sim = Sim(renderer=renderer)
    sim.run(20)
    sim.steer("a", "second", bpm=100.0)
    sim.run(6)
    assert sim.answers("a")[-1] == "Applied"
    sim.events()
    renderer.words.add("second")
    sim.run(30)
    state = sim.timeline.now(sim.timeline.playout.committed).state
    assert (state.prompts[0].text, state.bpm) == ("first", 120.0)
    assert state == sim.timeline.target()
    kinds = [kind for kind in sim.events() if kind in ("skipped", "fallback", "underrun")]
    assert kinds == ["skipped"] * (MISSES - 1) + ["fallback"]
    rev = sim.timeline.rev
    assert rev == 2
    assert sim.blocks[-1].rev == rev
    sim.steer("b", "third")
    sim.run(5)
    assert sim.answers("b") == ["Scheduled", "Applied"]


def test_a_steer_that_fails_before_the_first_sound_is_rejected_and_the_station_begins() -> None:
    renderer = Failing()
    sim = Sim(renderer=renderer)
    sim.steps = 0
    sim.run(0.1)
    renderer.words.add("second")
    sim.steer("a", "second", seed_image="unknown")
    sim.steps = 12
    sim.run(3)
    assert sim.answers("a") == ["Scheduled", "Rejected"]
    assert [part.text for part in sim.timeline.target().prompts] == ["first"]
    assert sim.pcm[-SECOND:].any()


def test_an_older_take_that_fails_does_not_bring_its_state_back() -> None:
    """What plays until a scheduled change begins is not what plays next."""
    renderer = Failing()
    sim = Sim(renderer=renderer)
    sim.run(20)
    old = outstanding(sim)
    sim.steps = 12
    sim.steer("a", "second", at="clip")
    while sim.timeline.playout.lead is not None and sim.timeline.playout.lead.ident == old.take:
        sim.run(0.1)
    sim.timeline.failed(Failed("main", old.take, old.number, "internal", "x"), sim.time)
    sim.run(20)
    assert sim.answers("a") == ["Scheduled", "Applied"]
    assert sim.timeline.target().prompts[0].text == "second"
    assert sim.timeline.now(sim.timeline.playout.committed).state.prompts[0].text == "second"


# -- a generator that dies of one clip ------------------------------------------------------------------------------


class Deadly(ToneRenderer):
    """Ends the process with certain prompts (here: raises what the simulation takes for its end)."""

    def __init__(self, *words: str) -> None:
        super().__init__(waits=3, clicks=False)
        self.words = set(words)

    def step(self) -> list[Report]:
        if any(tone.job.spec.prompts[0].text in self.words for tone in self._jobs):
            raise SystemExit
        return super().step()


class Mortal(Sim):
    """A simulation whose generator may end, and is replaced after a second."""

    def __init__(self, deadly: Deadly, **more: object) -> None:
        super().__init__(renderer=Isolation(deadly), **more)  # type: ignore[arg-type]
        self.deadly = deadly
        self.deaths = 0
        self._back_at = 0.0

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds * 10)):
            if not self.alive and self.time >= self._back_at:
                self.restart()
            try:
                super().run(0.1)
            except SystemExit:
                self.deaths += 1
                self.kill()
                self.renderer = Isolation(self.deadly)
                self._back_at = self.time + 1.0
                super().run(0.1)


def test_a_change_that_ends_the_generator_twice_is_rejected() -> None:
    sim = Mortal(Deadly("poison"))
    sim.run(20)
    sim.steer("a", "poison")
    sim.run(30)
    assert sim.deaths == 2
    assert sim.answers("a") == ["Scheduled", "Rejected"]
    refusal = next(reply for reply in sim.replies if isinstance(reply, protocol.Rejected))
    assert refusal.code == "internal"
    assert "ended 2 times" in refusal.message
    assert sim.timeline.playout.underruns == 0
    assert sim.timeline.target().prompts[0].text == "first"
    sim.steer("b", "third")
    sim.run(5)
    assert sim.answers("b") == ["Scheduled", "Applied"]


def test_what_plays_is_not_at_fault_for_the_changes_deaths() -> None:
    """Its own next clip was in hand too the first time; the second time there was only the change."""
    sim = Mortal(Deadly("poison"))
    sim.run(20)
    outstanding(sim)
    sim.steer("a", "poison")
    sim.render(0)
    sim.steps = 12
    sim.run(30)
    assert sim.deaths == 2
    assert sim.answers("a") == ["Scheduled", "Rejected"]
    assert not {"skipped", "fallback", "underrun"} & set(sim.events())


def test_a_change_that_was_only_near_is_not_rejected() -> None:
    """The generator ends twice, both times of something else: this one waits for its turn the second time."""
    sim = Mortal(Deadly())
    sim.run(20)
    sim.steps = 0
    sim.steer("a", "second")
    sim.run(0.1)
    sim.kill()
    sim.run(0.5)
    sim.restart()
    sim.run(0.1)
    assert sim.jobs[-1].suspect
    sim.kill()  # no trial of it has begun
    sim.run(0.5)
    sim.steps = 12
    sim.restart()
    sim.run(5)
    assert sim.answers("a") == ["Scheduled", "Applied"]


def test_a_journey_whose_next_stop_ends_the_generator_goes_on_without_it() -> None:
    sim = Mortal(Deadly("poison"), journey=Journey.visit(["first", "poison", "other"], 2, 1))
    sim.run(120)
    told = sim.events()
    assert sim.pcm[-2 * SECOND :].any()
    assert 0 < sim.deaths < 20  # 30 if every clip near that stop were asked for
    assert "skipped" in told
    heard = {job.spec.prompts[0].text for job in sim.jobs[-8:]}
    assert heard & {"first", "other"}


def test_music_that_ends_the_generator_after_it_was_applied_is_gone_back_on() -> None:
    sim = Mortal(Deadly())
    sim.run(20)
    sim.steer("a", "second")
    sim.run(6)
    assert sim.answers("a")[-1] == "Applied"
    sim.deadly.words.add("second")
    sim.events()
    sim.run(120)
    assert sim.deaths == MISSES + 1
    assert "fallback" in sim.events()
    assert sim.timeline.target().prompts[0].text == "first"
    assert sim.pcm[-2 * SECOND :].any()
    assert sim.deaths == MISSES + 1, "and then it lives"


def test_deaths_apart_from_each_other_are_no_faults_of_the_music() -> None:
    sim = Mortal(Deadly())
    sim.run(20)
    for _ in range(20):
        outstanding(sim)
        sim.kill()
        sim.run(1)
        sim.steps = 12
        sim.restart()
        sim.run(10)
    assert not {"skipped", "fallback", "underrun"} & set(sim.events())


# -- messages that are late, come twice or not at all ---------------------------------------------------------------


def test_what_comes_twice_counts_once() -> None:
    plain, doubled = (
        Sim(renderer=Isolation(ToneRenderer(waits=3, clicks=False))),
        Sim(renderer=Isolation(ToneRenderer(waits=3, clicks=False))),
    )
    deliver = doubled._deliver

    def twice(report: Report) -> None:
        deliver(report)
        deliver(report)

    doubled._deliver = twice  # type: ignore[method-assign]
    for sim in (plain, doubled):
        sim.run(30)
    assert (plain.pcm == doubled.pcm).all()
    assert len(plain.jobs) == len(doubled.jobs)


@pytest.mark.parametrize("lost", [Piece, Done])
def test_a_message_that_is_lost_costs_a_clip_and_no_more(lost: type) -> None:
    sim = Sim(renderer=Isolation(ToneRenderer(waits=3, clicks=False)))
    sim.run(20)
    deliver, dropped = sim._deliver, []

    def lossy(report: Report) -> None:
        if not dropped and isinstance(report[0], lost):
            dropped.append(report)
        else:
            deliver(report)

    sim._deliver = lossy  # type: ignore[method-assign]
    for _ in range(600):
        sim.run(0.1)
        if not sim.renderer.pending:
            sim.timeline.idle(sim.time)
    assert dropped
    assert sim.timeline.playout.underruns == 0
    assert sim.pcm[-2 * SECOND :].any()
    assert len(sim.jobs) > 15


def test_a_job_that_never_arrives_is_asked_for_again() -> None:
    sim = Sim()
    sim.run(20)
    lead = sim.timeline.playout.lead
    assert lead is not None
    sim.steps = 0
    while (job := lead.outstanding) is None:
        sim.run(0.1)
    sim.renderer.drop(job.station, job.take)  # the generator knows nothing of it
    sim.steps = 12
    asked = len(sim.jobs)
    sim.timeline.idle(sim.time)
    sim.run(1)
    assert len(sim.jobs) == asked, "it may still be on its way"
    sim.run(LOST_S)
    sim.timeline.idle(sim.time)
    sim.run(20)
    assert len(sim.jobs) > asked
    assert sim.pcm[-2 * SECOND :].any()


def test_answers_to_earlier_jobs_of_a_take_are_ignored() -> None:
    sim = Sim()
    sim.run(20)
    lead = sim.timeline.playout.lead
    assert lead is not None
    asked = len(sim.jobs)
    for kind, number in itertools.product(("internal", "parameter"), range(lead.number)):
        sim.timeline.failed(Failed("main", lead.ident, number, kind, "late"), sim.time)
        sim.timeline.cancelled(lead.ident, number)
        sim.timeline.done(Done("main", lead.ident, number), sim.time)
    sim.run(20)
    assert sim.timeline.playout.lead is lead
    assert len(sim.jobs) > asked
