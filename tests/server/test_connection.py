"""The life of a connection, whatever its kind: how the server ends it, and what it counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from riffstream import protocol
from riffstream.server.connection import Connection
from riffstream.server.fanout import DropPolicy
from tests.server.conftest import Running, running
from tests.server.test_fanout import frame, wire


class Recorded(Connection):
    """Notes how it is ended."""

    def __init__(self, served: Running, transport: asyncio.Transport, policy: DropPolicy | None = None) -> None:
        self.events: list[str] = []
        context = served.server.context
        super().__init__(context, context.broadcast("main"), transport, told=self.told, policy=policy)

    def told(self, message: protocol.ServerMessage) -> None:
        self.events.append(type(message).__name__)

    def say_goodbye(self, reason: str) -> None:
        self.events.append(f"bye: {reason}, {self.broadcast.listeners} there")

    async def hang_up(self) -> None:
        self.events.append(f"hung up, {self.broadcast.listeners} there")


@pytest.fixture
async def served() -> AsyncIterator[Running]:
    async with running(preroll=6 * 48_000) as made:
        yield made


async def test_a_connection_says_goodbye_leaves_its_place_and_hangs_up(served: Running) -> None:
    async with wire() as (transport, _):
        one = Recorded(served, transport)
        one.place = one.broadcast.reserve("ws")
        assert one.place is not None
        with one.broadcast.joined(one.member):
            fanout = (await one.place.feed("pcm_s16")).fanout("raw", 100)
            one.place.attach(fanout, one.listener)
            one.broadcast.tell(protocol.Event(kind="skipped"))
            await one.broadcast.close("restarting")
            one.broadcast.tell(protocol.Event(kind="skipped"))
        assert one.events == ["Event", "bye: restarting, 1 there", "hung up, 0 there"]
        assert (served.station.attached, fanout.listeners) == (0, {})


async def test_a_connection_that_is_dropped_is_counted_by_its_reason(served: Running) -> None:
    async with wire(rcvbuf=8192) as (transport, _):
        slow = Recorded(served, transport, DropPolicy(skip_bytes=1000, close_bytes=2000))
        while slow.listener.send_control(frame(0, 100_000).wire):
            pass
        assert transport.is_closing()
    assert served.server.context.disconnected["slow"] == 1
    assert slow.events == []
