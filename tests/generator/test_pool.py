"""The pool of generators: which worker a station gets, and when it moves. The workers here answer as they are told."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from riffstream.config import GeneratorSettings
from riffstream.generator import pool as module
from riffstream.generator.messages import NO_PCM, Configure, Done, Forget, FromGenerator, Heartbeat, Info, Pcm
from riffstream.generator.pool import DEFAULT, SETTLE_S, Model, Pool, Seat
from riffstream.generator.single_clips import seat_name
from riffstream.generator.supervisor import GeneratorError

CLIPS = seat_name(DEFAULT)


class Worker:
    """A supervisor that does nothing by itself."""

    def __init__(
        self,
        settings: GeneratorSettings,
        *,
        on_ready: Callable[[Info], None],
        on_lost: Callable[[str, bool], None],
        on_report: Callable[[FromGenerator, Pcm], None],
        **_: Any,
    ) -> None:
        self.settings, self.state, self.reason, self.busy = settings, "loading", "", 0.0
        self.info: Info | None = None
        self.sent: list[Any] = []
        self._on_ready, self._on_lost, self._report = on_ready, on_lost, on_report

    def send(self, messages: Iterable[Any]) -> None:
        if self.state == "ready":
            self.sent += messages

    def ready(self) -> None:
        self.state, self.info = "ready", Info(model=self.settings.model)
        self._on_ready(self.info)

    def lose(self, reason: str = "killed", *, blame: bool = True) -> None:
        self.state = "waiting"
        self._on_lost(reason, blame)

    def replace(self) -> None:
        """Another generator takes over."""
        self._on_lost("it moves to another machine", False)
        self.ready()

    def tell(self, message: FromGenerator) -> None:
        self._report(message, NO_PCM)

    def beat(self, busy: float) -> None:
        self.busy = busy
        self.tell(Heartbeat(1, busy=busy))

    async def wait_settled(self) -> None:
        if self.state == "failed":
            raise GeneratorError(self.reason)

    def health(self) -> dict[str, Any]:
        figures = {"restarts": 1, "rss_mb": 10.0, "pending": 2, "load_s": 3.0, "busy": self.busy}
        return {"state": self.state, "reason": self.reason, **figures}


class Story:
    """A pool, and everything that its seats were told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, workers: int = 2, **models: GeneratorSettings) -> None:
        monkeypatch.setattr(module, "Supervisor", Worker)
        self.now = 0.0
        settings = {DEFAULT: GeneratorSettings(model="tone", workers=workers), **models}
        configure = Configure("x", {})
        self.pool = Pool({name: Model(each, configure) for name, each in settings.items()}, clock=lambda: self.now)
        self.workers: list[Any] = list(self.pool.workers)
        self.told: list[tuple[Any, ...]] = []

    def seat(self, name: str, model: str = DEFAULT, **more: Any) -> Seat:
        seat = Seat(
            name,
            model,
            on_ready=lambda info: self.told.append((name, "ready", info.model)),
            on_lost=lambda reason, blame: self.told.append((name, "lost", reason, blame)),
            on_report=lambda message, pcm: self.told.append((name, message)),
            **more,
        )
        self.pool.join(seat)
        return seat

    def places(self, *seats: Seat) -> list[int | None]:
        return [None if seat.worker is None else self.workers.index(seat.worker) for seat in seats]

    def heard(self) -> list[tuple[Any, ...]]:
        told, self.told = self.told, []
        return told


def test_stations_wait_for_the_first_worker_and_are_shared_with_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story(monkeypatch)
    seats = [story.seat(name) for name in "abcd"]
    assert story.places(*seats) == [None] * 4
    assert story.heard() == []
    story.workers[1].ready()
    assert story.places(*seats) == [1] * 4
    assert story.heard() == [(name, "ready", "tone") for name in "abcd"]
    story.workers[0].ready()
    assert sorted(story.places(*seats)) == [0, 0, 1, 1]
    moved = [seat.name for seat in reversed(seats) if seat.worker is story.workers[0]]
    assert story.workers[1].sent == [Forget(name) for name in moved]
    assert [(each[0], each[1]) for each in story.heard()] == [(name, at) for name in moved for at in ("lost", "ready")]


def test_a_station_of_a_dead_worker_moves_at_once_and_that_of_another_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story(monkeypatch)
    for worker in story.workers:
        worker.ready()
    one, two = story.seat("one"), story.seat("two")
    assert story.places(one, two) == [0, 1]
    story.heard()
    story.workers[0].lose("killed")
    assert story.places(one, two) == [1, 1]
    assert story.heard() == [("one", "lost", "killed", True), ("one", "ready", "tone")]


def test_without_another_worker_a_station_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story(monkeypatch, workers=1)
    story.workers[0].ready()
    one = story.seat("one")
    story.workers[0].lose("killed")
    late = story.seat("late")
    assert story.places(one, late) == [None, None]
    assert story.heard()[1:] == [
        ("one", "lost", "killed", True),
        ("late", "ready", "tone"),  # the model is known: a station can show it, and bridges until a worker is there
        ("late", "lost", "restarting", False),
    ]
    one.send([Forget("one")])  # dropped
    story.workers[0].ready()
    assert story.places(one, late) == [0, 0]
    assert story.workers[0].sent == []


def test_a_worker_that_is_replaced_keeps_its_stations(monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story(monkeypatch, workers=1)
    story.workers[0].ready()
    one = story.seat("one")
    story.heard()
    story.workers[0].replace()
    assert story.heard() == [("one", "lost", "it moves to another machine", False), ("one", "ready", "tone")]
    assert story.places(one) == [0]


def test_reports_reach_only_the_station_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story(monkeypatch)
    for worker in story.workers:
        worker.ready()
    story.seat("one")
    story.seat("two")
    clips = story.seat(CLIPS, light=True)
    story.heard()
    story.workers[0].tell(Done("one", 0, 0))
    story.workers[0].tell(Done("two", 0, 0))  # of another worker: two has moved from here
    story.workers[0].tell(Done("nobody", 0, 0))
    worker: Any = clips.worker
    worker.tell(Done(f"{CLIPS}7", 0, 0))
    assert story.heard() == [("one", Done("one", 0, 0)), (CLIPS, Done(f"{CLIPS}7", 0, 0))]
    story.workers[1].tell(Heartbeat(0))  # an idle worker says nothing about the jobs of another
    assert story.heard() == [("two", Heartbeat(0))]


def test_reports_of_single_clips_reach_the_clips_of_their_model(monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story(monkeypatch, workers=1, large=GeneratorSettings(model="folder"))
    large = seat_name("large")
    story.seat(CLIPS, light=True)
    story.seat(large, "large", light=True)
    for worker in story.workers:
        worker.ready()
    story.heard()
    story.workers[0].tell(Done(f"{CLIPS}1", 0, 0))
    story.workers[1].tell(Done(f"{large}1", 0, 0))
    story.workers[0].tell(Done(f"{large}2", 0, 0))  # not its model's
    assert story.heard() == [(CLIPS, Done(f"{CLIPS}1", 0, 0)), (large, Done(f"{large}1", 0, 0))]


def test_a_station_leaves_a_worker_with_too_much_work(monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story(monkeypatch)
    for worker in story.workers:
        worker.ready()
    seats = [story.seat(name) for name in "abcd"]
    story.seat(CLIPS, light=True)
    assert story.places(*seats) == [0, 1, 0, 1]
    story.workers[1].beat(0.2)
    story.workers[0].beat(0.85)  # busy, but in time
    assert story.places(*seats) == [0, 1, 0, 1]
    story.workers[0].beat(0.99)
    assert story.places(*seats) == [0, 1, 1, 1]
    assert ("c", "lost", "its generator has too much work", False) in story.heard()
    story.workers[1].beat(0.99)
    assert story.places(*seats) == [0, 1, 1, 1], "the loads after a move are not known at once"
    story.now += SETTLE_S
    story.workers[0].beat(0.5)
    story.workers[1].beat(0.99)
    assert story.places(*seats) == [0, 1, 1, 1], "the other one would be full as well"
    story.workers[0].beat(0.1)
    assert story.places(*seats) == [0, 1, 1, 0]


def test_single_clips_do_not_count_when_stations_are_distributed(monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story(monkeypatch)
    for worker in story.workers:
        worker.ready()
    clips = story.seat(CLIPS, light=True)
    assert story.places(clips, story.seat("one")) == [0, 0]


def test_a_station_gets_the_workers_of_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story(monkeypatch, workers=1, large=GeneratorSettings(model="folder"))
    small, large = story.seat("small"), story.seat("large", "large")
    story.workers[0].ready()
    assert story.places(small, large) == [0, None]
    story.workers[1].ready()
    story.workers[0].lose()
    assert story.places(small, large) == [None, 1]
    assert ("large", "ready", "folder") in story.told
    assert (story.pool.ready(), story.pool.ready("large")) == (False, True)


def test_a_seat_that_left_is_told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story(monkeypatch, workers=1)
    story.workers[0].ready()
    one = story.seat("one")
    story.pool.leave(one)
    story.pool.leave(one)
    story.heard()
    story.workers[0].tell(Done("one", 0, 0))
    story.workers[0].lose()
    story.workers[0].ready()
    assert story.heard() == []


def test_a_station_that_raises_does_not_reach_the_others(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("broken on purpose")

    story = Story(monkeypatch, workers=1)
    story.workers[0].ready()
    story.pool.join(Seat("broken", DEFAULT, on_ready=broken, on_lost=broken, on_report=broken))
    story.seat("one")
    story.workers[0].lose()
    story.workers[0].ready()
    assert [each[1] for each in story.heard()] == ["ready", "lost", "ready"]
    assert caplog.text.count("broken on purpose") >= 3


async def test_one_worker_of_each_model_is_enough_to_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story(monkeypatch)
    story.workers[0].state, story.workers[0].reason = "failed", "no memory"
    await story.pool.wait_settled()
    assert story.pool.failure() is None
    story.workers[1].state, story.workers[1].reason = "failed", "no memory"
    with pytest.raises(GeneratorError, match="no memory"):
        await story.pool.wait_settled()
    assert story.pool.failure() == "no memory"


def test_figures_are_those_of_all_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story(monkeypatch)
    story.workers[1].ready()
    story.workers[1].busy = 0.5
    figures = story.pool.health()
    assert figures["state"] == "loading"
    assert (figures["restarts"], figures["rss_mb"], figures["pending"], figures["load_s"]) == (2, 20.0, 4, 3.0)
    assert (figures["workers"], figures["workers_ready"], figures["busy"]) == (2, 1, 0.5)
