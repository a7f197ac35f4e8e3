"""A codec whose encoder does not run: what its listeners are told, on each kind of connection, and that nobody else
is harmed."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import numpy as np
import pytest
from aiohttp import ClientError, ClientSession

from riffstream.audio.encoders import Encoder, make_encoder
from riffstream.station import outlet as module
from riffstream.station.block import Block
from tests.conftest import PATIENCE_S
from tests.server.conftest import Running, open_socket
from tests.server.test_registry import until
from tests.server.test_sockets import HELLO, Client


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The codecs that have no encoder."""
    missing: set[str] = set()

    def make(codec: str, **options: Any) -> Encoder:
        if codec in missing:
            raise OSError(f"no encoder for {codec}")
        return make_encoder(codec, **options)

    monkeypatch.setattr(module, "make_encoder", make)
    return missing


async def test_a_player_gets_503_and_others_play_on(
    live: Running, without: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        ClientSession() as session,
        asyncio.timeout(PATIENCE_S),
        session.get(f"{live.url}/stream/main.aac") as other,
    ):
        await other.content.readexactly(10_000)
        without.add("mp3")
        for headers in ({}, {"Range": "bytes=0-1"}, {"Range": "bytes=0-1073741822"}, {"Icy-MetaData": "1"}):
            async with session.get(f"{live.url}/stream/main.mp3", headers=headers) as answer:
                assert answer.status == 503
                assert int(answer.headers["Retry-After"]) >= 1
                assert (await answer.json())["code"] == "busy"
                assert "the encoder for mp3 is not available" in (await answer.json())["message"]
        await other.content.readexactly(100_000)
    assert [message for message in caplog.messages if "mp3" in message] == [caplog.messages[0]]
    await until(lambda: live.server.context.connections.open == live.station.attached == 0)
    assert live.server.context.counters["errors"] == 0


async def test_a_socket_is_rejected_with_the_time_to_come_again(live: Running, without: set[str]) -> None:
    without.add("opus")
    async with open_socket(live.ws(), subprotocols=["riffstream.v1"]) as socket:
        client = Client(socket)
        await client.send(**(HELLO | {"codecs": ["opus"]}))
        rejected, bye = await client.message("rejected"), await client.message("bye")
    assert (rejected["code"], rejected["field"]) == ("busy", "codecs")
    assert "the encoder for opus is not available" in rejected["message"]
    assert 0 < bye["reconnect_ms"] <= 1000
    assert live.station.attached == 0


async def test_a_socket_falls_back_to_the_next_codec_that_runs(live: Running, without: set[str]) -> None:
    without.add("opus")
    async with open_socket(live.ws(), subprotocols=["riffstream.v1"]) as socket:
        client = Client(socket)
        await client.send(**(HELLO | {"codecs": ["opus", "pcm_s16"]}))
        assert (await client.message("welcome"))["codec"] == "pcm_s16"


async def test_a_plain_socket_says_so_and_ends(live: Running, without: set[str]) -> None:
    without.add("mp3")
    async with ClientSession() as session, session.ws_connect(f"{live.url}/ws/main/plain?codec=mp3") as socket:
        lines = [str(message.data) async for message in socket]
    assert lines[0].startswith("error busy: the encoder for mp3 is not available")
    assert lines[-1].startswith("bye ")


async def test_an_encoder_lost_in_mid_stream_ends_its_streams_and_not_the_station(
    live: Running, without: set[str]
) -> None:
    url = f"{live.url}/stream/main"
    async with ClientSession() as session, asyncio.timeout(PATIENCE_S):
        async with session.get(f"{url}.mp3") as answer:
            await answer.content.readexactly(1000)
            without.add("mp3")
            live.station.outlets["mp3"].push(Block(0, np.zeros((10, 1), np.float32), 0, False))  # one channel: it fails
            with contextlib.suppress(ClientError):  # the connection is dropped
                await answer.content.read()
        async with session.get(f"{url}.mp3") as answer:
            assert answer.status == 503
        async with session.get(f"{url}.ogg") as answer:
            assert len(await answer.content.readexactly(50_000)) == 50_000
        without.clear()
        while True:  # the wait after a failure is one second, and longer where it was tried again meanwhile
            async with session.get(f"{url}.mp3") as answer:
                if answer.status == 200:
                    assert len(await answer.content.readexactly(50_000)) == 50_000
                    break
                assert answer.status == 503
            await asyncio.sleep(0.1)
