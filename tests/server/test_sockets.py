"""``/ws/{station}`` through real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from riffstream import protocol
from riffstream.config import StationConfig
from tests.conftest import PATIENCE_S
from tests.server.conftest import Running, open_socket, running

HELLO = {"type": "hello", "v": 1, "codecs": ["pcm_s16"], "steer": True}


class Client:
    """A bare client: sends dicts, gets dicts and frames."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.frames: list[protocol.AudioFrame] = []
        self.messages: list[dict[str, Any]] = []

    async def send(self, **message: Any) -> None:
        await self.socket.send(json.dumps(message))

    async def message(self, type_: str, **fields: Any) -> dict[str, Any]:
        """The next message of this type (and with these fields); frames on the way are kept."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                data = await self.socket.recv()
                if isinstance(data, bytes):
                    self.frames.append(protocol.unpack_frame(data))
                    continue
                message: dict[str, Any] = json.loads(data)
                self.messages.append(message)
                if message["type"] == type_ and fields.items() <= message.items():
                    return message

    async def audio(self, count: int) -> list[protocol.AudioFrame]:
        """The next ``count`` frames."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.frames) < count:
                data = await self.socket.recv()
                if isinstance(data, bytes):
                    self.frames.append(protocol.unpack_frame(data))
                else:
                    self.messages.append(json.loads(data))
        taken, self.frames = self.frames[:count], self.frames[count:]
        return taken

    async def ended(self) -> int:
        """The close code."""
        async with asyncio.timeout(PATIENCE_S):
            with contextlib.suppress(ConnectionClosed):
                while True:
                    data = await self.socket.recv()
                    if isinstance(data, str):
                        self.messages.append(json.loads(data))
        assert self.socket.close_code is not None
        return self.socket.close_code


@contextlib.asynccontextmanager
async def joined(served: Running, station: str = "main", **hello: Any) -> AsyncIterator[Client]:
    async with open_socket(served.ws(station), subprotocols=["riffstream.v1"], compression=None) as socket:  # type: ignore[list-item]
        client = Client(socket)
        await client.send(**(HELLO | hello))
        yield client


def samples(frames: list[protocol.AudioFrame]) -> np.ndarray[Any, Any]:
    return np.concatenate([np.frombuffer(frame.payload, "<i2").reshape(-1, 2) for frame in frames])


async def test_a_codec_that_nobody_knows_is_named_with_its_field(live: Running) -> None:
    async with open_socket(live.ws()) as socket:
        await socket.send(json.dumps(HELLO | {"codecs": ["flac"]}))
        assert json.loads(await socket.recv())["field"] == "codecs"


async def test_welcome_tells_everything_a_player_needs(live: Running) -> None:
    async with joined(live) as client:
        welcome = await client.message("welcome")
        assert welcome["v"] == 1
        assert welcome["role"] == "owner"
        assert (welcome["sample_rate"], welcome["channels"], welcome["codec"]) == (48000, 2, "pcm_s16")
        assert welcome["frame_ms"] == 40
        assert welcome["state"]["prompts"] == [{"text": "a test tone", "weight": 1.0}]
        assert welcome["limits"]["steer_interval_s"] == 2.0
        assert welcome["resumed"] is False
        assert (await client.message("now"))["rev"] == 0


async def test_frames_follow_each_other_and_hold_the_stations_samples(live: Running) -> None:
    async with joined(live) as client:
        await client.message("welcome")
        frames = await client.audio(20)
    assert [frame.seq for frame in frames] == list(range(frames[0].seq, frames[0].seq + 20))
    for one, other in itertools.pairwise(frames):
        assert other.sample_pos == one.sample_pos + one.n_samples
    start = frames[0].sample_pos
    got = samples(frames)
    expected = live.station.read(start, start + len(got))
    assert np.abs(got - expected * 32767).max() <= 0.51
    assert all(frame.flags == 0 for frame in frames)


async def test_listeners_who_do_not_steer_get_long_opus_frames(live: Running) -> None:
    async with joined(live, codecs=["flac", "opus", "pcm_s16"], steer=False) as client:
        welcome = await client.message("welcome")
        assert (welcome["codec"], welcome["frame_ms"]) == ("opus", 480)
        _, *frames = await client.audio(5)  # the first of a new station lacks the packet that primes the encoder
    lengths = {frame.n_samples for frame in frames}
    # The blocks of the fake station are 100 or 40 ms long; frames end at those nearest to a grid of 480 ms.
    assert lengths == {23_040} or lengths <= {19_200, 24_000}
    assert all(960 * len(protocol.split_packets(frame.payload)) == frame.n_samples for frame in frames)


async def test_two_listeners_get_the_same_bytes(live: Running) -> None:
    async with joined(live, codecs=["opus"]) as one, joined(live, codecs=["opus"]) as other:
        first = {frame.seq: frame.payload for frame in await one.audio(10)}
        second = {frame.seq: frame.payload for frame in await other.audio(10)}
    shared = first.keys() & second.keys()
    assert len(shared) >= 5
    assert all(first[seq] == second[seq] for seq in shared)


async def test_a_steer_is_scheduled_applied_and_heard_where_it_said(live: Running) -> None:
    async with joined(live) as client:
        await client.message("welcome")
        await client.send(type="steer", id="a", prompts=[{"text": "  church\tbells "}], at="beat")
        scheduled = await client.message("scheduled")
        applied = await client.message("applied")
        assert scheduled["id"] == applied["id"] == "a"
        assert scheduled["rev"] == applied["rev"] == 1
        assert (await client.message("now", rev=1))["state"]["prompts"][0]["text"] == "church bells"
        while not any(frame.rev == 1 for frame in client.frames):
            client.frames += await client.audio(len(client.frames) + 1)
        first = next(frame for frame in client.frames if frame.rev == 1)
    assert first.sample_pos <= applied["audible_at"] < first.sample_pos + first.n_samples


async def test_a_control_socket_gets_no_audio_but_all_else(live: Running) -> None:
    async with joined(live, codecs=[]) as client:
        welcome = await client.message("welcome")
        assert welcome["codec"] is None
        await client.send(type="steer", id="a", bpm=90)
        await client.message("applied")
        assert not client.frames
    assert live.station.attached == 0


async def test_steers_beyond_the_rate_are_merged_into_the_latest(live: Running) -> None:
    async with joined(live, codecs=[]) as client:
        await client.message("welcome")
        for n in range(6):
            await client.send(type="steer", id=str(n), **({"bpm": 100 + n} if n != 4 else {"key": 3}))
        for n in (3, 4):
            assert (await client.message("superseded", id=str(n)))["by"] == str(n + 1)
        await client.message("applied", id="5")
    last = live.station.steers[-1]
    assert isinstance(last, protocol.Steer)
    assert (last.bpm, last.key) == (105, 3)
    assert len(live.station.steers) == 4


async def test_a_steer_overtaken_by_someone_else_is_superseded() -> None:
    async with running() as served, joined(served, codecs=[]) as one, joined(served, codecs=[]) as other:
        await one.message("welcome")
        await other.message("welcome")
        await one.send(type="steer", id="x", bpm=100)
        await one.message("scheduled")
        await other.send(type="steer", id="x", bpm=120)
        await other.message("scheduled")
        assert (await one.message("superseded"))["by"] == "other"
        served.station.advance(14_400)
        assert (await other.message("applied"))["id"] == "x"


async def test_if_rev_and_transport(live: Running) -> None:
    async with joined(live, codecs=[]) as client:
        await client.message("welcome")
        await client.send(type="steer", id="a", bpm=100, if_rev=7)
        rejected = await client.message("rejected")
        assert (rejected["id"], rejected["code"], rejected["field"]) == ("a", "stale_rev", "if_rev")
        await client.send(type="transport", id="b", op="pause")
        assert (await client.message("applied"))["id"] == "b"
        assert live.station.state.paused


async def test_clock_tells_both_times_and_the_audible_sample(live: Running) -> None:
    async with joined(live, codecs=[]) as client:
        await client.message("welcome")
        await client.send(type="clock", t0=123.5)
        clock = await client.message("clock")
        assert clock["t0"] == 123.5
        assert clock["t1"] <= clock["t2"] < clock["t1"] + 1000
        assert 0 <= live.station.sample_pos - clock["sample_pos"] < 480_000


async def test_resume_goes_on_without_a_gap(live: Running) -> None:
    async with joined(live) as client:
        welcome = await client.message("welcome")
        before = await client.audio(5)
    await asyncio.sleep(0.1)
    resume = {"session": welcome["session"], "last_seq": before[-1].seq}
    async with joined(live, resume=resume) as client:
        again = await client.message("welcome")
        assert again["resumed"] is True
        assert again["session"] != welcome["session"]
        after = await client.audio(5)
    assert after[0].seq == before[-1].seq + 1
    assert after[0].sample_pos == before[-1].sample_pos + before[-1].n_samples
    assert after[0].flags == 0
    # A session is resumed once; whoever copies it gets a stream of its own.
    async with joined(live, resume=resume) as client:
        assert (await client.message("welcome"))["resumed"] is False
        assert (await client.audio(1))[0].flags == protocol.Flags.DISCONTINUITY


@pytest.mark.parametrize(
    "resume", [{"session": "unknown", "last_seq": 3}, {"session": "?" * 64, "last_seq": 2**32 - 1}]
)
async def test_an_unknown_session_starts_afresh_with_a_discontinuity(live: Running, resume: dict[str, Any]) -> None:
    async with joined(live, resume=resume) as client:
        assert (await client.message("welcome"))["resumed"] is False
        frames = await client.audio(2)
        assert [frame.flags for frame in frames] == [protocol.Flags.DISCONTINUITY, 0]


@pytest.mark.parametrize(
    ("hello", "code"),
    [
        ({"v": 0}, "unsupported_version"),
        ({"codecs": ["flac", "midi"]}, "bad_request"),
        ({"v": "one"}, "bad_request"),
        ({"type": "steer", "id": "a"}, "bad_request"),
        ({"type": "nonsense"}, "bad_request"),
        ({"token": "wrong"}, "unauthorised"),
    ],
)
async def test_a_hello_that_cannot_be_accepted_is_rejected_and_closed(hello: dict[str, Any], code: str) -> None:
    async with running(access={"dj_token": "right"}) as served, joined(served, **hello) as client:
        assert await client.ended() == 1008
        assert client.messages[0]["type"] == "rejected"
        assert client.messages[0]["code"] == code
        assert client.messages[-1]["type"] == "bye"
        assert client.messages[-1].get("reconnect_ms") is None


async def test_a_newer_client_is_answered_in_our_version(live: Running) -> None:
    async with joined(live, v=9, codecs=[], from_the_future=True) as client:
        assert (await client.message("welcome"))["v"] == 1


async def test_an_unknown_subprotocol_is_refused(live: Running) -> None:
    async with open_socket(live.ws(), subprotocols=["riffstream.v9"]) as socket:  # type: ignore[list-item]
        client = Client(socket)
        await client.ended()
        assert client.messages[0]["code"] == "unsupported_version"


async def test_tokens_decide_roles() -> None:
    async with running(access={"dj_token": "dj-1", "owner_token": "own-1"}) as served:
        for token, role in ((None, "listener"), ("dj-1", "dj"), ("own-1", "owner")):
            async with joined(served, codecs=[], token=token) as client:
                assert (await client.message("welcome"))["role"] == role
                await client.send(type="steer", id="a", bpm=100)
                answer = await client.message("rejected" if token is None else "scheduled")
                assert answer.get("code") == ("forbidden" if token is None else None)
    assert len(served.hub.stations) == 0


async def test_pages_of_other_sites_may_listen_but_not_steer(live: Running) -> None:
    for origin, role in (("https://evil.example", "listener"), (live.url, "owner")):
        async with open_socket(live.ws(), origin=origin) as socket:  # type: ignore[arg-type]
            client = Client(socket)
            await client.send(**HELLO)
            assert (await client.message("welcome"))["role"] == role
            assert await client.audio(1)


async def test_a_page_of_an_unknown_address_learns_what_to_set_and_the_log_says_it_once(
    live: Running, caplog: pytest.LogCaptureFixture
) -> None:
    origin = "http://mypc.fritz.box:8080"
    for _ in range(3):
        async with open_socket(live.ws(), origin=origin) as socket:  # type: ignore[arg-type]
            client = Client(socket)
            await client.send(**HELLO | {"codecs": []})
            assert f'add "{origin}" to server.allowed_origins' in (await client.message("welcome"))["reason"]
            await client.send(type="steer", id="a", bpm=100)
            assert origin in (await client.message("rejected"))["message"]
    assert [getattr(record, "field_origin", "") for record in caplog.records].count(origin) == 1
    async with joined(live, codecs=[]) as client:
        assert (await client.message("welcome"))["reason"] is None
    async with (
        running(server={"public_url": f"{origin}/radio"}) as served,
        open_socket(served.ws(), origin=origin) as socket,  # type: ignore[arg-type]
    ):
        client = Client(socket)
        await client.send(**HELLO | {"codecs": []})
        welcome = await client.message("welcome")
        assert (welcome["role"], welcome["reason"]) == ("owner", None)


async def test_nobody_steers_a_station_that_is_not_to_be_steered() -> None:
    async with running() as served:
        await served.hub.create("fixed", StationConfig(steer=False))
        async with joined(served, "fixed", codecs=[]) as client:
            welcome = await client.message("welcome")
            assert (welcome["role"], welcome["reason"]) == ("owner", "station fixed cannot be steered")
            for message in ({"type": "steer", "bpm": 100}, {"type": "transport", "op": "skip"}):
                await client.send(id="a", **message)
                answer = await client.message("rejected")
                assert (answer["code"], answer["message"]) == ("forbidden", "station fixed cannot be steered")
        async with open_socket(served.ws("fixed/plain")) as plain:
            await plain.send("jazz")
            async with asyncio.timeout(PATIENCE_S):
                while not (line := str(await plain.recv())).startswith("error"):
                    pass
        assert line == "error forbidden: station fixed cannot be steered"
        assert served.hub.stations["fixed"].steers == []


def largest_steer(text: str) -> dict[str, Any]:
    prompts = [{"text": text, "weight": 1.25} for _ in range(8)]
    return {
        "type": "steer",
        "id": "i" * 64,
        "prompts": prompts,
        "negative": text,
        "seed_image": "s" * 200,
        "bpm": 120.5,
    }


@pytest.mark.parametrize("character", ["a", "я", "音", "🎷"])
@pytest.mark.parametrize("escaped", [False, True])
async def test_the_largest_steer_that_is_advertised_is_accepted(live: Running, character: str, escaped: bool) -> None:
    async with joined(live, codecs=[]) as client:
        limits = (await client.message("welcome"))["limits"]
        assert (limits["prompts"], limits["prompt_chars"]) == (8, 300)
        data = json.dumps(largest_steer(character * 300), ensure_ascii=escaped)
        assert len(data.encode()) <= limits["message_bytes"]
        await client.socket.send(data)
        answer = await client.message("scheduled")
        assert answer["id"] == "i" * 64


async def test_a_larger_message_is_accepted_where_the_limit_says_so() -> None:
    async with (
        running(limits={"message_bytes": 65_536, "prompt_chars": 50}) as served,
        joined(served, codecs=[]) as client,
    ):
        await client.message("welcome")
        padded = json.dumps({"type": "steer", "id": "a", "bpm": 100}) + " " * 60_000
        await client.socket.send(padded)
        await client.message("scheduled")
        await client.send(type="steer", id="b", prompts=[{"text": "x" * 51}])
        answer = await client.message("rejected")
        assert answer["message"] == "prompts[0].text has 51 characters; allowed: up to 50"
        assert (answer["id"], answer["field"], answer["code"]) == ("b", "prompts[0].text", "prompt_rejected")
        await client.send(type="steer", id="c", negative="x" * 51)
        assert "allowed: up to 50" in (await client.message("rejected"))["message"]
        await client.socket.send(padded + " " * 6000)
        assert await client.ended() == 1009


async def test_a_listen_token_is_needed_where_configured() -> None:
    async with running(access={"listen_token": "ears"}) as served:
        async with joined(served) as client:
            await client.ended()
            assert client.messages[0]["code"] == "unauthorised"
        async with joined(served, token="ears") as client:
            assert (await client.message("welcome"))["role"] == "listener"


async def test_caps_on_listeners_and_connections() -> None:
    async with running(limits={"listeners_per_station": 1, "connections_per_address": 2}) as served:
        async with joined(served) as one:
            await one.message("welcome")
            async with joined(served) as two:
                await two.ended()
                assert two.messages[0]["code"] == "busy"
                assert two.messages[0]["retry_after_ms"] == 5000
                assert two.messages[1]["reason"] == "full"
            async with joined(served, codecs=[]) as control:  # steering costs no stream
                await control.message("welcome")
                with pytest.raises(InvalidStatus) as refused:
                    await open_socket(served.ws())
                assert refused.value.response.status_code == 503
                assert refused.value.response.headers["Retry-After"] == "5"
        async with joined(served) as again:
            await again.message("welcome")


async def test_an_unknown_station_is_404(live: Running) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await open_socket(live.ws("nowhere"))
    assert refused.value.response.status_code == 404


async def test_large_binary_and_endless_messages_are_refused() -> None:
    async with running() as served:
        async with joined(served) as client:
            await client.message("welcome")
            await client.socket.send(b"\0" * 10)
            assert (await client.message("rejected"))["code"] == "bad_request"
            await client.socket.send("x" * 40_000)
            assert await client.ended() == 1009
        async with joined(served, codecs=[]) as client:
            await client.message("welcome")
            for _ in range(200):
                await client.send(type="clock", t0=1)
            assert await client.ended() == 1000
            assert client.messages[-2]["code"] == "rate_limited"
            assert client.messages[-1]["type"] == "bye"
        async with joined(served, codecs=[]) as client:
            await client.message("welcome")


async def test_bye_and_hello_again(live: Running) -> None:
    async with joined(live, codecs=[]) as client:
        await client.message("welcome")
        await client.send(**HELLO)
        assert "already" in (await client.message("rejected"))["message"]
        await client.send(type="bye", reason="enough")
        assert await client.ended() == 1000


async def test_leaving_listeners_are_counted_out_and_announced(live: Running) -> None:
    async with joined(live, codecs=[]) as watcher:
        await watcher.message("welcome")
        async with joined(live) as client:
            await client.audio(1)
            assert live.station.attached == 1
            while (await watcher.message("event", kind="listeners"))["listeners"] != 1:
                pass
        async with asyncio.timeout(PATIENCE_S):
            while live.station.attached or live.server.context.connections.open > 1:
                await asyncio.sleep(0.01)
        assert live.server.context.connections.open == 1


async def test_a_draining_server_says_bye_and_when_to_return() -> None:
    async with running(speed=10.0) as served, joined(served) as client, joined(served, codecs=[]) as control:
        await client.audio(3)
        await control.message("welcome")
        await asyncio.gather(served.server.stop(), client.ended(), control.ended())
        for each in (client, control):
            assert each.messages[-1]["type"] == "bye"
            assert each.messages[-1]["reason"] == "restarting"
            assert 500 <= each.messages[-1]["reconnect_ms"] <= 4500
            assert each.socket.close_code == 1012
