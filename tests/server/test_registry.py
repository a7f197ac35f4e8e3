"""Stations end in one order, whatever else happens to them meanwhile, and leave nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientSession

from riffstream.config import Config
from riffstream.server import registry as module
from riffstream.server.broadcast import Member, StationEndedError
from riffstream.server.registry import Broadcasts
from tests.conftest import PATIENCE_S
from tests.server.conftest import Running, running
from tests.server.fakes import FakeHub
from tests.server.test_sockets import joined


async def until(condition: Any) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture
async def hub() -> AsyncIterator[FakeHub]:
    made = FakeHub("main", "private-a", "private-b")
    await made.start()
    yield made
    await made.close()


async def tended(broadcasts: Broadcasts) -> AsyncIterator[None]:
    task = asyncio.create_task(broadcasts.tend())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_private_stations_end_when_everyone_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PRIVATE_IDLE_S", 2.0)
    async with running("private-a", "private-b", "private-c") as served:
        stations = served.hub.stations
        async with joined(served, "private-b"):
            await asyncio.sleep(0.2)
            await served.hub.delete("private-c")  # by its owner
            await until(lambda: "private-a" not in stations)
            await served.hub.create("private-c")
            await asyncio.sleep(0.1)
            assert set(stations) == {"private-b", "private-c"}
        await until(lambda: not stations)
        assert not served.server.context.broadcasts


async def test_a_station_deleted_while_it_expires_does_not_stop_the_expiry(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PRIVATE_IDLE_S", 0.1)
    broadcasts = Broadcasts(Config(), hub)

    async def slow(reason: str) -> None:
        await hub.delete("private-a")  # its owner, between the farewell and the end

    broadcast = broadcasts["private-a"]
    broadcast.members.add(Member(slow))
    broadcast.empty_since = 0.0
    async for _ in tended(broadcasts):
        await until(lambda: not {"private-a", "private-b"} & hub.stations.keys())
    await broadcasts.close("bye", 1.0)


async def test_one_rooms_fault_does_not_stop_the_others_care(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PRIVATE_IDLE_S", 0.1)
    broadcasts = Broadcasts(Config(), hub)

    def broken() -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr(broadcasts["main"], "sweep", broken)
    async for _ in tended(broadcasts):
        await until(lambda: set(hub.stations) == {"main"})
    await broadcasts.close("bye", 1.0)


async def test_a_room_asked_for_while_its_station_ends_is_not_made(hub: FakeHub) -> None:
    broadcasts = Broadcasts(Config(), hub)
    asked: list[str] = []

    async def curious(reason: str) -> None:
        for _ in range(5):
            asked.extend(broadcasts)
            assert broadcasts.get("private-a") is None
            await asyncio.sleep(0)

    broadcast, station = broadcasts["private-a"], hub.stations["private-a"]
    with broadcast.joined(Member(curious)):
        await broadcasts.end("private-a", "this station has ended")
    assert "private-a" not in asked
    assert "private-a" not in hub.stations
    assert not station.sinks
    assert "private-a" not in broadcasts._broadcasts
    with pytest.raises(StationEndedError), broadcast.joined(Member(curious)):
        pass
    with pytest.raises(StationEndedError):
        await broadcast.hold("mp3")
    await broadcasts.close("bye", 1.0)
    assert not any(each.sinks for each in hub.stations.values())


async def test_the_room_of_a_station_that_was_replaced_is_closed(hub: FakeHub) -> None:
    broadcasts = Broadcasts(Config(), hub)
    broadcast, station = broadcasts["main"], hub.stations["main"]
    farewells: list[str] = []

    async def leave(reason: str) -> None:
        farewells.append(reason)

    broadcast.members.add(Member(leave))
    await hub.delete("main")
    await hub.create("main")
    assert broadcasts["main"] is not broadcast
    await until(lambda: not broadcasts._ends)
    assert farewells == ["this station has ended"]
    assert not station.sinks
    assert "main" in hub.stations  # the new one
    await broadcasts.close("bye", 1.0)


async def test_a_delete_whose_client_hangs_up_is_finished() -> None:
    async with running("main", "other") as served:
        async with joined(served, "other", codecs=[]) as client:
            await client.message("welcome")
            task = asyncio.create_task(served.server.context.broadcasts.end("other", "this station has ended"))
            await asyncio.sleep(0)
            task.cancel()
            await client.message("bye", reason="this station has ended")
        await until(lambda: "other" not in served.hub.stations)


async def delete(served: Running, session: ClientSession, name: str) -> int:
    async with session.delete(f"{served.url}/api/stations/{name}") as response:
        return response.status


async def test_of_deletes_at_once_one_succeeds_and_the_last_station_stays() -> None:
    async with running("main", "one", "two") as served, ClientSession() as session, joined(served, "one") as client:
        await client.message("welcome")
        codes = await asyncio.gather(*(delete(served, session, "one") for _ in range(5)))
        assert sorted(codes) == [204, 404, 404, 404, 404]
        codes = await asyncio.gather(*(delete(served, session, name) for name in ("main", "two")))
        assert sorted(codes) == [204, 409]
        assert len(served.hub.stations) == 1
        async with session.get(f"{served.url}/api/stations") as response:
            assert len((await response.json())["stations"]) == 1
        assert served.server.context.counters["errors"] == 0
