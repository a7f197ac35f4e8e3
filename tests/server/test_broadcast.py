"""One broadcast: places, feeds and members come back to where they were, however a listener leaves."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import ClientSession

from riffstream import protocol
from riffstream.config import Config
from riffstream.server import broadcast as module
from riffstream.server.broadcast import Broadcast, Member, Place
from riffstream.server.fanout import Fanout
from riffstream.station.outlet import Chunk, Outlet, StationEndedError
from tests.server.conftest import Running, running
from tests.server.fakes import FakeStation
from tests.server.test_registry import until
from tests.server.test_sockets import HELLO

CAP = 3


@pytest.fixture
async def broadcast() -> AsyncIterator[Broadcast]:
    station = FakeStation()
    station.advance(6 * 48_000)
    made = Broadcast(station, Config.from_dict({"limits": {"listeners_per_station": CAP}}))
    yield made
    await made.close("bye")
    await station.close()


def taken(broadcast: Broadcast) -> Place:
    place = broadcast.reserve("ws")
    assert place is not None
    return place


async def stay(reason: str) -> None:
    """Of a member that does nothing on leaving."""


async def test_a_place_is_taken_where_the_cap_is_checked(broadcast: Broadcast) -> None:
    places = [broadcast.reserve("ws") for _ in range(5)]
    assert [place is not None for place in places] == [True, True, True, False, False]
    assert broadcast.listeners == broadcast.station.attached == CAP  # type: ignore[attr-defined]
    for place in places[:CAP]:
        assert place is not None
        place.give_back()
        place.give_back()
    assert broadcast.listeners == broadcast.station.attached == 0  # type: ignore[attr-defined]
    with pytest.raises(StationEndedError):
        await places[0].feed("mp3")  # type: ignore[union-attr]


async def test_a_listener_that_leaves_while_its_feed_opens_leaves_no_encoder(
    broadcast: Broadcast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FEED_IDLE_S", 0.1)
    outlet = broadcast.station.outlet("mp3")

    async def visit() -> None:
        with taken(broadcast) as place:
            await place.feed("mp3")

    visits = [asyncio.create_task(visit()) for _ in range(2)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for task in visits:
        task.cancel()
    await asyncio.gather(*visits, return_exceptions=True)
    assert broadcast.listeners == 0
    await until(lambda: "mp3" in broadcast.feeds)
    await asyncio.sleep(0.15)
    broadcast.sweep()
    assert not broadcast.feeds
    assert not outlet.running


async def test_who_stops_waiting_for_a_feed_does_not_stop_the_others(broadcast: Broadcast) -> None:
    one, two = (asyncio.create_task(broadcast.hold("mp3")) for _ in range(2))
    await asyncio.sleep(0)
    one.cancel()
    feed = await two
    assert broadcast.feeds["mp3"] is feed
    assert feed.idle_since is None
    feed.release()
    assert feed.idle_since is not None


async def test_a_feed_that_is_held_is_not_swept(broadcast: Broadcast, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the check and the first frame a listener awaits its headers, as long as its network takes."""
    monkeypatch.setattr(module, "FEED_IDLE_S", 0.0)
    with taken(broadcast) as place:
        feed = await place.feed("pcm_s16")
        await asyncio.sleep(0.01)
        broadcast.sweep()
        assert broadcast.feeds["pcm_s16"] is feed
    await asyncio.sleep(0.01)
    broadcast.sweep()
    assert not broadcast.feeds


async def test_an_encoder_that_fails_is_told_to_all_and_tried_again(
    broadcast: Broadcast, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing(self: Outlet, take: object) -> None:
        await asyncio.sleep(0)
        raise RuntimeError("no such encoder")

    with monkeypatch.context() as patch:
        patch.setattr(Outlet, "start", failing)
        found = await asyncio.gather(*(broadcast.hold("aac") for _ in range(3)), return_exceptions=True)
        assert [str(each) for each in found] == ["no such encoder"] * 3
    (await broadcast.hold("aac")).release()


async def test_a_room_that_closes_turns_away_who_waits_and_forgets_its_audio(broadcast: Broadcast) -> None:
    feed = await broadcast.hold("pcm_s16")
    fanout = feed.fanout("v1-pcm_s16", 100)
    assert fanout.next_seq > fanout.first_seq
    waiting = asyncio.create_task(broadcast.hold("mp3"))
    await asyncio.sleep(0)
    await broadcast.close("bye")
    with pytest.raises(StationEndedError):
        await waiting
    assert fanout.next_seq == fanout.first_seq
    assert not broadcast.feeds
    assert not broadcast._opening


async def test_a_member_that_hangs_does_not_hold_up_the_end(broadcast: Broadcast) -> None:
    left: list[str] = []

    async def hang(reason: str) -> None:
        await asyncio.sleep(3600)

    async def fail(reason: str) -> None:
        raise RuntimeError("a fault")

    async def leave(reason: str) -> None:
        left.append(reason)

    began = time.monotonic()
    with broadcast.joined(Member(hang)), broadcast.joined(Member(fail)), broadcast.joined(Member(leave)):
        await broadcast.close("bye", leave_s=0.1)
    assert left == ["bye"]
    assert time.monotonic() - began < 60


async def test_a_room_knows_since_when_it_is_empty(broadcast: Broadcast) -> None:
    assert broadcast.empty_since is not None
    with taken(broadcast), broadcast.joined(Member(stay)):
        assert broadcast.empty_since is None
    assert broadcast.empty_since is not None


async def test_replies_carry_the_ids_that_members_chose(broadcast: Broadcast) -> None:
    """Two connections that choose the same id do not meet each other's answers."""
    heard: dict[str, list[protocol.ServerMessage]] = {"one": [], "two": []}
    one, two = Member(stay, told=heard["one"].append), Member(stay, told=heard["two"].append)
    with broadcast.joined(one), broadcast.joined(two):
        broadcast.change(one, protocol.Steer(id="a", bpm=100.0))
        broadcast.change(two, protocol.Steer(id="a", bpm=120.0))
        broadcast.change(two, protocol.Steer(id="b", bpm=130.0))
    assert [type(each).__name__ for each in heard["one"]] == ["Scheduled", "Superseded"]
    assert heard["one"][1] == protocol.Superseded(id="a", by="other")
    assert heard["two"][1:2] == [protocol.Scheduled(id="b", rev=3, audible_at=297_600, audible_in_ms=350.0)]
    assert protocol.Superseded(id="a", by="b") in heard["two"]
    assert [each.id for each in heard["two"]] == ["a", "b", "a"]  # type: ignore[union-attr]


async def test_a_rush_of_listeners_is_announced_once_and_a_number_that_stays_is_not(
    broadcast: Broadcast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LISTENERS_EVERY_S", 0.02)
    heard: list[protocol.ServerMessage] = []
    with broadcast.joined(Member(stay, told=heard.append)):
        places = [taken(broadcast) for _ in range(CAP)]
        await until(lambda: heard)
        assert heard == [protocol.Event(kind="listeners", listeners=CAP)]
        places.pop().give_back()
        places.append(taken(broadcast))
        await asyncio.sleep(0.06)
        assert len(heard) == 1
        for place in places:
            place.give_back()
        await until(lambda: len(heard) > 1)
        assert heard[1:] == [protocol.Event(kind="listeners", listeners=0)]


async def test_a_member_that_joins_is_told_the_number_although_it_stays(
    broadcast: Broadcast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It read another number from the API just before: that of a listener who has left since."""
    monkeypatch.setattr(module, "LISTENERS_EVERY_S", 0.02)
    first: list[protocol.ServerMessage] = []
    second: list[protocol.ServerMessage] = []
    place = taken(broadcast)
    with broadcast.joined(Member(stay, told=first.append)):
        await until(lambda: first)
        taken(broadcast).give_back()
        with broadcast.joined(Member(stay, told=second.append)):
            await until(lambda: second)
            assert second == [protocol.Event(kind="listeners", listeners=1)]
    place.give_back()


async def test_every_member_gets_a_message_and_who_left_gets_none(broadcast: Broadcast) -> None:
    sent: list[bytes] = []
    told: list[protocol.ServerMessage] = []
    event = protocol.Event(kind="skipped", sample_pos=7)
    with broadcast.joined(Member(stay, told=told.append)):
        with broadcast.joined(Member(stay, send=sent.append)), broadcast.joined(Member(stay, send=sent.append)):
            broadcast.tell(event)
        broadcast.tell(event)
    broadcast.tell(event)
    assert told == [event, event]
    assert len(sent) == 2
    assert sent[0] is sent[1]
    assert sent[0].endswith(protocol.encode(event).encode())


async def test_a_feed_that_stops_leaves_its_counts(broadcast: Broadcast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FEED_IDLE_S", 0.0)
    for _ in range(2):
        async with broadcast.holding("pcm_s16") as feed:
            feed.fanout("v1-pcm_s16", 100)
        frames = broadcast.stats().frames
        await asyncio.sleep(0.01)
        broadcast.sweep()
        assert not broadcast.feeds
        assert broadcast.stats().frames == frames
    assert frames == 2 * 50


async def test_codecs_that_share_an_encoder_share_a_feed(broadcast: Broadcast) -> None:
    async with broadcast.holding("opus") as opus, broadcast.holding("ogg") as ogg, broadcast.holding("mp3") as mp3:
        assert opus is ogg
        assert opus is not mp3
        assert set(broadcast.feeds) == {"opus", "mp3"}

        def encoders() -> list[str]:
            return sorted(each.name for each in threading.enumerate() if each.name.startswith("encoder-"))

        await until(lambda: encoders() == ["encoder-mp3", "encoder-opus"])  # those of other tests have ended


# -- through real connections -----------------------------------------------------------------------------------------


async def stream(session: ClientSession, served: Running) -> aiohttp.ClientResponse | None:
    response = await session.get(f"{served.url}/stream/main.mp3")
    if response.status == 200:
        return response
    assert response.status == 503
    assert (await response.json())["message"] == "this station is full"
    return None


async def plain(session: ClientSession, served: Running) -> aiohttp.ClientWebSocketResponse | None:
    with contextlib.suppress(aiohttp.WSServerHandshakeError):
        return await session.ws_connect(f"{served.url}/ws/main/plain")
    return None


async def socket(session: ClientSession, served: Running) -> aiohttp.ClientWebSocketResponse | None:
    made = await session.ws_connect(f"{served.url}/ws/main", protocols=["riffstream.v1"])
    await made.send_json(HELLO)
    if (await made.receive_json())["type"] == "welcome":
        return made
    assert (await made.receive_json())["reason"] == "full"
    await made.close()
    return None


@pytest.mark.parametrize("joining", [stream, plain, socket])
async def test_a_rush_does_not_pass_the_cap_and_places_come_back(joining: Any) -> None:
    limits = {"listeners_per_station": CAP, "connections_per_address": 1000}
    async with running(speed=1.0, limits=limits) as served, ClientSession() as session:
        for _ in range(2):
            found = await asyncio.gather(*(joining(session, served) for _ in range(40)))
            inside = [each for each in found if each is not None]
            assert len(inside) == CAP
            assert served.server.context.broadcasts["main"].listeners == CAP
            for each in inside:
                each.close() if isinstance(each, aiohttp.ClientResponse) else await each.close()
            await until(lambda: served.server.context.connections.open == 0)
            assert served.server.context.broadcasts["main"].listeners == served.station.attached == 0


async def test_listeners_that_come_and_go_500_times_leave_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each visit is on a feed of its own, as on a quiet server: 0.96 MB of PCM each."""
    monkeypatch.setattr(module, "FEED_IDLE_S", 0.0)
    station = FakeStation()
    station.advance(6 * 48_000)
    blocks = station.recent()
    monkeypatch.setattr(station, "recent", lambda: blocks)
    broadcast = Broadcast(station, Config())

    async def visit() -> int:
        with taken(broadcast) as place, broadcast.joined(Member(stay)):
            feed = await place.feed("pcm_s16")
            fanout = feed.fanout("v1-pcm_s16", 100)
            broadcast.sessions.leave(broadcast.sessions.open(fanout.number, place.give_back))
            held = sum(len(chunk.payload) for chunk in feed._ring)
        broadcast.sweep()
        assert not station.outlet("pcm_s16").running
        return held

    def alive() -> int:
        gc.collect()
        objects = gc.get_objects()  # isinstance wakes lazy modules
        chunks = [each for each in objects if type(each) is Chunk]
        return sum(len(each.payload) for each in chunks) + 1000 * sum(type(each) is Fanout for each in objects)

    assert await visit() > 900_000
    before = alive()
    for _ in range(500):
        await visit()
    assert alive() <= before + 2000
    assert len(broadcast.sessions) == 501
    monkeypatch.setattr(broadcast.sessions, "kept_s", 0.0)
    broadcast.sweep()
    assert len(broadcast.sessions) == 0
    assert broadcast.listeners == station.attached == 0
    await broadcast.close("bye")
    await station.close()
