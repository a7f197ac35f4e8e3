"""Pairs of faults beside a real generator process and two stations: both play on, and everybody is answered."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from riffstream import protocol
from riffstream.config import Config, GeneratorSettings, StationConfig, TimelineSettings
from riffstream.generator import supervisor as module
from riffstream.generator.messages import Configure
from riffstream.protocol import Event, Now, Prompt, Steer
from riffstream.station.hub import Hub

TIMES = TimelineSettings(frame_ms=40, send_lead_ms=60, client_buffer_ms=40)
FINAL = (protocol.Applied, protocol.Rejected, protocol.Superseded)


async def until(condition: Callable[[], bool], timeout: float = 60.0) -> None:
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.02)


class Pair:
    """Two stations of one hub, with everything that they answer and announce."""

    def __init__(self) -> None:
        generator = GeneratorSettings(model="tone", backoff_s=0.05, backoff_max_s=0.5, stall_s=3.0)
        stations = {name: StationConfig(prompts=(f"home of {name}",)) for name in "ab"}
        config = Config(generator=generator, timeline=TIMES, stations=stations)
        self.hub = Hub(config, configure=Configure("tests.station.factories:poisoned", {"max_batch": 16}))
        self.replies: dict[str, list[protocol.ServerMessage]] = {}
        self.told: list[Now | Event] = []

    async def __aenter__(self) -> Pair:
        await self.hub.start()
        await self.hub.wait_ready(60)
        for station in self.hub.stations.values():
            station.join()
            station.subscribe(self.told.append)
            await until(lambda station=station: station.stats()["horizon_s"] > 5)  # type: ignore[misc]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.hub.close()

    def steer(self, name: str, prompt: str) -> list[protocol.ServerMessage]:
        replies = self.replies[f"{name} {prompt}"] = []
        self.hub.get(name).steer(Steer(id=prompt, prompts=(Prompt(text=prompt),)), replies.append)
        return replies

    def kill(self) -> None:
        os.kill(self.hub.supervisor.pid or 0, signal.SIGKILL)

    async def answered(self) -> dict[str, str]:
        """The final answers, once all are there."""
        await until(lambda: all(isinstance(each[-1], FINAL) for each in self.replies.values()))
        assert all(len(each) == 2 for each in self.replies.values()), self.replies
        return {name: type(each[-1]).__name__ for name, each in self.replies.items()}

    async def plays_on(self, *, faults: bool = False) -> None:
        """Both stations make new clips, and a steer of each is heard; ``faults``: ours may have been logged."""
        await until(lambda: self.hub.supervisor.state == "ready")
        self.replies.clear()
        for name in "ab":
            self.steer(name, "after")
        assert await self.answered() == {"a after": "Applied", "b after": "Applied"}
        for station in self.hub.stations.values():
            assert station.recording(0.5)[1].any()
            assert faults or station.stats()["faults"] == 0


@pytest.mark.parametrize(("how", "restarts"), [("raise", 0), ("exit", 2), ("segfault", 2), ("stall", 2), ("memory", 2)])
async def test_a_poisonous_steer_is_rejected_and_the_other_station_is_steered_meanwhile(
    how: str, restarts: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with Pair() as pair:
        pair.steer("a", how)
        pair.steer("b", "other")
        assert await pair.answered() == {f"a {how}": "Rejected", "b other": "Applied"}
        rejected = pair.replies[f"a {how}"][-1]
        assert isinstance(rejected, protocol.Rejected)
        assert rejected.code == "internal"
        assert pair.hub.supervisor.restarts == restarts
        await pair.plays_on()
        assert pair.hub.supervisor.restarts == restarts
        for station in pair.hub.stations.values():
            assert station.stats()["underruns"] == 0
        assert not [each for each in pair.told if isinstance(each, Event) and each.kind in ("skipped", "fallback")]
        assert caplog.text.count("Traceback") <= 1


async def test_two_poisons_at_once_are_both_rejected() -> None:
    async with Pair() as pair:
        pair.steer("a", "exit")
        pair.steer("b", "raise")
        assert await pair.answered() == {"a exit": "Rejected", "b raise": "Rejected"}
        await pair.plays_on()
        pair.replies.clear()
        pair.steer("a", "exit")
        pair.steer("b", "exit")
        assert await pair.answered() == {"a exit": "Rejected", "b exit": "Rejected"}
        await pair.plays_on()


async def test_a_successor_that_is_killed_while_it_loads_and_one_that_stalls() -> None:
    async with Pair() as pair:
        supervisor = pair.hub.supervisor
        pair.steer("a", "first")
        pair.kill()
        await until(lambda: supervisor.restarts == 1 and supervisor.state == "loading")
        pair.steer("b", "second")
        pair.kill()
        await until(lambda: supervisor.restarts == 2 and supervisor.state == "ready")
        os.kill(supervisor.pid or 0, signal.SIGSTOP)
        await until(lambda: supervisor.restarts == 3)
        answers = await pair.answered()
        assert set(answers) == {"a first", "b second"}
        await pair.plays_on()


async def test_a_kill_while_processes_cannot_be_started_and_a_poison_on_top(monkeypatch: pytest.MonkeyPatch) -> None:
    real, failed = module.start_process, []

    def start(*args: Any, **more: Any) -> subprocess.Popen[bytes]:
        if len(failed) < 4:
            failed.append(args)
            raise OSError(errno.EMFILE, "Too many open files")
        return real(*args, **more)

    async with Pair() as pair:
        monkeypatch.setattr(module, "start_process", start)
        pair.steer("a", "exit")
        pair.steer("b", "other")
        assert await pair.answered() == {"a exit": "Rejected", "b other": "Applied"}
        assert len(failed) == 4
        assert pair.hub.supervisor.restarts == 6
        await pair.plays_on()


async def test_a_callback_of_one_station_that_raises_does_not_reach_the_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("broken on purpose")

    async with Pair() as pair:
        timeline = pair.hub.get("a")._timeline
        assert timeline is not None
        with monkeypatch.context() as patch:
            for name in ("receive", "done", "disconnect", "connect", "idle"):
                patch.setattr(timeline, name, broken)
            pair.kill()
            await until(lambda: pair.hub.supervisor.restarts == 1 and pair.hub.supervisor.state == "ready")
            pair.steer("b", "other")
            assert await pair.answered() == {"b other": "Applied"}
        pair.kill()
        await until(lambda: pair.hub.supervisor.restarts == 2)
        await pair.plays_on(faults=True)
        assert pair.hub.get("b").stats()["faults"] == 0
        assert "broken on purpose" in caplog.text
