"""Jobs that fail one at a time, with renderers that raise in every way."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from riffstream.errors import ParameterError, RiffstreamError
from riffstream.generator.isolation import BROKEN, BrokenRendererError, Isolation
from riffstream.generator.messages import Cancelled, Done, Failed, FromGenerator, Job, Piece, Trial
from riffstream.generator.renderer import Report, ToneRenderer
from riffstream.journey.journey import Journey
from tests.station.factories import OutOfMemoryError


def job(name: str = "x", **fields: Any) -> Job:
    spec = Journey.single(name).clip(0)
    known = {"station": name, "take": 0, "number": 0, "clip": 0, "spec": spec, "hops": (375.0,) * 8}
    return Job(**known | fields)


class Raises(ToneRenderer):
    """Raises while it has a job of a station called ``bad``; ``when`` says in which call."""

    def __init__(self, error: Exception, when: str = "step", beat: int = 0) -> None:
        super().__init__(clicks=False, waits=1)
        self._error, self._when, self._beat = error, when, beat

    def submit(self, job: Job) -> None:
        if self._when == "submit" and job.station.startswith("bad"):
            raise self._error
        super().submit(job)

    def step(self) -> list[Report]:
        bad = [tone for tone in self._jobs if tone.job.station.startswith("bad")]
        if self._when == "step" and any(tone.beat >= self._beat for tone in bad):
            raise self._error
        return super().step()


def run(renderer: Isolation, steps: int = 200) -> list[FromGenerator]:
    return [message for _ in range(steps) for message, _ in renderer.step()]


def of(reports: Iterable[FromGenerator], station: str) -> list[str]:
    """Kinds of what was reported about a station; many pieces count as one."""
    kinds = [type(each).__name__ for each in reports if getattr(each, "station", "") == station]
    return [kind for kind, _ in itertools.groupby(kinds)]


@pytest.mark.parametrize("when", ["submit", "step"])
@pytest.mark.parametrize("order", [["bad", "a", "b"], ["a", "bad", "b"], ["a", "b", "bad"]])
def test_only_the_job_that_raises_fails(when: str, order: list[str]) -> None:
    renderer = Isolation(Raises(ValueError("broken on purpose"), when))
    for name in order:
        renderer.submit(job(name))
    reports = run(renderer)
    assert renderer.pending == 0
    assert of(reports, "bad")[-1] == "Failed"
    for name in ("a", "b"):
        assert of(reports, name)[-2:] == ["Piece", "Done"], (name, when, order)
    failed = next(each for each in reports if isinstance(each, Failed))
    assert (failed.kind, failed.message) == ("internal", "the clip could not be made: ValueError")
    assert "broken on purpose" in failed.detail


def test_a_job_that_raises_in_the_middle_of_its_audio_fails_and_the_others_follow() -> None:
    renderer = Isolation(Raises(ValueError("broken"), beat=3))
    renderer.submit(job("bad"))
    renderer.submit(job("a"))
    renderer.submit(job("b", speculative=True))
    reports = run(renderer)
    assert of(reports, "bad") == ["Piece", "Failed"]
    assert of(reports, "a")[-2:] == of(reports, "b")[-2:] == ["Piece", "Done"]


def test_two_that_raise_both_fail() -> None:
    renderer = Isolation(Raises(ValueError("broken")))
    for name in ("bad", "a", "bad2"):
        renderer.submit(job(name))
    reports = run(renderer)
    assert [of(reports, name)[-1] for name in ("bad", "a", "bad2")] == ["Failed", "Done", "Failed"]


def test_a_traceback_is_told_once() -> None:
    renderer = Isolation(Raises(ValueError("broken")))
    details = []
    for number in range(3):
        renderer.submit(job("bad", number=number))
        details += [each.detail for each in run(renderer, 5) if isinstance(each, Failed)]
    assert [bool(detail) for detail in details] == [True, False, False]


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (ParameterError("seed_image", "x", "a name"), "parameter", "seed_image is 'x'; allowed: a name"),
        (RiffstreamError("no such thing"), "internal", "no such thing"),
    ],
)
def test_errors_for_people_keep_their_words(error: Exception, kind: str, message: str) -> None:
    renderer = Isolation(Raises(error))
    renderer.submit(job("bad"))
    failed = next(each for each in run(renderer, 5) if isinstance(each, Failed))
    assert (failed.kind, failed.message, failed.detail) == (kind, message, "")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
        RuntimeError("CUDA error: device-side assert triggered"),
    ],
)
@pytest.mark.parametrize("when", ["submit", "step"])
def test_what_ends_the_process_is_raised(error: Exception, when: str) -> None:
    renderer = Isolation(Raises(error, when))
    renderer.submit(job("bad"))
    with pytest.raises(type(error)):
        run(renderer, 5)


def test_when_every_job_fails_the_process_is_at_fault() -> None:
    renderer = Isolation(Raises(ValueError("broken")))
    for number in range(BROKEN):
        renderer.submit(job("bad", number=number))
    with pytest.raises(BrokenRendererError, match=f"{BROKEN} clips in a row failed"):
        run(renderer)


def test_one_that_succeeds_in_between_says_that_the_process_works() -> None:
    renderer = Isolation(Raises(ValueError("broken")))
    for number in range(3 * BROKEN):
        renderer.submit(job("bad", number=number))
        renderer.submit(job("a" if number % 4 == 0 else "bad", number=number, take=number))
    assert sum(isinstance(each, Done) for each in run(renderer, 2000)) == -(-3 * BROKEN // 4)


# -- suspects -------------------------------------------------------------------------------------------------------


class Watched(ToneRenderer):
    """Remembers which stations' jobs it had together."""

    def __init__(self) -> None:
        super().__init__(clicks=False)
        self.together: list[set[str]] = []

    def step(self) -> list[Report]:
        self.together.append({tone.job.station for tone in self._jobs})
        return super().step()


def test_suspects_are_tried_alone_and_announced_before_any_work() -> None:
    watched = Watched()
    renderer = Isolation(watched)
    for name, suspect in (("a", False), ("b", True), ("c", True), ("d", False), ("e", False)):
        renderer.submit(job(name, suspect=suspect))
    told: list[str] = []
    for _ in range(100):
        before = len(watched.together)
        for message, _ in renderer.step():
            if isinstance(message, Trial):
                assert len(watched.together) == before, "no work in the step that announces it"
                assert all(message.station not in jobs for jobs in watched.together)
                told.append(message.station)
    assert told == ["b", "c"]
    seen = [jobs for jobs, _ in itertools.groupby(watched.together)]
    assert seen == [{"a"}, {"b"}, {"c"}, {"d", "e"}, {"e"}] or seen == [{"a"}, {"b"}, {"c"}, {"d", "e"}, {"d"}]


@pytest.mark.parametrize("act", ["cancel", "drop", "forget"])
@pytest.mark.parametrize("steps", [0, 1, 2])
def test_what_is_taken_back_on_trial_or_before_makes_place_for_the_next(act: str, steps: int) -> None:
    renderer = Isolation(ToneRenderer(clicks=False, waits=5))
    renderer.submit(job("a", suspect=True))
    renderer.submit(job("b"))
    run(renderer, steps)
    acts: dict[str, Callable[[], Any]] = {
        "cancel": lambda: renderer.cancel("a", 0, 0),
        "drop": lambda: renderer.drop("a", 0),
        "forget": lambda: renderer.forget("a"),
    }
    answered = acts[act]()
    if act == "cancel":
        assert [type(message) for message, _ in answered] == [Cancelled]
    reports = run(renderer)
    assert of(reports, "b")[-2:] == ["Piece", "Done"]
    assert "Done" not in of(reports, "a")
    assert renderer.pending == 0


def test_pieces_say_where_in_their_take_they_begin() -> None:
    renderer = Isolation(ToneRenderer(clicks=False))
    at: dict[int, int] = {}
    for number in range(2):
        for take in range(2):
            renderer.submit(job("a", take=take, number=number, clip=2 * number + take))
    for _ in range(200):
        for message, pcm in renderer.step():
            if isinstance(message, Piece) and pcm is not None:
                assert message.at == at.get(message.take, 0)
                at[message.take] = at.get(message.take, 0) + len(pcm)
    assert at == {0: 16 * 24_000, 1: 16 * 24_000}
    renderer.drop("a", 0)
    renderer.submit(job("a", take=0, number=0, clip=9))
    first = next(each for each in run(renderer) if isinstance(each, Piece))
    assert first.at == 0
