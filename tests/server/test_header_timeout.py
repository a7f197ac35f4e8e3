"""Connections that do not say what they want are closed; all others are left alone. Neither fills the log."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from aiohttp import ClientSession

from tests.conftest import PATIENCE_S
from tests.server.conftest import Running, running
from tests.server.test_sockets import joined


def port(served: Running) -> int:
    return int(served.url.rsplit(":", 1)[1])


async def seconds_until_closed(served: Running, *parts: bytes, every_s: float = 0.1) -> float:
    """Sends the parts one by one, then nothing; how long the server takes to hang up."""
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection("127.0.0.1", port(served))
    began = loop.time()
    sending = asyncio.create_task(slowly(writer, parts, every_s))
    try:
        with contextlib.suppress(ConnectionError):
            await asyncio.wait_for(reader.read(), PATIENCE_S)
        return loop.time() - began
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        writer.close()


async def slowly(writer: asyncio.StreamWriter, parts: tuple[bytes, ...], every_s: float) -> None:
    for part in parts:
        writer.write(part)
        await asyncio.sleep(every_s)


async def test_slow_headers_are_cut_off() -> None:
    async with running(limits={"header_s": 0.5}) as served:
        for parts in (
            (),
            (b"GET / HTTP/1.1\r\n",),
            (b"GET / HTTP/1.1\r\nHost: x\r\n", *(b"X-%d: y\r\n" % n for n in range(1000))),
            tuple(bytes([each]) for each in b"GET / HTTP/1.1\r\nHost: example"),
        ):
            assert 0.4 < await seconds_until_closed(served, *parts) < 8.0
        assert served.server.context.connections.open == 0
        async with ClientSession() as session, session.get(f"{served.url}/metrics") as response:
            assert "riffstream_turned_away_total 4.0\n" in await response.text()


async def test_who_has_asked_may_stay() -> None:
    async with running(speed=2.0, limits={"header_s": 0.3}) as served, joined(served) as listener:
        await listener.message("welcome")
        async with ClientSession() as session, session.get(f"{served.url}/stream/main.mp3") as stream:
            await asyncio.sleep(0.6)
            assert len(await stream.content.readexactly(20_000)) == 20_000
        assert len(await listener.audio(10)) == 10


async def test_a_second_request_has_the_keep_alive_time() -> None:
    async with running(limits={"header_s": 0.2, "keepalive_s": 0.6}) as served:
        request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
        assert 0.5 < await seconds_until_closed(served, request + b"\r\n", request) < 8.0


async def test_a_crowd_at_the_door_does_not_lock_it() -> None:
    async with running(limits={"header_s": 60.0, "connections": 50}) as served:
        crowd = [await asyncio.open_connection("127.0.0.1", port(served)) for _ in range(80)]
        try:
            async with ClientSession() as session, session.get(f"{served.url}/healthz") as response:
                assert response.status == 200
            await asyncio.sleep(0.1)
            gone = sum(reader.at_eof() or reader.exception() is not None for reader, _ in crowd)
            assert 30 <= gone <= 31
        finally:
            for _, writer in crowd:
                writer.close()


async def test_nonsense_and_early_leavers_leave_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    async with running(speed=2.0) as served:
        for request in (
            b"GET /?" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200) + b"\r\n\r\n",
            b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
            b"GET / HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
            b"GET / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"POST /api/stations HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n",
        ):
            await seconds_until_closed(served, request, b"", every_s=0.0)
        for n in range(20):
            _, writer = await asyncio.open_connection("127.0.0.1", port(served))
            writer.write(b"GET /stream/main.mp3 HTTP/1.1\r\nHost: x\r\n\r\n")
            await asyncio.sleep(0.001 * n)
            writer.transport.abort()
        await asyncio.sleep(0.2)
        assert served.server.context.counters["errors"] == 0
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
