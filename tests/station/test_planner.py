"""The planner by itself: what it asks for, and what it ignores."""

from __future__ import annotations

import json
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from riffstream.config import StationConfig, TimelineSettings
from riffstream.generator.messages import Cancel, Done, DropTake, Failed, Job, Pcm, ToGenerator
from riffstream.generator.renderer import ToneRenderer
from riffstream.journey.journey import Journey, Stop
from riffstream.journey.keyframe import Keyframe
from riffstream.station.beats import Ramp
from riffstream.station.bridges import SILENCE_FADE
from riffstream.station.effort import SHARE, Effort
from riffstream.station.planner import RETRY_MOST_S, RETRY_S, Planner
from riffstream.station.playout import Playout
from riffstream.station.score import Change, Score
from riffstream.station.splices import Opening
from riffstream.station.steering_log import SteeringLog
from riffstream.station.take import Take

BEAT = 24_000
SCORE = Score.of(StationConfig(), ToneRenderer().info, Journey.single("a"))


def sound(beats: float) -> Pcm:
    return np.full((round(beats * BEAT), 2), 0.1, np.float32)


def opened(planner: Planner, rev: int = 0) -> Take:
    return planner.open(rev, SCORE, Opening(0.0, 0.0, 0, []))


def only_job(messages: list[ToGenerator]) -> Job:
    assert len(messages) == 1
    assert isinstance(messages[0], Job)
    return messages[0]


def make() -> tuple[Playout, Planner]:
    playout = Playout(TimelineSettings(loudness_lufs=None, ahead_s=6.0), SteeringLog("s"))
    return playout, Planner("s", playout, Effort(), steps=None)


def playing() -> tuple[Playout, Planner, Take]:
    """A lead with one whole clip of four seconds, nothing of it played yet."""
    playout, planner = make()
    lead = opened(planner)
    job = only_job(planner.plan(0.0, lead, paused=False))
    assert planner.receive(lead.ident, job.number, sound(8), 0.1)
    assert planner.done(Done("s", lead.ident, job.number, 0.1, 0.1, 4), 0.2)
    playout.cut_to(lead, pos=0, local=0, fade=SILENCE_FADE)
    return playout, planner, lead


def test_takes_and_clips_are_numbered_in_a_row() -> None:
    _, planner = make()
    takes = [opened(planner) for _ in range(3)]
    assert [take.ident for take in takes] == [0, 1, 2]
    assert planner.takes == {take.ident: take for take in takes}
    jobs = [only_job(planner.plan(0.0, take, paused=True)) for take in takes]
    assert [(job.take, job.clip, job.number) for job in jobs] == [(0, 0, 0), (1, 1, 0), (2, 2, 0)]


def test_what_plays_is_rendered_ahead_but_not_while_paused() -> None:
    _, planner, lead = playing()
    assert planner.plan(1.0, None, paused=True) == []
    job = only_job(planner.plan(1.0, None, paused=False))
    assert (job.take, job.number, job.previous) == (lead.ident, 1, 0)
    assert job.speculative
    assert planner.plan(1.0, None, paused=False) == [], "one clip of a take at a time"


def test_a_change_goes_before_what_is_ahead() -> None:
    _, planner, lead = playing()
    ahead = only_job(planner.plan(1.0, None, paused=False))
    change = opened(planner, rev=1)
    cancel, job = planner.plan(1.1, change, paused=False)
    assert cancel == Cancel("s", lead.ident, ahead.number)
    assert isinstance(job, Job)
    assert (job.take, job.deadline, job.speculative) == (change.ident, 1.1, False)
    planner.cancelled(lead.ident, ahead.number)
    assert lead.outstanding is None


def test_the_first_sound_of_a_job_is_logged_without_wall_time() -> None:
    playout, _, _ = playing()
    entries = [json.loads(line) for line in playout.log.lines()]
    jobs = [entry["job"] for entry in entries if entry["entry"] == "job"]
    assert [job["clip"] for job in jobs] == [0]
    assert not jobs[0].get("deadline")


def test_what_comes_of_abandoned_takes_is_ignored() -> None:
    _, planner, lead = playing()
    change = opened(planner, rev=1)
    job = next(each for each in planner.plan(1.0, change, paused=True) if isinstance(each, Job))
    planner.abandon(change)
    planner.abandon(change)
    assert change.over
    assert planner.plan(1.0, None, paused=True) == [DropTake("s", change.ident)]
    assert not planner.receive(change.ident, job.number, sound(1), 1.1)
    assert not planner.done(Done("s", change.ident, job.number, 0.0, 0.0, 4), 1.1)
    assert planner.failed(Failed("s", change.ident, job.number, "internal", "x"), 1.1) is None
    assert not planner.receive(lead.ident, 99, sound(1), 1.1), "no such job"
    planner.abandon_before(lead.ident + 1)
    assert planner.takes == {}


def test_after_a_failure_it_waits_a_little() -> None:
    _, planner, lead = playing()
    job = only_job(planner.plan(1.0, None, paused=False))
    assert planner.failed(Failed("s", lead.ident, job.number, "internal", "x"), 2.0) is lead
    change = opened(planner)
    assert planner.plan(2.0 + RETRY_S / 2, change, paused=False) == [DropTake("s", lead.ident)]
    assert [each.take for each in planner.plan(2.0 + RETRY_S, change, paused=False) if isinstance(each, Job)] == [1]


def test_failures_in_a_row_are_asked_for_less_and_less_until_something_else_is_wanted() -> None:
    _, planner, lead = playing()
    take, now, waits = lead, 1.0, []

    def fail(take: Take) -> Take:
        job = next(each for each in planner.plan(now, take, paused=True) if isinstance(each, Job))
        assert planner.failed(Failed("s", take.ident, job.number, "internal", "x"), now) is take
        return opened(planner)

    take = opened(planner, rev=1)
    for _ in range(6):
        take, began = fail(take), now
        while not any(isinstance(each, Job) for each in planner.plan(now, take, paused=True)):
            now += RETRY_S / 4
        waits.append(now - began)
        take.cancel()
    assert waits == [RETRY_S * times for times in (1, 2, 4, 8)] + [RETRY_MOST_S] * 2
    take = fail(take)
    planner.try_now()
    job = next(each for each in planner.plan(now, take, paused=True) if isinstance(each, Job))
    assert planner.receive(take.ident, job.number, sound(1), now)
    assert planner.done(Done("s", take.ident, job.number, 0.0, 0.0, 4), now)
    take = fail(opened(planner))
    assert not any(isinstance(each, Job) for each in planner.plan(now + RETRY_S * 0.9, take, paused=True))
    assert any(isinstance(each, Job) for each in planner.plan(now + RETRY_S, take, paused=True))


def test_without_a_generator_nothing_is_asked_and_its_successor_knows_nothing() -> None:
    playout, planner, lead = playing()
    playout.events.clear()
    planner.disconnect("killed")
    planner.disconnect("killed again")
    assert lead.over
    assert planner.plan(1.0, opened(planner), paused=False) == []
    told, playout.events = playout.events, []
    assert planner.connect()
    assert not planner.connect()
    assert planner.takes == {}
    assert [(event.kind, event.reason) for event in told] == [("generator", "killed")]
    assert [(event.kind, event.reason) for event in playout.events] == [("generator", "ready")]


def test_nobody_is_told_of_a_generator_that_another_one_replaces_at_once() -> None:
    playout, planner, lead = playing()
    playout.events.clear()
    planner.disconnect("killed")
    assert planner.connect()
    assert lead.over
    assert playout.events == []
    planner.disconnect("killed")
    assert [(event.kind, event.reason) for event in playout.events] == [("generator", "killed")]


def test_a_change_with_a_guidance_of_its_own_is_expected_to_take_all_of_its_time() -> None:
    playout, planner, _ = playing()
    planner.effort.first_s = 1.0
    info = msgspec.structs.replace(SCORE.info, spare=True)
    plain = Score.of(StationConfig(), info, Journey.single("a"))
    chosen = Score.of(StationConfig(), info, Journey.single("a", guidance=3.0))
    steered = replace(plain, guidance=Ramp(1.5, 3.0, 0.0, 8.0))
    stops = (Stop(Keyframe.of("a", guidance=3.0), 2, 0), Stop(Keyframe.of("b"), 2, 0))
    back = Score.of(StationConfig(), info, Journey(stops, "loop"))
    for change, expected in (
        (Change(plain, "clip", 0), SHARE[1]),
        (Change(plain, "clip", None), SHARE[1]),
        (Change(chosen, "clip", 0), 1.0),
        (Change(chosen, "clip", None), 1.0),
        (Change(steered, "clip", None), 1.0),
        (Change(back, "clip", 0), 1.0),
        (Change(back, "clip", 3), SHARE[1]),
    ):
        assert planner.opening_s(change) == pytest.approx(expected), change
        bar = playout.where(planner.next_bar(change))
        assert bar >= playout.mixer.earliest + 0.6 * expected * 48_000, "the splice is not before its audio"


def test_late_clips_get_less_effort_and_are_told() -> None:
    playout, planner, _ = playing()
    planner.effort.done_s = 4.5  # there are four seconds
    job = only_job(planner.plan(1.0, None, paused=False))
    assert job.steps == max(2, -(-SCORE.info.steps * 6 // 10))
    assert planner.effort.late == 1
    assert [(event.kind, event.reason) for event in playout.events] == [("late", "fewer steps")]
