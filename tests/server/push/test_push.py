"""A push and servers that refuse it, stall or die: the station goes on, and says what is wrong."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import numpy as np
import pytest

from riffstream.config import PushTarget
from riffstream.protocol import Flags
from riffstream.server.push.receiver import BACKLOG_S, Backlog
from riffstream.station.outlet import Chunk
from tests.conftest import PATIENCE_S
from tests.server.conftest import running

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def until(true: Callable[[], bool], what: str, seconds: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def another(answer: Answer, rcvbuf: int | None = None) -> AsyncIterator[str]:
    """A server of a stranger; yields its address."""
    held: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await answer(reader, writer)

    with socket.socket() as sock:
        if rcvbuf is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        sock.bind(("127.0.0.1", 0))
        server = await asyncio.start_server(serve, sock=sock, limit=4096)
        try:
            yield f"icecast://source:secret@127.0.0.1:{sock.getsockname()[1]}/live.mp3"
        finally:
            server.close()
            for writer in held:
                writer.transport.abort()


def says(text: bytes) -> Answer:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(text)
        writer.close()

    return answer


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"HTTP/1.1 401 Unauthorized\r\n\r\n", "401 wrong user or password"),
        (b"HTTP/1.0 403 Mountpoint in use\r\n\r\n", "403 forbidden (mount point in use"),
        (b"HTTP/1.1 503 Full \x1b[31m\r\n\r\n", "503 Full [31m"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\n\r\n", "302 Found"),
        (b"", "closed the connection without an answer"),
        (b"SSH-2.0-OpenSSH_9\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", "not that of an Icecast server"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "the server has closed the connection"),
    ],
)
async def test_a_refusal_is_named_and_the_station_plays_on(text: bytes, problem: str) -> None:
    async with another(says(text)) as url:
        push = {"home": {"url": url, "backoff_s": 0.05, "backoff_max_s": 0.1}}
        async with running(speed=1.0, push=push) as served:
            home = served.server.context.pushes["home"]
            await until(lambda: home.failures >= 2, "it tries again")
            assert problem in home.problem
            assert "secret" not in home.problem
            before = served.station.committed
            await until(lambda: served.station.committed > before, "it plays on")


async def test_health_and_metrics_say_it_without_the_address(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as unused:  # bound, not listening: connections are refused
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        push = {"home": {"url": f"icecast://source:secret@127.0.0.1:{port}/live.mp3", "backoff_s": 0.05}}
        async with running(speed=1.0, push=push) as served, aiohttp.ClientSession() as session:
            home = served.server.context.pushes["home"]
            await until(lambda: home.failures >= 1, "refused")
            async with session.get(f"{served.url}/healthz") as answer:
                assert answer.status == 200
                text = await answer.text()
                about = await answer.json()
            assert about["push"]["home"]["state"] == "retrying"
            assert about["push"]["home"]["problem"] == "connection refused"
            assert "secret" not in text
            assert str(port) not in text
            async with session.get(f"{served.url}/metrics") as answer:
                lines = (await answer.text()).splitlines()
            assert 'riffstream_push_connected{push="home"} 0.0' in lines
            assert any(line.startswith('riffstream_push_failures_total{push="home"} ') for line in lines)
            refused = next(each for each in caplog.records if each.getMessage() == "push refused")
            assert refused.field_to.startswith("icecast://***@127.0.0.1:")  # type: ignore[attr-defined]


async def test_a_stalled_server_is_given_up_and_a_listener_beside_it_hears_no_gap() -> None:
    stalled = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        stalled.set()
        await asyncio.Event().wait()  # reads nothing more

    async with another(answer, rcvbuf=4096) as url:
        push = {"home": {"url": url, "stall_s": 0.5, "backoff_s": 0.05}}
        async with running(speed=10.0, push=push) as served:
            home = served.server.context.pushes["home"]
            await stalled.wait()

            def heard() -> bytes:
                with urllib.request.urlopen(f"{served.url}/stream/main.wav", timeout=20) as stream:
                    data: bytes = stream.read(44 + 4 * 48_000 * 20)
                    return data

            listening = asyncio.create_task(asyncio.to_thread(heard))
            await until(lambda: home.failures >= 1, "given up", 20)
            assert home.problem == "no answer or no progress for 0.5 s"
            pcm = np.frombuffer((await listening)[44:], "<i2").reshape(-1, 2)[:, 0]
            turns = np.flatnonzero((pcm[:-1] < 0) & (pcm[1:] >= 0))
            assert np.ptp(np.diff(turns)) <= 1  # the tone never jumps


async def test_a_push_counts_as_no_listener_and_keeps_the_station_awake() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while await reader.read(4096):
            pass

    async with another(answer) as url:
        limits = {"listeners_per_station": 1}
        async with running(speed=1.0, limits=limits, push={"home": {"url": url}}) as served:
            home, station = served.server.context.pushes["home"], served.station
            await until(lambda: home.state == "connected", "connected")
            assert station.attached == 1
            broadcast = served.server.context.broadcasts["main"]
            assert broadcast.listeners == 0
            await served.server.context.broadcasts.end("main", "over")
            await until(lambda: home.state == "waiting", "the station has ended")
            assert (station.attached, home.failures) == (0, 0)


def chunk(number: int) -> Chunk:
    return Chunk(number * 4800, 4800, 0, Flags.NONE, b"x")


async def test_a_backlog_drops_the_oldest() -> None:
    backlog = Backlog()
    for number in range(round(BACKLOG_S * 10) + 30):
        backlog.push(chunk(number))
    assert backlog.dropped == 30 * 4800
    first = await backlog.get()
    assert first is not None
    assert first.sample_pos == 30 * 4800
    backlog.keep(0.25)
    backlog.end()
    left = []
    while (each := await backlog.get()) is not None:
        left.append(each)
    assert len(left) in (3, 2)
    assert left[-1].sample_pos == (round(BACKLOG_S * 10) + 29) * 4800


def test_a_mount_point_names_its_codec() -> None:
    found = [PushTarget.parse(f"icecast://u:p@h/a{end}").codec for end in ("", ".mp3", ".aac", ".ogg", ".opus")]
    assert found == ["mp3", "mp3", "aac", "ogg", "ogg"]
    assert PushTarget.parse("icecast://h:9000/x", "word").password == "word"
    assert PushTarget.parse("icecasts://us%20er:p%40@[::1]/x").user == "us er"
