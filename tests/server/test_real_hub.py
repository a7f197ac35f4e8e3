"""The sockets once more, with real stations and a real generator process behind the server (the test tone)."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import ClientSession, WSMsgType

from riffstream.config import Config
from riffstream.protocol import Flags
from riffstream.server.app import Server
from riffstream.station.hub import Hub
from tests.conftest import PATIENCE_S
from tests.server.conftest import Running, open_socket
from tests.server.test_plain_socket import (  # noqa: F401  (they run here once more)
    Plain,
    test_an_unknown_codec_is_refused,
    test_mp3_comes_as_frames,
)
from tests.server.test_registry import until
from tests.server.test_sockets import (  # noqa: F401  (they run here once more)
    joined,
    samples,
    test_an_unknown_session_starts_afresh_with_a_discontinuity,
    test_an_unknown_station_is_404,
    test_bye_and_hello_again,
    test_clock_tells_both_times_and_the_audible_sample,
    test_listeners_who_do_not_steer_get_long_opus_frames,
    test_resume_goes_on_without_a_gap,
    test_two_listeners_get_the_same_bytes,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONFIG = {
    "server": {"port": 0, "drain_s": 1.0},
    "generator": {"model": "tone"},
    "stations": {"main": {"prompts": ["a test tone"]}, "fixed": {"prompts": ["a test tone"], "steer": False}},
    "limits": {"stations": 4, "steer_interval_s": 0.1, "listeners_per_station": 4, "connections_per_address": 100},
}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def real() -> AsyncIterator[Running]:
    config = Config.from_dict(CONFIG)
    hub = Hub(config)
    server = Server(config, hub)
    await server.start()
    try:
        await hub.wait_ready(60)
        yield Running(server, hub)  # type: ignore[arg-type]
    finally:
        await server.stop()


@pytest.fixture
def live(real: Running) -> Running:
    """The server of the imported tests."""
    return real


async def test_frames_follow_each_other_and_sound(real: Running) -> None:
    async with joined(real) as client:
        welcome = await client.message("welcome")
        assert (welcome["codec"], welcome["frame_ms"], welcome["resumed"]) == ("pcm_s16", 40, False)
        assert (welcome["caps"]["model"], welcome["caps"]["seed_image"]) == ("tone", None)
        assert (await client.message("now"))["state"]["prompts"][0]["text"] == "a test tone"
        frames = await client.audio(15)
    assert [frame.seq for frame in frames] == list(range(frames[0].seq, frames[0].seq + 15))
    for one, two in itertools.pairwise(frames):
        assert two.sample_pos == one.sample_pos + one.n_samples
    assert abs(samples(frames)).max() > 1000


async def test_a_steer_is_scheduled_applied_and_heard_where_it_said(real: Running) -> None:
    async with joined(real) as client:
        rev = (await client.message("welcome"))["rev"]
        await client.send(type="steer", id="a", prompts=[{"text": "church bells"}])
        scheduled = await client.message("scheduled", id="a")
        assert scheduled["rev"] == rev + 1
        applied = await client.message("applied", id="a")
        assert applied["rev"] == scheduled["rev"]
        async with asyncio.timeout(PATIENCE_S):
            while not any(frame.rev == rev + 1 for frame in client.frames):
                client.frames += await client.audio(len(client.frames) + 1)
        first = next(frame for frame in client.frames if frame.rev == rev + 1)
        assert first.sample_pos <= applied["audible_at"] <= first.sample_pos + first.n_samples


async def test_not_even_the_owner_steers_a_station_that_is_not_to_be_steered(real: Running) -> None:
    async with joined(real, "fixed") as client:
        welcome = await client.message("welcome")
        assert (welcome["role"], welcome["reason"]) == ("owner", "station fixed cannot be steered")
        await client.send(type="steer", id="a", bpm=100)
        assert (await client.message("rejected", id="a"))["code"] == "forbidden"
        await client.send(type="transport", id="p", op="pause")
        assert (await client.message("rejected", id="p"))["code"] == "forbidden"
        assert len(await client.audio(3)) == 3
    async with open_socket(real.ws("fixed/plain")) as socket:
        plain = Plain(socket)
        await socket.send("rain")
        assert "forbidden" in await plain.line("error")
        await plain.more(40_000)
    assert real.hub.stations["fixed"].rev == 0


async def test_steers_that_wait_are_answered_once_each_and_end_where_the_last_one_says(real: Running) -> None:
    """Three go to the station at once, which schedules one and keeps the newest; the server merges the others."""
    async with joined(real, codecs=[]) as client:
        await client.message("welcome")
        for n in range(6):
            await client.send(type="steer", id=f"w{n}", **({"bpm": 100 + n} if n != 4 else {"key": 3}))
        await client.message("applied", id="w5")
        state = real.hub.stations["main"].state
    final = Counter(each["id"] for each in client.messages if each["type"] in ("applied", "superseded", "rejected"))
    assert final == {f"w{n}": 1 for n in range(6)}
    assert [each["type"] for each in client.messages if each.get("id") == "w4"] == ["superseded"]
    assert (state.bpm, state.key) == (105, 3)


async def test_of_two_steers_at_once_the_later_supersedes_the_earlier(real: Running) -> None:
    async with joined(real) as one, joined(real) as two:
        await one.message("welcome")
        await two.message("welcome")
        await one.send(type="transport", id="p", op="pause")  # so that neither is applied before the other comes
        await one.message("applied", id="p")
        await one.send(type="steer", id="same", prompts=[{"text": "rain"}])
        await one.message("scheduled", id="same")
        await two.send(type="steer", id="same", prompts=[{"text": "sun"}])
        assert (await two.message("scheduled", id="same"))["id"] == "same"
        answer = await one.message("superseded", id="same")
        assert answer["by"] == "other"
        await one.send(type="transport", id="r", op="resume")
        await two.message("applied", id="same")


async def test_a_stale_revision_is_refused(real: Running) -> None:
    async with joined(real, codecs=[]) as client:
        await client.message("welcome")
        await client.send(type="steer", id="a", bpm=100, if_rev=10_000)
        assert (await client.message("rejected", id="a"))["code"] == "stale_rev"


async def test_whoever_drops_out_resumes_without_a_gap(real: Running) -> None:
    async with joined(real, codecs=["opus"]) as client:
        session = (await client.message("welcome"))["session"]
        last = (await client.audio(5))[-1]
        client.socket.transport.abort()
    await asyncio.sleep(0.5)
    async with joined(real, codecs=["opus"], resume={"session": session, "last_seq": last.seq}) as back:
        assert (await back.message("welcome"))["resumed"]
        frames = await back.audio(8)
    assert frames[0].seq == last.seq + 1
    assert frames[0].sample_pos == last.sample_pos + last.n_samples
    assert not any(frame.flags & Flags.DISCONTINUITY for frame in frames)


async def test_every_way_to_listen_counts_and_is_counted_out(real: Running) -> None:
    station, broadcast = real.hub.stations["main"], real.server.context.broadcasts["main"]
    await until(lambda: broadcast.listeners == 0)
    async with ClientSession() as session, joined(real) as client:
        await client.message("welcome")
        plain = await session.ws_connect(f"{real.url}/ws/main/plain")
        stream = await session.get(f"{real.url}/stream/main.mp3")
        assert len(await stream.content.readexactly(8000)) == 8000
        while (await plain.receive()).type is not WSMsgType.BINARY:
            pass
        assert broadcast.listeners == station.listeners == 3  # type: ignore[attr-defined]
        assert station.stats()["listeners_by_kind"] == {"ws": 1, "plain": 1, "http": 1}
        await plain.close()
        stream.close()
    await until(lambda: broadcast.listeners == station.listeners == 0)  # type: ignore[attr-defined]


async def test_a_private_station_is_made_played_and_ended(real: Running) -> None:
    url = f"{real.url}/api/stations"
    async with ClientSession() as session:
        async with session.post(url, json={"id": "private-x", "prompts": ["rain"]}) as response:
            assert response.status == 201
        async with session.post(url, json={"id": "private-x"}) as response:
            assert response.status == 409
        async with joined(real, "private-x") as client:
            await client.message("welcome")
            assert len(await client.audio(3)) == 3
            async with session.delete(f"{url}/private-x") as response:
                assert response.status == 204
            assert (await client.message("bye"))["reason"] == "this station has ended"
        async with session.delete(f"{url}/private-x") as response:
            assert response.status == 404
    assert "private-x" not in real.hub.stations
    assert real.server.context.counters["errors"] == 0


async def test_a_seed_is_heard_between_the_clips(real: Running) -> None:
    async with ClientSession() as session:
        async with session.get(f"{real.url}/api/seeds") as answer:
            seed = (await answer.json())["seeds"][0]
        async with session.get(f"{real.url}/api/{seed['audio']}?format=wav") as answer:
            assert answer.status == 200
            data = await answer.read()
    assert len(data) == pytest.approx(seed["seconds"] * 192_000, rel=0.01)
