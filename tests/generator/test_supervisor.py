"""The supervisor by itself: every way in which a generator ends or never begins, beside real processes."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import subprocess
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from riffstream.config import GeneratorSettings
from riffstream.generator import supervisor as module
from riffstream.generator.link import Link
from riffstream.generator.messages import (
    NO_PCM,
    Cancel,
    Configure,
    Done,
    Failed,
    FromGenerator,
    Heartbeat,
    Info,
    Job,
    Ready,
    Runtime,
)
from riffstream.generator.supervisor import HEALTHY_S, STARTS, GeneratorError, Supervisor
from riffstream.journey.journey import Journey
from tests.conftest import PATIENCE_S

QUICK = GeneratorSettings(model="tone", backoff_s=0.02, backoff_max_s=0.1, stall_s=3.0)
SPEC = Journey.single("x").clip(0)


def job(**fields: Any) -> Job:
    return Job(**{"station": "s", "take": 0, "number": 0, "clip": 0, "spec": SPEC, "hops": (375.0,) * 8} | fields)


class Watched(Supervisor):
    """A supervisor that keeps what it is told."""

    def __init__(self, settings: GeneratorSettings = QUICK, **more: Any) -> None:
        self.ready: list[Info] = []
        self.lost: list[str] = []
        self.reports: list[FromGenerator] = []
        calls: dict[str, Any] = {
            "on_ready": self.ready.append,
            "on_lost": lambda reason, blame: self.lost.append(reason),
            "on_report": lambda message, pcm: self.reports.append(message),
        }
        super().__init__(settings, **(calls | more))


@asynccontextmanager
async def started(settings: GeneratorSettings = QUICK, **more: Any) -> AsyncIterator[Watched]:
    made = Watched(settings, **more)
    made.start()
    try:
        yield made
    finally:
        await made.close()


async def until(condition: Callable[[], bool], timeout: float = 20.0) -> None:
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.01)


def waiting_s(supervisor: Supervisor) -> float:
    """How long until it starts another generator."""
    assert supervisor.state == "waiting"
    assert supervisor._watch is not None
    return supervisor._watch.when() - asyncio.get_running_loop().time()


def faulty(how: str, tmp_path: Path, times: int = 1, **more: object) -> Configure:
    options = {"how": how, "times": times, "folder": str(tmp_path), **more}
    return Configure("tests.station.factories:faulty_start", options)


# -- starting -------------------------------------------------------------------------------------------------------


class Faults:
    """Makes the first ``times`` starts fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: Exception, times: int, after: int = 0) -> None:
        self.calls = 0
        real = module.start_process

        def start(*args: Any, **more: Any) -> subprocess.Popen[bytes]:
            self.calls += 1
            if after < self.calls <= after + times:
                raise error
            return real(*args, **more)

        monkeypatch.setattr(module, "start_process", start)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM, errno.EAGAIN])
async def test_a_process_that_cannot_be_started_is_tried_again(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = Faults(monkeypatch, OSError(number, os.strerror(number)), times=2, after=1)
    async with started() as supervisor:
        await supervisor.wait_settled()
        os.kill(supervisor.pid or 0, signal.SIGKILL)
        await until(lambda: len(supervisor.ready) == 2)
        assert faults.calls == 4
        assert supervisor.restarts == 3
        assert supervisor.state == "ready"


async def test_the_very_first_start_may_fail_too(monkeypatch: pytest.MonkeyPatch) -> None:
    Faults(monkeypatch, OSError(errno.EMFILE, "Too many open files"), times=1)
    async with started() as supervisor:
        await asyncio.wait_for(supervisor.wait_settled(), PATIENCE_S)
        assert supervisor.state == "ready"


async def test_threads_that_cannot_be_started_are_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    real, fails = threading.Thread.start, ["generator-reader", "generator-writer"]

    def start(thread: threading.Thread) -> None:
        if thread.name in fails:
            fails.remove(thread.name)
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    async with started() as supervisor:
        await asyncio.wait_for(supervisor.wait_settled(), PATIENCE_S)
        assert not fails
        assert supervisor.restarts == 2


async def test_a_start_that_never_succeeds_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    faults = Faults(monkeypatch, OSError(errno.EMFILE, "Too many open files"), times=100)
    async with started() as supervisor:
        with pytest.raises(GeneratorError, match=r"ended 5 times before it was ready.*Too many open files"):
            await asyncio.wait_for(supervisor.wait_settled(), PATIENCE_S)
        await asyncio.sleep(0.3)
        assert faults.calls == STARTS == 5
        assert supervisor.state == "failed"


# -- loading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["memory", "cuda", "cpu"])
async def test_a_model_without_memory_is_loaded_with_half_the_batch(how: str, tmp_path: Path) -> None:
    async with started(configure=faulty(how, tmp_path, times=2, max_batch=16)) as supervisor:
        await asyncio.wait_for(supervisor.wait_settled(), PATIENCE_S)
        tried = [(tmp_path / str(number)).read_text() for number in range(3)]
        assert tried == ["16", "8", "4"]
        assert supervisor.state == "ready"


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("cuda", "out of memory: CUDA out of memory.*; try a smaller model or another device"),
        ("import", "ImportError: libcudart"),
        ("kill", "SIGKILL, perhaps because memory ran out"),
    ],
)
async def test_what_never_gets_ready_is_given_up_with_one_sentence(
    how: str, words: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with started(configure=faulty(how, tmp_path, times=100, max_batch=1)) as supervisor:
        with pytest.raises(GeneratorError, match=f"^the generator ended 5 times before it was ready.*{words}") as told:
            await asyncio.wait_for(supervisor.wait_settled(), PATIENCE_S)
        assert "\n" not in str(told.value)
        assert len(list(tmp_path.iterdir())) == STARTS
        assert supervisor.pid is None
    assert ("Traceback" in caplog.text) == (how == "import")


async def test_what_was_ready_once_is_never_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with started() as supervisor:
        await supervisor.wait_settled()
        faults = Faults(monkeypatch, OSError(errno.EMFILE, "Too many open files"), times=STARTS + 2)
        os.kill(supervisor.pid or 0, signal.SIGKILL)
        await until(lambda: len(supervisor.ready) == 2)
        assert faults.calls == STARTS + 3


# -- waits ----------------------------------------------------------------------------------------------------------


async def test_waits_double_up_to_the_longest_and_begin_anew_after_a_generator_that_worked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    time = 0.0
    settings = GeneratorSettings(model="tone", backoff_s=1.0, backoff_max_s=5.0)
    async with started(settings, clock=lambda: time) as supervisor:
        waits = []
        await supervisor.wait_settled()
        for _ in range(5):
            supervisor._lost("on purpose")
            waits.append(round(waiting_s(supervisor)))
            supervisor._respawn()
            await until(lambda: supervisor.state == "ready")
        assert waits == [1, 2, 4, 5, 5]
        time += HEALTHY_S + 1  # ready all the while, but without a clip: that is no success
        supervisor._lost("on purpose")
        assert round(waiting_s(supervisor)) == 5
        supervisor._respawn()
        await until(lambda: supervisor.state == "ready")
        supervisor._receive(Done("s", 0, 0), NO_PCM)
        time += HEALTHY_S + 1
        supervisor._lost("on purpose")
        assert round(waiting_s(supervisor)) == 1
        assert supervisor.restarts == 7


async def test_a_server_that_leaves_starts_no_generator() -> None:
    async with started() as supervisor:
        await supervisor.wait_settled()
        supervisor.drain()
        os.kill(supervisor.pid or 0, signal.SIGKILL)
        await until(lambda: bool(supervisor.lost))
        assert (supervisor.state, supervisor.restarts) == ("stopped", 0)
        assert supervisor._watch is None or supervisor._watch.cancelled()
        await asyncio.sleep(5 * QUICK.backoff_max_s)
        assert (supervisor.state, len(supervisor.ready)) == ("stopped", 1)


async def test_a_server_that_leaves_forgets_the_restart_that_was_coming() -> None:
    async with started(GeneratorSettings(model="tone", backoff_s=0.1, backoff_max_s=0.1)) as supervisor:
        await supervisor.wait_settled()
        supervisor._lost("on purpose")
        assert supervisor.state == "waiting"
        supervisor.drain()
        await asyncio.sleep(0.3)
        assert (supervisor.state, supervisor.pid, len(supervisor.ready)) == ("stopped", None, 1)


# -- callbacks and messages -----------------------------------------------------------------------------------------


async def test_callbacks_that_raise_leave_a_generator_that_is_watched() -> None:
    def broken(*_: object) -> None:
        raise ValueError("broken on purpose")

    async with started(on_ready=broken, on_lost=broken, on_report=broken) as supervisor:
        await supervisor.wait_settled()
        supervisor.send([job()])
        await asyncio.sleep(0.3)
        os.kill(supervisor.pid or 0, signal.SIGKILL)
        await until(lambda: supervisor.restarts == 1 and supervisor.state == "ready")
        os.kill(supervisor.pid or 0, signal.SIGSTOP)
        await until(lambda: supervisor.restarts == 2 and supervisor.state == "ready")


async def test_another_generator_takes_over_on_the_same_pipe() -> None:
    told: list[object] = []
    async with started(on_lost=lambda *lost: told.append(lost), on_ready=told.append) as supervisor:
        await supervisor.wait_settled()
        pid, configure = supervisor.pid, supervisor._configure
        assert supervisor._link is not None
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(supervisor._link, "send", lambda messages: told.append(list(messages)))
            supervisor._receive(Ready(Info(model="the other one"), 2.0), NO_PCM)
        # Its jobs are gone, which is no clip's fault. What follows the configuration is for the new one.
        assert told[1:] == [[configure], ("it moves to another machine", False), Info(model="the other one")]
        assert (supervisor.state, supervisor.pid, supervisor.restarts, supervisor.load_s) == ("ready", pid, 0, 2.0)
        supervisor.send([job()])
        await until(lambda: any(isinstance(each, Done) for each in supervisor.reports))


@pytest.mark.parametrize(("kind", "blame"), [("machine", False), ("internal", True)])
async def test_no_clip_is_to_blame_for_a_machine_that_left(kind: str, blame: bool) -> None:
    told: list[tuple[str, bool]] = []
    async with started(on_lost=lambda *lost: told.append(lost)) as supervisor:
        await supervisor.wait_settled()
        supervisor._receive(Failed("", 0, 0, kind, "its node has ended"), NO_PCM)
        assert told == [("its node has ended", blame)]
        assert supervisor.state == "waiting"


async def test_the_load_follows_the_heartbeats() -> None:
    async with started() as supervisor:
        await supervisor.wait_settled()
        for _ in range(40):
            supervisor._receive(Heartbeat(1, busy=1.0), NO_PCM)
        assert supervisor.busy > 0.95
        await until(lambda: supervisor.busy < 0.9)  # an idle process reports that it is idle


async def test_changes_of_what_evaluates_the_network_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    waiting, ready = Runtime("torch", "OpenVINO's network is loaded"), Runtime("openvino")
    fault = Runtime("torch", "OpenVINO cannot be used: an evaluation failed", fault=True)
    async with started() as supervisor:
        await supervisor.wait_settled()
        assert supervisor.health()["runtime"] == "", "the test signal has no network"
        for runtime in (waiting, waiting, ready, ready, fault, fault):
            supervisor._receive(Heartbeat(0, runtime=runtime), NO_PCM)
            assert supervisor.health()["runtime"] == str(runtime)
    told = [(each.levelname, each.getMessage()) for each in caplog.records if "evaluated by" in each.getMessage()]
    assert told[:3] == [
        ("INFO", "generator: the network is evaluated by torch (OpenVINO's network is loaded)"),
        ("INFO", "generator: the network is evaluated by openvino"),
        (
            "WARNING",
            "generator: the network is evaluated by torch (OpenVINO cannot be used: an evaluation failed)",
        ),
    ]


async def test_a_job_that_cannot_be_sent_fails_and_the_rest_is_sent() -> None:
    async with started() as supervisor:
        await supervisor.wait_settled()
        supervisor.send([job(clip=2**70), job(take=1), Cancel("s", 9, 9)])
        await until(lambda: any(isinstance(each, Done) for each in supervisor.reports))
        failed = [each for each in supervisor.reports if isinstance(each, Failed)]
        assert [(each.take, each.kind) for each in failed] == [(0, "internal")]


async def test_a_generator_that_does_not_read_is_taken_for_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("riffstream.generator.link.MOST", 50)
    settings = GeneratorSettings(model="tone", backoff_s=0.02, backoff_max_s=0.1, stall_s=600)
    async with started(settings) as supervisor:
        await supervisor.wait_settled()
        os.kill(supervisor.pid or 0, signal.SIGSTOP)
        large = Cancel("s" * 65536, 0, 0)  # fills the pipe
        for _ in range(60):
            supervisor.send([large])
            await asyncio.sleep(0)
        await until(lambda: len(supervisor.ready) == 2)
        assert supervisor.restarts == 1


async def test_a_link_that_cannot_be_made_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    pids = []

    def broken(self: Link, channel: Any, *_: object) -> None:
        pids.append(channel)
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Link, "__init__", broken)
    async with started() as supervisor:
        with pytest.raises(GeneratorError, match="cannot be started: can't start new thread"):
            await asyncio.wait_for(supervisor.wait_settled(), PATIENCE_S)
        assert len(pids) == STARTS
        assert supervisor.pid is None
        await until(lambda: all(each.poll() is not None for each in supervisor._dying))


async def test_closing_twice_is_closing_once() -> None:
    supervisor = Watched()
    supervisor.start()
    await supervisor.close()
    await supervisor.close()
    assert supervisor.state == "stopped"
    assert supervisor.pid is None


async def test_its_health_is_told_in_plain_values() -> None:
    async with started() as supervisor:
        assert supervisor.health()["state"] == "loading"
        await supervisor.wait_settled()
        await until(lambda: supervisor.rss_mb > 1)
        health = supervisor.health()
        assert health["state"] == "ready"
        assert health["pid"] == supervisor.pid
        assert (health["restarts"], health["reason"], health["loading"], health["pending"]) == (0, "", "", 0)
        assert health["rss_mb"] > 1
    assert supervisor.health()["state"] == "stopped"
    assert supervisor.pid is None


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs SIGSTOP to stall a process")
@pytest.mark.parametrize(("step_s", "limit"), [(0.0, 3.0), (2.0, 12.0)])
async def test_a_stalled_generator_is_replaced_a_slow_one_is_not(step_s: float, limit: float) -> None:
    now = [0.0]
    async with started(clock=lambda: now[0]) as supervisor:
        await supervisor.wait_settled()
        stalled = supervisor.pid
        assert stalled is not None
        os.kill(stalled, signal.SIGSTOP)
        await asyncio.sleep(0.5)  # what it had sent is read
        supervisor._receive(Heartbeat(rss_mb=1.0, pending=1, step_s=step_s), NO_PCM)
        now[0] = limit - 0.1
        await asyncio.sleep(1.1)  # longer than the watch waits
        assert (supervisor.state, supervisor.pid) == ("ready", stalled)
        now[0] = limit + 0.1
        await until(lambda: bool(supervisor.lost))
        assert supervisor.lost == [f"no heartbeat for {limit:g} s"]
        await until(lambda: supervisor.state == "ready")
        assert supervisor.pid != stalled
        assert supervisor.restarts == 1


async def test_what_is_sent_without_a_generator_is_dropped() -> None:
    async with started() as supervisor:
        supervisor.send([job()])
        await supervisor.wait_settled()
        os.kill(supervisor.pid or 0, signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
        await until(lambda: supervisor.state == "waiting")
        supervisor.send([job()])
        await until(lambda: len(supervisor.ready) == 2)
        await asyncio.sleep(0.2)
        assert all(isinstance(each, Heartbeat) for each in supervisor.reports)
        supervisor.send([job()])
        await until(lambda: any(isinstance(each, Done) for each in supervisor.reports))
