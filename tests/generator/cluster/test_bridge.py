"""The bridge without Ray: it passes messages on, ends with its actor, and changes to another one during a drain."""

from __future__ import annotations

import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from riffstream import __version__
from riffstream.generator.channel import Channel
from riffstream.generator.cluster import bridge as module
from riffstream.generator.cluster.actor import Batch, GeneratorActor
from riffstream.generator.cluster.bridge import Bridge, failure
from riffstream.generator.messages import (
    Configure,
    Done,
    Failed,
    FromGenerator,
    Heartbeat,
    Loading,
    Piece,
    Ready,
    Shutdown,
    ToGenerator,
    pack,
    unpack_report,
)
from riffstream.generator.process import EXIT_FAILED
from tests.generator.cluster.test_actor import TONE, job


class ActorDiedError(Exception):
    """Named as Ray's."""


class FakeActor:
    """An actor in this process that refuses what Ray refuses: calls after its end, and values that cannot be sent.

    Like Ray, it may deliver a batch of commands after the next one.
    """

    def __init__(self) -> None:
        self.leaving = False
        self.dead = False
        self.numbers: list[int] = []
        self._actor = GeneratorActor(__version__, lambda: self.leaving or self.dead)

    def put(self, number: int, commands: list[bytes]) -> None:
        if self.dead:
            return  # Ray reports it at the result, which nobody asks for
        self.numbers.append(number)
        threading.Timer(0.1 * (number % 2), self._actor.put, pickle.loads(pickle.dumps((number, commands)))).start()

    def take(self) -> Batch:
        batch = self._actor.take()
        if self.dead:
            raise ActorDiedError("The actor died unexpectedly. The actor is dead because its worker process has died.")
        return batch

    def kill(self) -> None:
        self.dead = True


class Served:
    """A bridge in a thread, and the server's end of its pipe."""

    def __init__(self, make: Callable[[], FakeActor]) -> None:
        self.actors: list[FakeActor] = []
        self._make = make
        commands, reports = os.pipe(), os.pipe()
        inside = Channel(os.fdopen(commands[0], "rb", buffering=0), os.fdopen(reports[1], "wb", buffering=2**18))
        self.pipe = Channel(os.fdopen(reports[0], "rb", buffering=0), os.fdopen(commands[1], "wb", buffering=2**18))
        self.code: int | None = None
        self._inside = inside
        self.bridge = Bridge(inside, self._start, failure)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _start(self) -> FakeActor:
        actor = self._make()
        self.actors.append(actor)
        return actor

    def _run(self) -> None:
        self.code = self.bridge.run()
        self._inside.close()

    def send(self, *messages: ToGenerator) -> None:
        for message in messages:
            self.pipe.send(pack(message))

    def hear(self, last: type | None, times: int = 1) -> list[FromGenerator]:
        """Messages up to the ``times``-th one of a kind, or up to the end of the pipe; no heartbeats."""
        found: list[FromGenerator] = []
        try:
            while last is None or sum(isinstance(each, last) for each in found) < times:
                found.append(unpack_report(self.pipe.receive())[0])
        except EOFError:
            assert last is None, found
        return [each for each in found if not isinstance(each, Heartbeat)]

    def end(self) -> int | None:
        self._thread.join(10)
        return self.code

    def close(self) -> None:
        self.pipe.close()
        self.end()
        self.pipe.close_reader()
        self._inside.close_reader()
        assert all(actor.dead for actor in self.actors)


Serve = Callable[..., Served]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Starts a bridge."""
    monkeypatch.setattr("riffstream.generator.cluster.actor.WAIT_S", 0.05)
    monkeypatch.setattr("riffstream.generator.cluster.actor.LOOK_S", 0.02)
    made: list[Served] = []

    def start(make: Callable[[], FakeActor] = FakeActor) -> Served:
        made.append(Served(make))
        return made[-1]

    yield start
    for each in made:
        each.close()


@pytest.fixture
def served(serve: Serve) -> Served:
    return serve()


def test_messages_pass_in_order_and_the_actor_ends_with_the_server(served: Served) -> None:
    served.send(TONE, *(job(take=take, clip=take) for take in range(20)))
    found = served.hear(Done, 20)
    assert [type(each) for each in found[:2]] == [Loading, Ready]
    assert [each.take for each in found if isinstance(each, Done)] == list(range(20))
    assert sum(isinstance(each, Piece) for each in found) == 160
    assert served.actors[0].numbers == list(range(21))
    served.send(Shutdown())
    assert served.end() == 0
    assert served.actors[0].dead


def test_the_end_of_the_pipe_ends_the_actor(served: Served) -> None:
    served.send(TONE)
    served.hear(Ready)
    served.pipe.close()
    assert served.end() == 0
    assert served.actors[0].dead


def test_the_end_of_the_actor_is_the_end_of_the_bridge(served: Served) -> None:
    served.send(TONE)
    served.hear(Ready)
    served.actors[0].dead = True
    last = served.hear(None)[-1]
    text = "its Ray actor ended: The actor is dead because its worker process has died."
    assert last == Failed("", 0, 0, "internal", text)
    assert served.end() == EXIT_FAILED


def test_a_renderer_that_gives_up_has_the_last_word(served: Served) -> None:
    served.send(Configure("tests.station.factories:unloadable", {"model": "nowhere"}))
    last = served.hear(None)[-1]
    assert isinstance(last, Failed)
    assert (last.kind, "there is no checkpoint nowhere" in last.message) == ("parameter", True)
    assert served.end() == EXIT_FAILED
    assert served.actors[0].dead


def test_a_drain_changes_to_another_actor_when_that_is_ready(served: Served) -> None:
    served.send(TONE, job())
    served.hear(Done)
    first = served.actors[0]
    first.leaving = True
    found = served.hear(Ready)
    assert [type(each) for each in found] == [Loading, Ready]
    assert isinstance(found[0], Loading)
    assert "drained" in found[0].what
    second = served.actors[1]
    assert (first.dead, second.dead) == (True, False)
    served.send(job(take=1), TONE, job(take=2))  # the first was on its way to the earlier actor
    assert [each.take for each in served.hear(Done) if isinstance(each, Done)] == [2]
    assert len(second.numbers) == 2, "its configuration, and the job after the server's"
    served.send(Shutdown())
    assert served.end() == 0
    assert second.dead


def test_during_a_drain_the_music_comes_from_the_first_actor(serve: Serve) -> None:
    class Waiting(FakeActor):
        """An actor that waits for a place on the cluster."""

        waiting: list[tuple[int, list[bytes]]] | None = None

        def put(self, number: int, commands: list[bytes]) -> None:
            if self.waiting is None:
                self.waiting = []
            self.waiting.append((number, commands))

        def begin(self) -> None:
            for each in self.waiting or []:
                super().put(*each)

    actors = [FakeActor(), Waiting()]
    served = serve(lambda: actors[len(served.actors)])
    served.send(TONE)
    served.hear(Ready)
    actors[0].leaving = True
    served.hear(Loading)
    for take in range(3):
        served.send(job(take=take, clip=take))
        assert isinstance(served.hear(Done)[-1], Done)
    assert isinstance(actors[1], Waiting)
    actors[1].begin()
    assert isinstance(served.hear(Ready)[-1], Ready)


def test_a_successor_that_fails_is_tried_again_and_the_first_one_goes_on(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.1)
    begun: list[float] = []

    def make() -> FakeActor:
        begun.append(time.monotonic())
        actor = FakeActor()
        actor.dead = len(begun) in (2, 3)
        return actor

    served = serve(make)
    served.send(TONE)
    served.hear(Ready)
    served.actors[0].leaving = True
    told = [each.what for each in served.hear(Ready) if isinstance(each, Loading)]
    assert ["drained" in each for each in told] == [True, False] * 2 + [True]
    assert "cannot be started: its Ray actor ended" in told[1]
    assert begun[3] - begun[2] >= 0.1
    assert [actor.dead for actor in served.actors] == [True, True, True, False]


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        (
            "The actor died unexpectedly before finishing this task.\n\tclass_name: GeneratorActor\n\tpid: 4\n"
            "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: "
            "Worker unexpectedly exits with a connection error code 2. End of file. Some common causes include: (1)",
            "internal",
            "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: "
            "Worker unexpectedly exits with a connection error code 2. End of file.",
        ),
        (
            "The actor died unexpectedly before finishing this task.\n\tpid: 4\nThe actor died because its node has "
            "died. Node Id: 3f\n\tthe actor's node was terminated unexpectedly",
            "machine",
            "The actor died because its node has died. Node Id: 3f the actor's node was terminated unexpectedly",
        ),
        ("", "internal", "ActorDiedError"),
        ("a" * 1000 + "the cause", "internal", "a" * 200 + " ... " + "a" * 191 + "the cause"),
    ],
)
def test_the_reason_of_an_end_is_short_and_tells_a_lost_node(text: str, kind: str, says: str) -> None:
    assert failure(ActorDiedError(text)) == Failed("", 0, 0, kind, f"its Ray actor ended: {says}")
