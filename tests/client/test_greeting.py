"""The first words of a connection, with a server that follows a script."""

from __future__ import annotations

import asyncio

import pytest

from riffstream import protocol
from riffstream.client import RadioError
from riffstream.client.greeting import greet
from tests.conftest import PATIENCE_S
from tests.scripted import scripted, welcome
from tests.server.conftest import running

HELLO = protocol.Hello(v=protocol.VERSION, codecs=("opus",))


async def greeted(url: str) -> protocol.Welcome:
    async with asyncio.timeout(PATIENCE_S):
        socket, message = await greet(url.replace("http", "ws", 1), HELLO, 5.0)
    await socket.close()
    return message


async def test_what_comes_before_the_welcome_is_skipped() -> None:
    pong = protocol.encode(protocol.ClockReply(t0=1.0, t1=2.0, t2=3.0, sample_pos=0))
    async with scripted(b"audio", pong, welcome()) as (url, heard):
        assert (await greeted(url)).session == "s"
    assert heard[0]["type"] == "hello"
    assert heard[0]["codecs"] == ["opus"]


@pytest.mark.parametrize(
    ("answer", "code", "words", "retry_after_ms"),
    [
        ('{"type":"rejected","code":"busy","message":"full","retry_after_ms":500}', "busy", "full", 500),
        ('{"type":"bye","reason":"shutting down","reconnect_ms":2000}', "busy", "shutting down", 2000),
        ("<html>", "internal", "does not speak riffstream.v1", None),
    ],
)
async def test_a_refusal_says_why_and_when_to_come_back(
    answer: str, code: str, words: str, retry_after_ms: int | None
) -> None:
    async with scripted(answer) as (url, _):
        with pytest.raises(RadioError, match=words) as refused:
            await greeted(url)
    assert (refused.value.code, refused.value.retry_after_ms) == (code, retry_after_ms)


async def test_a_refused_handshake_has_the_servers_sentence() -> None:
    """An unknown station is a matter of the address, not of the network."""
    async with running() as served:
        for station in ("none", "MAIN"):
            with pytest.raises(RadioError, match=f"no station '{station}'.* \\(HTTP 404\\)") as refused:
                await greeted(f"{served.url}/ws/{station}")
            assert refused.value.retry_after_ms is None
