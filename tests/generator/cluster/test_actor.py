"""The actor without Ray: its calls, the order of its commands, and its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from riffstream import __version__
from riffstream.generator.cluster.actor import BATCH, GeneratorActor, VersionError
from riffstream.generator.messages import (
    Cancel,
    Configure,
    Done,
    Failed,
    FromGenerator,
    Heartbeat,
    Job,
    Loading,
    Piece,
    Ready,
    Shutdown,
    pack,
    unpack_report,
)
from riffstream.journey.journey import Journey
from tests.conftest import PATIENCE_S

SPEC = Journey.single("x").clip(0)
TONE = Configure("riffstream.generator.renderer:make_tone", {})


def job(**fields: Any) -> Job:
    return Job(**{"station": "s", "take": 0, "number": 0, "clip": 0, "spec": SPEC, "hops": (375.0,) * 8} | fields)


def reports(actor: GeneratorActor, until: Callable[[list[FromGenerator]], bool]) -> list[FromGenerator]:
    """What the actor says until something holds."""
    found: list[FromGenerator] = []
    end = time.monotonic() + PATIENCE_S
    while not until(found):
        assert time.monotonic() < end, found
        batch, _, over = actor.take()
        assert len(batch) <= BATCH
        found += [unpack_report(each)[0] for each in batch]
        if over:
            break
    return [each for each in found if not isinstance(each, Heartbeat)]


def kinds(found: list[FromGenerator]) -> list[type]:
    return [type(each) for each in found]


def test_commands_are_obeyed_in_their_order_however_they_arrive() -> None:
    actor = GeneratorActor(__version__, lambda: False)
    jobs = [pack(job(take=take, clip=take)) for take in range(3)]
    actor.put(2, [jobs[1], jobs[2]])
    actor.put(1, [jobs[0]])
    actor.put(0, [pack(TONE)])
    found = reports(actor, lambda each: kinds(each).count(Done) == 3)
    assert kinds(found[:2]) == [Loading, Ready]
    assert [each.take for each in found if isinstance(each, Done)] == [0, 1, 2]
    assert kinds(found).count(Piece) == 24
    actor.put(3, [pack(Shutdown())])
    assert reports(actor, lambda each: False) == []  # until it says that no more follows
    assert actor.take()[2]


def test_a_model_that_cannot_be_loaded_is_the_last_report() -> None:
    actor = GeneratorActor(__version__, lambda: False)
    actor.put(0, [pack(Configure("tests.station.factories:unloadable", {"model": "nowhere"}))])
    found = reports(actor, lambda each: False)
    assert isinstance(found[-1], Failed)
    assert (found[-1].station, found[-1].kind) == ("", "parameter")
    assert "there is no checkpoint nowhere" in found[-1].message


def test_the_first_command_must_be_the_configuration() -> None:
    actor = GeneratorActor(__version__, lambda: False)
    actor.put(0, [pack(Cancel("s", 0, 0))])
    assert kinds(reports(actor, lambda each: False)) == [Failed]


def test_a_call_without_reports_returns_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("riffstream.generator.cluster.actor.WAIT_S", 0.05)
    assert GeneratorActor(__version__, lambda: False).take() == ([], False, False)


def test_a_drain_of_its_node_is_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("riffstream.generator.cluster.actor.WAIT_S", 0.02)
    monkeypatch.setattr("riffstream.generator.cluster.actor.LOOK_S", 0.01)
    looks: list[int] = []

    def draining() -> bool:
        looks.append(1)
        if len(looks) == 2:
            raise ConnectionError("the head does not answer")
        return len(looks) > 5

    actor = GeneratorActor(__version__, draining)
    end = time.monotonic() + PATIENCE_S
    while not actor.take()[1]:
        assert time.monotonic() < end
    assert len(looks) == 6


def test_another_version_is_refused() -> None:
    with pytest.raises(VersionError, match=rf"riffstream {__version__}, the server has 0\.0\.1; install the same"):
        GeneratorActor("0.0.1", lambda: False)
