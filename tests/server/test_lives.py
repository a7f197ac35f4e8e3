"""Listeners' lives in any order: they come, stall, come back, hang up; stations begin and end, encoders fail, the
server leaves. Whatever happened, after all have left everything is back where it was.

A minute of it runs with the other tests. Longer, and on a real generator process:

    RIFFSTREAM_LIVES=300 RIFFSTREAM_LIVES_HUB=tone python -m pytest tests/server/test_lives.py --timeout 0

where 300 is the number of lives; each line of the log says what is still held (``-s`` shows it).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import sys
import threading
import traceback
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import pytest
from aiohttp import ClientSession
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from riffstream.audio.encoders import Encoder, make_encoder
from riffstream.config import Config
from riffstream.server import broadcast as module
from riffstream.server import connection, registry, sockets
from riffstream.server.app import Server, loop_factory
from riffstream.server.fanout import Fanout
from riffstream.server.header_timeout import HEADER_TIMEOUT
from riffstream.server.metrics import resident_bytes
from riffstream.station import outlet
from riffstream.station.hub import Hub
from tests.conftest import PATIENCE_S
from tests.server.fakes import FakeHub
from tests.server.visitors import KINDS, LISTENING, Visitor

Result = TypeVar("Result")
LIVES = int(os.environ.get("RIFFSTREAM_LIVES", "8"))
HUB = os.environ.get("RIFFSTREAM_LIVES_HUB", "fake")
CAP, CONNECTIONS = 4, 8
SETTINGS: dict[str, Any] = {
    "server": {"port": 0, "drain_s": 0.3},
    "generator": {"model": "tone"},
    "timeline": {"idle_s": 0},
    "limits": {
        "listeners_per_station": CAP,
        "connections_per_address": CONNECTIONS,
        "stations": 3,
        "close_s": 0.5,
        "skip_bytes": 16384,
        "send_buffer_bytes": 4096,
        "silence_s": 2.0,
        "header_s": 5.0,
        "steer_interval_s": 0.01,
    },
}
STATIONS = ("main", "main", "main", "private-a", "private-b", "none")


class World:
    """A running server, and what it holds when nobody is there."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner(loop_factory=loop_factory())
        self.broken: set[str] = set()
        self.run(self._start())
        self.run(self._warm_up())
        self.at_rest = dict.fromkeys(self.held(), 0) | self.run(self._own())

    def run(self, what: Coroutine[Any, Any, Result]) -> Result:
        return self.runner.run(what)

    async def _start(self) -> None:
        config = Config.from_dict(SETTINGS)
        self.hub: Any = Hub(config) if HUB == "tone" else FakeHub(speed=1.0)
        self.server = Server(config, self.hub)
        self.url = await self.server.start()
        self.port = int(self.url.rsplit(":", 1)[1])
        if HUB == "tone":
            await self.hub.wait_ready(60)

    async def _warm_up(self) -> None:
        """What is made once and kept: threads of pools, modules, an outlet a codec."""
        for kind in KINDS:
            visitor = Visitor(kind, "main")
            await visitor.come(self.port)
            await asyncio.sleep(0.1)
            await visitor.go(abort=False)
        async with ClientSession() as session, session.get(f"{self.url}/card/main.png") as response:
            await response.read()
        await self.settle()

    def held(self) -> dict[str, int]:
        """What a listener could leave behind, by kind."""
        context, door = self.server.context, self.server.app[HEADER_TIMEOUT]
        gc.collect()
        everyone = list(context.broadcasts._broadcasts.values())
        fanouts = [each for each in gc.get_objects() if type(each) is Fanout]  # isinstance wakes lazy modules
        return {
            **self.run(self._own()),
            "encoders": sum(thread.name.startswith("encoder-") for thread in threading.enumerate()),
            "connections": context.connections.open,
            "quiet": len(context._quiet),
            "watched": len(context.heartbeat),
            "at the door": len(door._waiting),
            "members": sum(len(broadcast.members) for broadcast in everyone),
            "places": sum(broadcast.listeners for broadcast in everyone),
            "feeds": sum(len(broadcast.feeds) + len(broadcast._opening) for broadcast in everyone),
            "sessions": sum(len(broadcast.sessions) for broadcast in everyone),
            "frames": sum(len(fanout._frames) for fanout in fanouts),
            "ends": len(context.broadcasts._ends),
            "leases": sum(self._leases(station) for station in self.hub.stations.values()),
        }

    def encoders(self) -> str:
        """What they wait for, to read where one is left."""
        outlets = [each for each in gc.get_objects() if type(each) is outlet.Outlet and each.running]
        states = [f"{each.codec}: taker {each._take}, closed {each.closed}" for each in outlets]
        frames = sys._current_frames()
        stacks = [
            f"{thread.name}:\n" + "".join(traceback.format_stack(frames[thread.ident]))
            for thread in threading.enumerate()
            if thread.name.startswith("encoder-") and thread.ident in frames
        ]
        return "\n".join([*states, *stacks])

    @staticmethod
    def _leases(station: Any) -> int:
        count: int = station.listeners if HUB == "tone" else station.attached
        return count

    async def _own(self) -> dict[str, int]:
        """What the server itself holds."""
        return {
            "tasks": len(asyncio.all_tasks()) - 1,
            "files": len(os.listdir("/proc/self/fd")),
            "stations": len(self.hub.stations),
        }

    async def settle(self) -> None:
        """Until idle times have passed."""
        await asyncio.sleep(3 * (registry.PRIVATE_IDLE_S + module.FEED_IDLE_S + module.SESSION_S))

    def assert_at_rest(self) -> None:
        now = self.held()
        for _ in range(75):  # turns and not seconds: a busy machine may give few of them
            if now == self.at_rest:
                break
            self.run(asyncio.sleep(0.2))
            now = self.held()
        assert now == self.at_rest, self.encoders()
        assert self.server.context.counters["errors"] == 0
        print(f"lives: {resident_bytes() / 1e6:.1f} MB, {now}", flush=True)

    def renew(self) -> None:
        """The server leaves, and another comes."""
        self.run(self.server.stop())
        self.run(self._start())
        self.run(self._warm_up())

    def close(self) -> None:
        self.run(self.server.stop())
        self.runner.close()


class Lives(RuleBasedStateMachine):
    """What may happen, in any order."""

    world: World

    def __init__(self) -> None:
        super().__init__()
        self.visitors: list[Visitor] = []

    def go(self, what: Coroutine[Any, Any, Result]) -> Result:
        return self.world.run(what)

    def some(self, number: int) -> Visitor | None:
        return self.visitors[number % len(self.visitors)] if self.visitors else None

    @rule(kind=st.sampled_from(KINDS), station=st.sampled_from(STATIONS), steer=st.booleans())
    def come(self, kind: str, station: str, steer: bool) -> None:
        if len(self.visitors) < 2 * CONNECTIONS:
            visitor = Visitor(kind, station)
            self.go(visitor.come(self.world.port, steer=steer))
            self.visitors.append(visitor)

    @rule(kind=st.sampled_from(LISTENING), count=st.integers(2, 8))
    def rush(self, kind: str, count: int) -> None:
        async def all_at_once() -> None:
            made = [Visitor(kind, "main") for _ in range(count)]
            await asyncio.gather(*(visitor.come(self.world.port) for visitor in made))
            for _ in range(10):
                await asyncio.sleep(0.01)
                self.the_caps_hold()
            await asyncio.gather(*(visitor.go(abort=bool(n % 2)) for n, visitor in enumerate(made)))

        self.go(all_at_once())

    @rule(kind=st.sampled_from(KINDS), station=st.sampled_from(STATIONS), ms=st.integers(0, 40), abort=st.booleans())
    def come_and_hang_up(self, kind: str, station: str, ms: int, abort: bool) -> None:
        async def pass_by() -> None:
            visitor = Visitor(kind, station)
            await visitor.come(self.world.port)
            await asyncio.sleep(ms / 1000)
            await visitor.go(abort=abort)

        self.go(pass_by())

    @rule(number=st.integers(0, 99), abort=st.booleans())
    def leave(self, number: int, abort: bool) -> None:
        if (visitor := self.some(number)) is not None:
            self.visitors.remove(visitor)
            self.go(visitor.go(abort=abort))

    @rule(number=st.integers(0, 99))
    def stall(self, number: int) -> None:
        if (visitor := self.some(number)) is not None:
            visitor.stall()

    @rule(number=st.integers(0, 99))
    def go_on(self, number: int) -> None:
        if (visitor := self.some(number)) is not None:
            visitor.go_on()

    @rule(number=st.integers(0, 99), kind=st.sampled_from(["opus", "pcm_s16"]), leaves=st.booleans())
    def come_back(self, number: int, kind: str, leaves: bool) -> None:
        """On a new connection, perhaps with another codec; the old one is closed, or the server has not noticed yet."""
        if (visitor := self.some(number)) is not None and visitor.session:
            again = Visitor(kind, visitor.station)
            if leaves:
                self.visitors.remove(visitor)
                self.go(visitor.go(abort=True))
            self.go(again.come(self.world.port, resume=visitor))
            self.visitors.append(again)

    @rule(
        number=st.integers(0, 99),
        text=st.sampled_from(["rain", '{"type":"steer","id":"a","bpm":100}', "{", '{"type":"bye"}']),
    )
    def say(self, number: int, text: str) -> None:
        if (visitor := self.some(number)) is not None:
            visitor.say(text)

    @rule(
        acts=st.lists(
            st.tuples(st.sampled_from(["make", "delete", "list", "hang up"]), st.sampled_from("ab")), max_size=5
        )
    )
    def stations_come_and_go(self, acts: list[tuple[str, str]]) -> None:
        """Requests for the same stations at the same time; some hang up."""

        async def ask(session: ClientSession, act: str, letter: str) -> None:
            url = f"{self.world.url}/api/stations"
            body = {"json": {"id": f"private-{letter}"}}
            if act == "hang up":
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.005), session.post(url, **body):
                        pass
            elif act == "list":
                async with session.get(url) as response:
                    assert response.status == 200
            elif act == "make":
                async with session.post(url, **body) as response:
                    assert response.status in (201, 400, 409, 503)
            else:
                async with session.delete(f"{url}/private-{letter}") as response:
                    assert response.status in (204, 404, 409)

        async def all_at_once() -> None:
            async with ClientSession() as session:
                await asyncio.gather(*(ask(session, act, letter) for act, letter in acts))

        self.go(all_at_once())

    @rule(codec=st.sampled_from(["opus", "pcm_s16", "mp3", "aac", "ogg", "wav"]))
    def an_encoder_breaks(self, codec: str) -> None:
        self.world.broken.add(codec)

    @rule()
    def encoders_work(self) -> None:
        self.world.broken.clear()

    @rule(ms=st.integers(0, 700))
    def time_passes(self, ms: int) -> None:
        self.go(asyncio.sleep(ms / 1000))

    @rule(restarts=st.integers(0, 5))
    def the_server_leaves(self, restarts: int) -> None:
        if restarts == 0 and HUB == "fake":  # a generator takes seconds to start
            self.go(self.world.server.stop())
            assert self.world.server.context.broadcasts._broadcasts == {}
            self.go(self._everyone_leaves())
            self.world.renew()

    @rule()
    def who_is_connected_gets_sound(self) -> None:
        """Or is told that there is none: nobody who reads is left waiting."""
        self.world.broken.clear()
        waiting = [
            visitor
            for visitor in self.visitors
            if visitor.kind in LISTENING and not (visitor.ended or visitor.refused or visitor.stalled)
        ]

        async def sound(visitor: Visitor, before: int) -> None:
            async with asyncio.timeout(PATIENCE_S):
                while visitor.audio == before and not (visitor.ended or visitor.refused):
                    await asyncio.sleep(0.02)

        async def everyone() -> None:
            await asyncio.gather(*(sound(visitor, visitor.audio) for visitor in waiting))

        self.go(everyone())

    @invariant()
    def the_caps_hold(self) -> None:
        context = self.world.server.context
        assert context.connections.open <= CONNECTIONS
        for broadcast in context.broadcasts._broadcasts.values():
            assert 0 <= broadcast.listeners <= CAP
            assert (
                sum(len(fanout.listeners) for feed in broadcast.feeds.values() for fanout in feed.fanouts.values())
                <= CAP
            )

    async def _everyone_leaves(self) -> None:
        await asyncio.gather(*(visitor.go(abort=False) for visitor in self.visitors))
        self.visitors.clear()

    def teardown(self) -> None:
        self.world.broken.clear()
        self.go(self._everyone_leaves())
        self.go(self.world.settle())
        self.world.assert_at_rest()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """With short times, and encoders that fail when they are told to."""
    monkeypatch.setattr(module, "FEED_IDLE_S", 0.1)
    monkeypatch.setattr(module, "SESSION_S", 0.2)
    monkeypatch.setattr(module, "LISTENERS_EVERY_S", 0.05)
    monkeypatch.setattr(registry, "FEED_IDLE_S", 0.1)
    monkeypatch.setattr(registry, "PRIVATE_IDLE_S", 0.3)
    monkeypatch.setattr(sockets, "HELLO_S", 0.5)
    monkeypatch.setattr(connection, "CLOSE_S", 0.2)
    made: list[World] = []

    def breakable(codec: str, **more: Any) -> Encoder:
        if made and codec in made[0].broken:
            raise RuntimeError(f"no encoder for {codec}")
        return make_encoder(codec, **more)

    monkeypatch.setattr(outlet, "make_encoder", breakable)
    made.append(World())
    yield made[0]
    made[0].close()


@pytest.mark.timeout(0 if LIVES > 100 else 300)
def test_after_all_have_left_nothing_is_held(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL", "riffstream")  # encoders that fail log each time

    class Here(Lives):
        pass

    Here.world = world
    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=LIVES,
            stateful_step_count=40,
            deadline=None,
            derandomize="RIFFSTREAM_LIVES" not in os.environ,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate,),  # real time: a shorter example takes longer to find than to read
        ),
    )
