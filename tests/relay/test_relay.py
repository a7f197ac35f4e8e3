"""A relay between a server and its clients, through real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from aiohttp import ClientSession, web
from yarl import URL

import riffstream
from riffstream import protocol
from riffstream.client import RadioError
from riffstream.protocol import Flags
from riffstream.relay import line
from tests.conftest import PATIENCE_S
from tests.relay.conftest import relaying, until
from tests.server.conftest import open_socket, running
from tests.server.fakes import pitch
from tests.server.test_sockets import joined, samples

MANY = {"limits": {"connections_per_address": 1000}}


def contiguous(frames: list[protocol.AudioFrame]) -> bool:
    """Whether frames follow each other in number and position, without a gap."""
    return all(
        two.seq == one.seq + 1 and two.sample_pos == one.sample_pos + one.n_samples and not two.flags
        for one, two in itertools.pairwise(frames)
    )


@pytest.mark.parametrize("codec", ["opus", "pcm_s16"])
async def test_frames_of_a_relay_are_those_of_the_origin(codec: str) -> None:
    """Number, position, revision and bytes; also through two relays."""
    async with running(speed=1.0) as origin, relaying(origin.url) as first, relaying(first.url) as second:
        clients = [joined(each, codecs=[codec]) for each in (origin, first, second)]
        async with clients[0] as direct, clients[1] as near, clients[2] as far:
            welcomes = [await each.message("welcome") for each in (direct, near, far)]
            await near.send(type="steer", id="a", prompts=[{"text": "rain"}])
            await near.message("applied", id="a")
            heard = []
            for each in (direct, near, far):
                frames = await each.audio(20)
                while not any(frame.rev for frame in frames):
                    frames += await each.audio(5)
                heard.append({frame.seq: frame for frame in frames})
        shared = sorted(set.intersection(*(set(each) for each in heard)))
        assert len(shared) >= 10
        for seq in shared:
            assert heard[0][seq] == heard[1][seq] == heard[2][seq]
        assert all(contiguous(list(each.values())) for each in heard)
    ids = [each.server.context.server_id for each in (second, first, origin)]
    assert [each["path"] for each in welcomes] == [ids[2:], ids[1:], ids]
    assert welcomes[0]["session"].split(".")[0] == welcomes[2]["session"].split(".")[0]


async def test_one_connection_for_each_codec_however_many_listen() -> None:
    async with running(speed=1.0) as origin, relaying(origin.url) as relay:
        station = origin.server.context.broadcast("main")
        assert station.listeners == 0  # the origin may rest while nobody listens at the relay
        async with joined(relay, codecs=["opus"]) as one, joined(relay, codecs=["opus"]) as two:
            await one.audio(3)
            await two.audio(3)
            async with joined(relay, codecs=["pcm_s16"]) as three:
                await three.audio(3)
                assert station.listeners == 2
        assert relay.server.context.broadcast("main").joined_total == 3
        figures = relay.server.hub.stations["main"].stats()
    assert figures["upstream_bytes"] > 10_000
    assert figures["upstream_connects"] == 3  # messages, Opus, PCM


async def test_a_change_is_answered_with_the_clients_id_and_heard() -> None:
    async with running(speed=1.0) as origin, relaying(origin.url) as relay, joined(relay) as one, joined(relay) as two:
        for client in (one, two):
            assert (await client.message("welcome"))["role"] == "owner"
        await one.send(type="steer", id="same", prompts=[{"text": "rain"}])
        scheduled = await one.message("scheduled", id="same")
        applied = await one.message("applied", id="same")
        assert applied["rev"] == scheduled["rev"] == 1
        now = await two.message("now", rev=1)
        assert now["state"]["prompts"][0]["text"] == "rain"
        await two.send(type="steer", id="same", bpm=100, if_rev=77)
        assert (await two.message("rejected", id="same"))["code"] == "stale_rev"
        await two.send(type="steer", id="b", bpm=9999)
        assert (await two.message("rejected", id="b"))["field"] == "bpm"
        await two.send(type="transport", id="p", op="pause")
        await two.message("applied", id="p")
        assert len(origin.station.steers) == 2
        assert [each["id"] for each in one.messages if each["type"] in ("scheduled", "rejected")] == ["same"]
        last = (await one.audio(30))[-1]
        assert last.rev >= 1


async def test_the_queue_is_that_of_the_origin() -> None:
    async with running(speed=4.0) as origin, relaying(origin.url) as relay, joined(relay, codecs=[]) as client:
        await client.send(type="queue", id="q", op="add", prompts=[{"text": "rain"}])
        answer = await client.message("queue", id="q")
        assert answer["queue"]["items"][0]["prompts"][0]["text"] == "rain"
        assert origin.station.queued() == relay.server.context.broadcast("main").station.queued()
        await client.send(type="queue", id="r", op="remove", item="nope")
        assert (await client.message("rejected", id="r"))["field"] == "item"
        async with joined(relay, codecs=[]) as late:
            assert (await late.message("welcome"))["queue"] == answer["queue"]


async def test_rights_are_those_that_the_origin_gives_to_the_clients_own_token() -> None:
    access = {"dj_token": "dj", "owner_token": "boss"}
    async with running(speed=1.0, access=access, **MANY) as origin, relaying(origin.url) as relay:
        for token, role in ((None, "listener"), ("dj", "dj"), ("boss", "owner")):
            async with joined(relay, token=token) as client:
                welcome = await client.message("welcome")
                assert welcome["role"] == role
                assert (welcome["reason"] is None) == (role != "listener")
                await client.send(type="steer", id="a", prompts=[{"text": "rain"}])
                if role == "listener":
                    assert (await client.message("rejected", id="a"))["code"] == "forbidden"
                else:
                    await client.message("applied", id="a")
        async with joined(relay, token="wrong") as client:
            assert (await client.message("rejected"))["code"] == "unauthorised"
        page = {"Origin": "https://evil.example"}
    async with running(speed=1.0) as origin, relaying(origin.url) as relay:
        async with open_socket(relay.ws(), additional_headers=page, subprotocols=["riffstream.v1"]) as raw:  # type: ignore[list-item]
            await raw.send('{"type":"hello","v":1,"codecs":[],"steer":true}')
            welcome = protocol.decode_server(str(await raw.recv()))
        assert isinstance(welcome, protocol.Welcome)
        assert (welcome.role, welcome.reason is None) == ("listener", False)


async def test_a_relay_of_a_private_server_is_private() -> None:
    access: dict[str, Any] = {"listen_token": "ears", "dj_token": "dj", "private": True}
    async with (
        running(speed=1.0, access=access, **MANY) as origin,
        relaying(origin.url, relay={"token": "ears"}) as relay,
        ClientSession() as session,
    ):
        for token, status in ((None, 401), ("wrong", 401), ("ears", 200)):
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            async with session.get(f"{relay.url}/stream/main.mp3", headers=headers) as answer:
                assert answer.status == status
            async with joined(relay, token=token) as client:
                kind = "welcome" if status == 200 else "rejected"
                assert (await client.message(kind))["type"] == kind
        async with joined(relay, token="dj") as client:
            assert (await client.message("welcome"))["role"] == "dj"


async def test_a_restart_of_the_connection_loses_no_sample() -> None:
    async with running(speed=1.0) as origin, relaying(origin.url) as relay, joined(relay, codecs=["opus"]) as client:
        frames = await client.audio(5)
        for connection in list(origin.server.context.broadcast("main").members):
            connection.send.__self__.transport.abort()  # type: ignore[union-attr]
        frames += await client.audio(25)
        assert relay.server.hub.stations["main"].stats()["upstream_connects"] >= 3
    assert contiguous(frames)


async def test_a_listener_changes_the_server_without_a_gap() -> None:
    """From a relay to the origin and to another relay, as behind a load balancer."""
    async with running(speed=1.0) as origin, relaying(origin.url) as one, relaying(origin.url) as two:
        for steer in (True, False):
            async with joined(one, codecs=["opus"], steer=steer) as client:
                session = (await client.message("welcome"))["session"]
                last = (await client.audio(4))[-1]
            for server in (origin, two):
                resume = {"session": session, "last_seq": last.seq, "sample_pos": last.sample_pos + last.n_samples}
                async with joined(server, codecs=["opus"], steer=steer, resume=resume) as client:
                    welcome = await client.message("welcome")
                    assert welcome["resumed"], (steer, server is origin)
                    session, frames = welcome["session"], await client.audio(3)
                assert frames[0].sample_pos == resume["sample_pos"]
                assert contiguous(frames)
                last = frames[-1]
            foreign = {**resume, "session": "other.x"}
            async with joined(two, codecs=["opus"], steer=steer, resume=foreign) as client:
                assert not (await client.message("welcome"))["resumed"]


async def test_the_python_client_moves_to_another_server_without_a_discontinuity() -> None:
    """One address, two servers behind it, of which one is killed."""
    async with running(speed=1.0) as origin, relaying(origin.url) as one, relaying(origin.url) as two:
        target, tasks = [one], set()

        async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            port = int(target[0].url.rsplit(":", 1)[1])
            other_reader, other_writer = await asyncio.open_connection("127.0.0.1", port)

            async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
                while data := await source.read(65536):
                    sink.write(data)
                sink.close()

            tasks.add(asyncio.create_task(pump(reader, other_writer)))
            tasks.add(asyncio.create_task(pump(other_reader, writer)))
            writers.append(writer)

        writers: list[asyncio.StreamWriter] = []
        balancer = await asyncio.start_server(forward, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{balancer.sockets[0].getsockname()[1]}"
        blocks = []
        async with riffstream.connect(url) as radio, asyncio.timeout(PATIENCE_S):
            while radio.reconnects == 0 or len(blocks) < 60:
                blocks.append(await anext(radio))
                if len(blocks) == 20:
                    target[0] = two
                    writers[0].transport.abort()
        balancer.close()
        for task in tasks:
            task.cancel()
    assert not any(block.discontinuity for block in blocks[1:])
    for first, second in itertools.pairwise(blocks):
        assert second.sample_pos == first.sample_pos + len(first.samples)


async def test_every_other_way_to_listen_works_at_a_relay() -> None:
    async with running(speed=1.0, preroll=12 * 48_000) as origin, relaying(origin.url) as relay:
        async with ClientSession() as session:
            for codec in ("mp3", "aac", "ogg", "wav"):
                async with session.get(f"{relay.url}/stream/main.{codec}") as answer:
                    assert answer.status == 200
                    assert len(await answer.content.readexactly(16_000)) == 16_000
            async with session.get(f"{relay.url}/hls/main/128.m3u8") as answer:
                assert answer.status == 200
                assert ".m4s" in await answer.text()
            async with session.get(f"{relay.url}/api/stations") as answer:
                about = (await answer.json())["stations"][0]
            assert (about["id"], about["title"]) == ("main", "The Test Tone")
            async with session.get(f"{relay.url}/api/stations/main/recording?seconds=1&format=wav") as answer:
                assert answer.status == 200
            async with session.get(f"{relay.url}/api/stations/main/events") as answer:
                assert b"event: now" in await answer.content.readline()
            async with session.get(f"{relay.url}/healthz") as answer:
                upstream = (await answer.json())["upstream"]
            assert (upstream["state"], upstream["servers"], upstream["reason"]) == ("connected", 1, None)
            async with session.get(f"{relay.url}/metrics") as answer:
                metrics = await answer.text()
            assert 'riffstream_station_upstream_connected{station="main"} 1.0' in metrics
            assert 'riffstream_station_upstream_bytes_total{station="main"}' in metrics
        async with joined(relay) as client:
            wave = samples(await client.audio(10)).astype(np.float32)
            assert abs(pitch(wave) - 300) < 3
            clock = None
            await client.send(type="clock", t0=1.0)
            clock = await client.message("clock")
            assert abs(clock["sample_pos"] - origin.station.sample_pos) < 12_000
        async with open_socket(relay.ws("main/plain")) as plain:
            await plain.send("rain")
            async with asyncio.timeout(PATIENCE_S):
                while not str(line := await plain.recv()).startswith("applied"):
                    assert isinstance(line, bytes) or not line.startswith("error"), line


async def test_a_relay_of_itself_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"ws://127.0.0.1:{port}"
    async with relaying(f"{url}/ws/main", wait=False, server={"port": port, "host": "127.0.0.1"}) as alone:
        await asyncio.sleep(1)
        async with ClientSession() as session, session.get(f"{alone.url}/readyz") as answer:
            assert answer.status == 503
        with pytest.raises(RadioError):
            async with riffstream.connect(alone.url, reconnect=False):
                pass
    async with (
        running(speed=1.0) as origin,
        relaying(origin.url, url, server={"port": port, "host": "127.0.0.1"}) as relay,
    ):
        hub = relay.server.hub
        with pytest.raises(RadioError, match="fed by this relay"):
            await hub.upstreams.connect(  # type: ignore[attr-defined]
                hub.upstreams.addresses[1],
                "main",
                protocol.Hello(v=1, codecs=()),  # type: ignore[attr-defined]
            )


async def test_listeners_of_a_lost_upstream_are_told_and_steers_are_answered() -> None:
    async with (
        running(speed=1.0) as origin,
        relaying(origin.url) as relay,
        joined(relay, codecs=["opus"]) as client,
    ):
        await client.message("welcome")
        await client.audio(3)
        await origin.server.stop()
        assert (await client.message("event", kind="upstream"))["reason"] == "lost"
        await client.send(type="steer", id="a", prompts=[{"text": "rain"}])
        refusal = await client.message("rejected", id="a")
        assert (refusal["code"], refusal["retry_after_ms"] is None) == ("busy", False)
        async with joined(relay, codecs=["opus"]) as late:  # the ring still has a burst
            assert (await late.message("welcome"))["codec"] == "opus"
            assert contiguous(await late.audio(2))
        async with ClientSession() as session, session.get(f"{relay.url}/readyz") as answer:
            assert answer.status == 503
        async with ClientSession() as session, session.get(f"{relay.url}/healthz") as answer:
            assert (await answer.json())["upstream"]["state"] == "lost"
        async with joined(relay, relay="someone") as other:  # no relay follows one without a server
            assert (await other.message("rejected"))["code"] == "busy"


async def test_another_upstream_takes_over_and_no_sample_is_lost() -> None:
    async with (
        running(speed=1.0) as origin,
        relaying(origin.url) as one,
        relaying(origin.url) as two,
        relaying(one.url, two.url) as last,
        joined(last, codecs=["opus"]) as client,
    ):
        frames = await client.audio(5)
        await one.server.stop()
        frames += await client.audio(30)
        health = last.server.hub.upstream.figures()
    assert contiguous(frames)
    assert health["address"] == two.url.replace("http", "ws", 1)


async def test_an_origin_that_begins_anew_is_a_discontinuity_and_plays_on() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = {"port": port, "host": "127.0.0.1"}
    async with (
        running(speed=1.0, preroll=6_000_000, server=dict(server)) as origin,
        relaying(origin.url) as relay,
        joined(relay, codecs=["opus"]) as client,
    ):
        await client.audio(5)
        await origin.server.stop()
        async with running(speed=1.0, server=dict(server)):
            async with asyncio.timeout(PATIENCE_S):
                while not (frame := (await client.audio(1))[0]).flags & Flags.DISCONTINUITY:
                    pass
            assert frame.sample_pos < 6_000_000
            frames = [frame, *await client.audio(5)]
            assert contiguous(frames)
            told = {"type": "event", "kind": "upstream", "reason": "connected"}
            if not any(told.items() <= message.items() for message in client.messages):  # it may come before the audio
                await client.message("event", kind="upstream", reason="connected")


async def test_stations_of_the_origin_come_and_go() -> None:
    async with running("main", "jazz", speed=1.0) as origin, relaying(origin.url) as relay:
        await until(lambda: set(relay.hub.stations) == {"main", "jazz"})
        await origin.hub.create("private-x")
        async with joined(relay, "private-x") as client:  # not listed, found when it is asked for
            assert (await client.message("welcome"))["station"] == "private-x"
            assert len(await client.audio(2)) == 2
            await origin.server.context.broadcasts.end("private-x", "this station has ended")
            await client.message("bye")
        await until(lambda: "private-x" not in relay.hub.stations)
        async with ClientSession() as session, session.get(f"{relay.url}/stream/none.mp3") as answer:
            assert answer.status == 404
    async with running("main", "jazz", speed=1.0) as origin, relaying(f"{origin.url}/ws/jazz") as relay:
        await asyncio.sleep(0.3)
        assert set(relay.hub.stations) == {"jazz"}


@contextlib.asynccontextmanager
async def answering(handler: Any) -> AsyncIterator[str]:
    """A server with one handler for every address."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield "http://{}:{}".format(*runner.addresses[0][:2])
    finally:
        await runner.cleanup()


async def test_a_list_of_stations_may_come_in_pieces() -> None:
    names = [f"station-{number}" for number in range(50)]

    async def pieces(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        body = json.dumps({"stations": [{"id": name} for name in names]}).encode()
        for at in range(0, len(body), 300):
            await response.write(body[at : at + 300])
            await asyncio.sleep(0.005)
        return response

    async with answering(pieces) as url, relaying(url, wait=False) as relay:
        hub: Any = relay.hub
        assert list(await hub._listed(hub.upstreams.address())) == names


async def test_addresses_are_passed_on_as_they_were_sent() -> None:
    seen: list[str] = []

    async def note(request: web.Request) -> web.Response:
        seen.append(request.raw_path)
        return web.json_response({"stations": []})

    sent = ["/api/seeds?tag=C%23&x=1%2B1", "/api/seeds/a%3Fb", "/api/%2e%2e/metrics"]
    async with answering(note) as url, relaying(url, wait=False) as relay, ClientSession() as session:
        for path in sent:
            async with session.get(URL(f"{relay.url}{path}", encoded=True)) as answer:
                await answer.read()
    assert [path for path in seen if path in sent] == sent
    assert "/metrics" not in seen


async def test_a_clients_connection_ends_after_a_time_without_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also that of a client that only listens: the upstream has said what its token allows."""
    monkeypatch.setattr(line, "IDLE_S", 0.1)
    access = {"dj_token": "dj"}
    async with running(speed=1.0, access=access) as origin, relaying(origin.url) as relay:
        own = line.ClientLine(relay.hub.upstreams, "main", "dj", "", lambda message: None)
        assert (await own.open()).role == "dj"
        await until(lambda: own._socket is None)
        assert (await own.open()).role == "dj"
        own.close()


async def test_a_private_station_is_made_and_steered_through_a_relay() -> None:
    async with running(speed=4.0) as origin, relaying(origin.url) as relay:
        music = {"prompts": ["calm piano"]}
        async with riffstream.connect(relay.url, station="new", codec="none", music=music) as own:
            name = own.welcome.station
            assert own.welcome.role == "dj"
            await own.steer("rain")
            assert origin.hub.stations[name].steers
            async with joined(relay, name) as other:
                assert (await other.message("welcome"))["role"] == "listener"
        await until(lambda: name not in origin.hub.stations)


async def test_a_relay_loads_no_torch() -> None:
    import subprocess
    import sys

    program = "import sys, riffstream.relay.hub, riffstream.server.app; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


async def test_the_token_of_a_private_station_listens_and_steers_at_a_relay() -> None:
    access: dict[str, Any] = {"dj_token": "dj"}  # of both, as a worker has the settings of its server
    async with (
        running(speed=4.0, access=dict(access)) as origin,
        relaying(origin.url, access=dict(access)) as relay,
        ClientSession() as session,
    ):
        async with session.post(f"{relay.url}/api/sessions", json={"prompts": ["rain"]}) as answer:
            assert answer.status == 201
            made = await answer.json()
        bearer = {"Authorization": f"Bearer {made['token']}"}
        for _ in range(21):  # more than the wrong tokens of an address
            async with session.get(f"{relay.url}/api/stations", headers=bearer) as answer:
                assert answer.status == 200
        async with joined(relay, made["station"], token=made["token"], codecs=[]) as own:
            assert (await own.message("welcome"))["role"] == "dj"
            await own.send(type="steer", id="a", bpm=99)
            await own.message("applied", id="a")
