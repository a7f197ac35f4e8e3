"""Estimates of rendering times, and the effort that the time left allows."""

from __future__ import annotations

import msgspec
import pytest

from riffstream.generator.messages import Info, Job
from riffstream.journey.journey import Journey
from riffstream.station.effort import SHARE, Effort, left_out
from riffstream.station.score import Score

INFO = Info(model="tone", steps=20)
JOB = Job(station="s", take=0, number=0, clip=0, spec=Journey.single("x", guidance=5.0).clip(0), hops=(375.0,) * 8)


def test_an_estimate_rises_faster_than_it_falls() -> None:
    effort = Effort(first_s=1.0, done_s=1.0)
    effort.first(2.0, reused=False)
    effort.done(0.0)
    assert effort.first_s == pytest.approx(1.6)
    assert effort.done_s == pytest.approx(0.7)
    for _ in range(30):
        effort.first(3.0, reused=False)
        effort.done(3.0)
    assert (effort.first_s, effort.done_s) == pytest.approx((3.0, 3.0))


def test_a_known_clip_tells_the_time_of_the_vocoder_alone() -> None:
    effort = Effort(first_s=1.0, vocoder_s=0.1)
    effort.first(0.2, reused=True)
    assert effort.first_s == 1.0
    assert effort.vocoder_s == pytest.approx(0.16)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_clips_with_less_effort_estimate_those_with_all_of_it(level: int) -> None:
    effort = Effort(first_s=1.0, done_s=2.0)
    for _ in range(20):
        effort.first(1.0 * SHARE[level], reused=False, level=level)
        effort.done(2.0 * SHARE[level], level=level)
    assert (effort.first_s, effort.done_s) == pytest.approx((1.0, 2.0))


def test_the_level_follows_the_time_left_and_does_not_flutter() -> None:
    effort = Effort(done_s=1.0)
    margins = [9.0, 1.3, 1.19, 1.3, 0.79, 1.3, 1.49, 1.51, 0.5]
    assert [effort.assess(margin, INFO) for margin in margins] == [0, 0, 1, 1, 2, 2, 2, 0, 2]
    assert effort.late == 6


def test_a_steer_is_hasty_where_its_first_clip_would_take_too_long() -> None:
    effort = Effort(first_s=1.0, done_s=1.0)
    assert (effort.hasty(1.5, INFO), effort.hasty(0.8, INFO)) == (0, 1)
    effort.assess(0.1, INFO)
    assert (effort.hasty(1.5, INFO), effort.hasty(0.8, INFO)) == (2, 2)


def test_without_deadlines_the_effort_is_whole() -> None:
    effort = Effort(first_s=9.0, done_s=9.0)
    effort.adaptive = False
    assert (effort.assess(0.0, INFO), effort.hasty(0.1, INFO), effort.late) == (0, 0, 0)


@pytest.mark.parametrize(("asked", "steps"), [(None, [None, 12, 10]), (10, [10, 6, 5]), (2, [2, 2, 2]), (1, [1, 1, 1])])
def test_less_effort_is_fewer_steps_and_at_last_no_guidance(asked: int | None, steps: list[int | None]) -> None:
    job = Job(**{name: getattr(JOB, name) for name in JOB.__struct_fields__} | {"steps": asked})
    eased = [Effort.eased(job, INFO, level) for level in (0, 1, 2)]
    assert [each.steps for each in eased] == steps
    assert [each.spec.start.guidance for each in eased] == [5.0, 5.0, 1.0]
    assert [each.spec.end.guidance for each in eased] == [5.0, 5.0, 1.0]
    assert eased[0] is job


DRAFTS = Info(model="mini", steps=8, drafts=True)


def test_the_first_clip_of_a_change_begins_with_a_draft_where_it_takes_long() -> None:
    effort = Effort(first_s=0.3)
    job = effort.drafted(JOB, DRAFTS)
    # Twice 0.3 s and 0.4 s: three beats of half a second, whole ones.
    assert (job.draft_steps, job.draft_end) == (3, 128)
    later = effort.drafted(msgspec.structs.replace(JOB, start_frame=100), DRAFTS)
    assert later.draft_end == 256  # what is left of the second beat does not suffice with the third
    assert effort.drafted(msgspec.structs.replace(JOB, start_frame=500), DRAFTS).draft_end == 512
    assert (effort.opening_s(DRAFTS), effort.opening_s(INFO)) == (effort.draft_s, 0.3)


@pytest.mark.parametrize(
    ("effort", "info", "steps"),
    [
        (Effort(first_s=0.1), DRAFTS, None),
        (Effort(first_s=0.3), INFO, None),
        (Effort(first_s=0.3), DRAFTS, 5),
    ],
)
def test_no_draft_where_it_gains_nothing(effort: Effort, info: Info, steps: int | None) -> None:
    job = msgspec.structs.replace(JOB, steps=steps)
    assert effort.drafted(job, info) == job
    assert effort.opening_s(info, steps) == effort.first_s


def test_a_late_or_offline_station_makes_no_drafts() -> None:
    late, offline = Effort(first_s=0.3), Effort(first_s=0.3)
    late.level = 1
    offline.adaptive = False
    assert late.drafted(JOB, DRAFTS) == offline.drafted(JOB, DRAFTS) == JOB


def test_a_draft_has_an_estimate_of_its_own() -> None:
    effort = Effort(first_s=0.5, draft_s=0.2)
    effort.first(0.4, reused=False, drafted=True)
    assert (effort.first_s, effort.draft_s) == (0.5, pytest.approx(0.32))


def test_a_station_is_hasty_only_where_its_draft_is_late_too() -> None:
    effort = Effort(first_s=2.0, draft_s=0.5)
    assert (effort.hasty(0.8, DRAFTS), effort.hasty(0.8, INFO)) == (0, 1)


SPARE = msgspec.structs.replace(DRAFTS, guidance=1.5, spare=True)
HOME = Journey.single("x")
CHOSEN = Score(home=HOME, path=HOME, info=SPARE).info_of(JOB.spec)
PLAIN_JOB = msgspec.structs.replace(JOB, spec=Journey.single("x").clip(0))


def test_guidance_that_a_model_can_do_without_goes_first_and_is_no_fault() -> None:
    effort = Effort(done_s=1.0)
    eased = [effort.eased(PLAIN_JOB, SPARE, level) for level in (0, 1, 2)]
    assert [(each.guided, each.steps) for each in eased] == [(True, None), (False, None), (False, 4)]
    assert effort.assess(1.0, SPARE) == 1
    assert (left_out(SPARE, effort.level), effort.late) == ("", 0)
    assert [effort.assess(margin, SPARE) for margin in (0.7, 1.1, 1.6, 1.3, 0.7, 0.6)] == [1, 1, 0, 0, 1, 2]
    assert (left_out(SPARE, effort.level), effort.late) == ("fewer steps", 1)


def test_the_first_clip_of_a_take_does_without_guidance_unless_it_was_set() -> None:
    effort = Effort(first_s=0.3)
    assert not effort.opening(PLAIN_JOB, SPARE).guided
    assert effort.opening(JOB, CHOSEN).guided, "somebody chose the guidance"
    assert effort.opening(PLAIN_JOB, DRAFTS).guided, "the model needs it"
    effort.adaptive = False
    assert effort.opening(PLAIN_JOB, SPARE).guided, "nobody waits"


def test_a_chosen_guidance_goes_last_with_such_a_model_too() -> None:
    eased = [Effort.eased(JOB, CHOSEN, level) for level in (1, 2)]
    assert [(each.guided, each.steps, each.spec.start.guidance) for each in eased] == [(True, 5, 5.0), (True, 4, 1.0)]
    assert [left_out(CHOSEN, level) for level in (0, 1, 2)] == ["", "fewer steps", "no guidance"]


def test_a_steer_is_hasty_with_fewer_steps_where_guidance_is_omitted_anyway() -> None:
    effort = Effort(first_s=1.0, draft_s=1.0)
    assert (effort.hasty(1.5, SPARE), effort.hasty(0.8, SPARE)) == (0, 2)


def test_a_steer_has_its_draft_while_only_spare_guidance_is_omitted() -> None:
    effort = Effort(first_s=0.3)
    drafted = []
    for effort.level in (0, 1, 2):
        drafted.append(effort.drafted(PLAIN_JOB, SPARE).draft_steps)
    assert drafted == [3, 3, 0]
