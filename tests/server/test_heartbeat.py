"""Clients that are gone without a word: their places are free again, and nobody else's connection is touched."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import ClientSession

from riffstream.bench.sinks import client_frame, run_sinks
from riffstream.config import Config, LimitsSettings
from riffstream.errors import ParameterError
from riffstream.server.fanout import Listener, websocket_frame
from riffstream.server.header_timeout import HEADER_TIMEOUT
from riffstream.server.heartbeat import Heartbeat
from tests.conftest import PATIENCE_S
from tests.server.conftest import Running, open_socket, running
from tests.server.test_registry import until
from tests.server.test_sockets import HELLO, joined

SILENCE_S = 2.0
SHAKE = (
    b"GET /ws/main HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)

# A client as a process: it opens COUNT connections of a kind, says so, and reads until it is stopped.
CLIENT = """
import socket, sys, threading
sys.path.insert(0, {root!r})
from riffstream.bench.sinks import client_frame
kind, host, port, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
shake = ("Upgrade: websocket\\r\\nConnection: Upgrade\\r\\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\\r\\n"
         "Sec-WebSocket-Version: 13\\r\\n")
path, head, after = {{
    "control": ("/ws/main", shake, client_frame('{{"type":"hello","v":1,"codecs":[]}}')),
    "opus": ("/ws/main", shake, client_frame('{{"type":"hello","v":1,"codecs":["opus"]}}')),
    "plain": ("/ws/main/plain?codec=mp3", shake, b""),
    "stream": ("/stream/main.mp3", "", b""),
    "events": ("/api/stations/main/events", "", b""),
    "request": ("/stream/main.mp3", None, b""),
    "handshake": ("/ws/main", shake, b""),
}}[kind]
def read(sock):
    while sock.recv(65536):
        pass
for _ in range(count):
    sock = socket.create_connection((host, port))
    line = f"GET {{path}} HTTP/1.1\\r\\nHost: x\\r\\n"
    sock.sendall(line.encode() if head is None else f"{{line}}{{head}}\\r\\n".encode() + after)
    threading.Thread(target=read, args=(sock,), daemon=True).start()
print("open", flush=True)
threading.Event().wait()
"""


@contextlib.contextmanager
def client(kind: str, url: str, count: int = 1, *before: str) -> Iterator[subprocess.Popen[str]]:
    """The process; ``before`` is what its command begins with."""
    host, port = url.removeprefix("http://").rsplit(":", 1)
    code = CLIENT.format(root=str(Path(__file__).parents[2]))
    command = [*before, sys.executable, "-c", code, kind, host, port, str(count)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process
    finally:
        process.kill()
        process.communicate()


class Wire:
    """A transport that notes what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


class Socket:
    """One message of a client, and then silence."""

    def __init__(self, kind: aiohttp.WSMsgType, data: Any) -> None:
        self.messages = [aiohttp.WSMessage(kind, data, None)]

    async def receive(self) -> aiohttp.WSMessage:
        if not self.messages:
            raise EOFError
        return self.messages.pop()


async def say(heartbeat: Heartbeat, listener: Listener, kind: aiohttp.WSMsgType, data: Any) -> None:
    with contextlib.suppress(EOFError):
        await heartbeat.receive(Socket(kind, data), listener)  # type: ignore[arg-type]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


PONG, PING, TEXT = aiohttp.WSMsgType.PONG, aiohttp.WSMsgType.PING, aiohttp.WSMsgType.TEXT
# What a client says every 20 s, from the newest ping that it got; and whether it stays.
ANSWERS: dict[str, tuple[Callable[[bytes], tuple[aiohttp.WSMsgType, Any] | None], bool]] = {
    "pong": (lambda ping: (PONG, ping), True),
    "text": (lambda ping: (TEXT, "hello"), True),
    "ping": (lambda ping: (PING, b"are you there?"), True),
    "nothing": (lambda ping: None, False),
    "pong that was not asked for": (lambda ping: (PONG, b""), False),
    "pong with another payload": (lambda ping: (PONG, b"1234"), False),
}


@pytest.mark.parametrize("kind", ANSWERS)
async def test_who_is_alive_stays_and_who_is_not_goes(kind: str) -> None:
    answer, stays = ANSWERS[kind]
    clock, reasons = Clock(), list[str]()
    heartbeat, wire = Heartbeat(70.0, clock), Wire()
    listener = Listener(wire, on_closed=reasons.append)  # type: ignore[arg-type]
    with heartbeat.watching(listener):
        while clock.now < 700 and not reasons:
            clock.now += 1.0
            heartbeat.visit()
            pings = [data[2:] for data in wire.written if data[0] == 0x89]
            if clock.now % 20 == 0 and pings and (message := answer(pings[-1])) is not None:
                await say(heartbeat, listener, *message)
    assert (reasons, wire.aborted) == (([], False) if stays else (["silent"], True))
    assert len(heartbeat) == 0
    assert heartbeat.closed == len(reasons)
    if not stays:
        assert 40 <= clock.now <= 70
    if kind == "ping":
        assert wire.written.count(websocket_frame(10, b"are you there?")) > 30


async def test_an_old_ping_that_is_answered_late_counts() -> None:
    """Behind half a minute of audio that a slow client has not read."""
    clock = Clock()
    heartbeat, wire = Heartbeat(70.0, clock), Wire()
    listener = Listener(wire)  # type: ignore[arg-type]
    listener.alive = False
    with heartbeat.watching(listener):
        for _ in range(2):
            clock.now += 17.0
            heartbeat.visit()
        assert len(wire.written) == 2
        await say(heartbeat, listener, PONG, b"none")
        assert not listener.alive
        await say(heartbeat, listener, PONG, wire.written[0][2:])
        assert listener.alive


async def test_a_server_that_slept_blames_nobody() -> None:
    clock = Clock()
    heartbeat, wire = Heartbeat(70.0, clock), Wire()
    with heartbeat.watching(Listener(wire)):  # type: ignore[arg-type]
        clock.now = 3600.0  # what its clients sent meanwhile is not read yet
        heartbeat.visit()
        assert not wire.aborted
        for _ in range(60):
            clock.now += 1.0
            heartbeat.visit()
        assert wire.aborted


async def test_many_are_visited_in_slices() -> None:
    clock = Clock()
    heartbeat = Heartbeat(70.0, clock)
    with contextlib.ExitStack() as held:
        wires = [Wire() for _ in range(1000)]
        for wire in wires:
            held.enter_context(heartbeat.watching(Listener(wire, alive=False)))  # type: ignore[arg-type]
        clock.now = 16.7
        rounds = 1
        while heartbeat.visit():
            rounds += 1
        assert rounds == 4
        assert {len(wire.written) for wire in wires} == {1}


@pytest.mark.parametrize("value", [0, 0.5, 4000, float("nan"), "x"])
def test_the_time_has_a_range(value: Any) -> None:
    assert LimitsSettings().silence_s <= 60
    with pytest.raises(ParameterError, match="silence_s"):
        Config.from_dict({"limits": {"silence_s": value}})


# -- frozen processes and lost networks -------------------------------------------------------------------------------

LIMITS = {"silence_s": SILENCE_S, "header_s": SILENCE_S, "close_s": 1.0, "connections_per_address": 3}


@contextlib.asynccontextmanager
async def clients(kind: str, served: Running, *before: str) -> AsyncIterator[subprocess.Popen[str]]:
    """Three connections of a process that reads; all the places that its address has."""
    manager = client(kind, served.url, 3, *before)
    process = await asyncio.to_thread(manager.__enter__)
    try:
        if kind != "request":  # that is never whole, and waits at the door
            await until(lambda: served.server.context.connections.open == 3)
        yield process
    finally:
        await asyncio.to_thread(manager.__exit__, None, None, None)


async def gone(served: Running) -> None:
    """Until nothing of the clients is left."""
    context, door = served.server.context, served.server.app[HEADER_TIMEOUT]
    async with asyncio.timeout(PATIENCE_S):
        while context.connections.open or door._waiting:
            await asyncio.sleep(0.05)
    await until(lambda: not context.broadcasts["main"].members)
    assert context.broadcasts["main"].listeners == served.station.attached == 0
    assert len(context.heartbeat) == 0


async def test_frozen_processes_are_gone_and_their_places_free() -> None:
    """A kernel goes on acknowledging for them. Each kind has a server of its own, all at once: the waits are real."""

    async def one(kind: str) -> None:
        speed = 8.0 if kind == "stream" else 1.0  # which has no ping: its buffers must fill first
        async with running(speed=speed, limits=LIMITS) as served, clients(kind, served) as process:
            process.send_signal(signal.SIGSTOP)
            await gone(served)
            async with joined(served) as other:
                await other.message("welcome")
            async with ClientSession() as session, session.get(f"{served.url}/metrics") as response:
                lines = (await response.text()).splitlines()
            families = [line for line in lines if line.startswith("# TYPE")]
            assert len(set(families)) == len(families)  # each once, or Prometheus refuses them all
            silent = 3 if kind in ("control", "opus", "plain", "handshake") else 0
            assert f'riffstream_disconnected_total{{reason="silent"}} {silent}.0' in lines

    await asyncio.gather(*(one(kind) for kind in ("control", "opus", "plain", "stream", "request", "handshake")))


async def test_the_listeners_of_the_benchmarks_answer_pings() -> None:
    async with running(speed=1.0, limits={"silence_s": 1.0}) as served:
        port = int(served.url.rsplit(":", 1)[1])
        report = await asyncio.to_thread(run_sinks, "127.0.0.1", port, 3, 2.5)
        assert (report.joined, report.lost, served.server.context.heartbeat.closed) == (3, 0, 0)


async def test_a_frozen_reader_of_events_gives_way_to_who_comes() -> None:
    """Nothing tells it from one that reads: so little is sent that its kernel takes it for hours."""
    async with running(speed=1.0, limits=LIMITS) as served, clients("events", served) as process:
        process.send_signal(signal.SIGSTOP)
        context = served.server.context
        async with ClientSession() as session:
            async with session.get(f"{served.url}/stream/main.mp3") as response:
                assert response.status == 503  # they may be alive
            await asyncio.sleep(SILENCE_S)
            async with (
                session.get(f"{served.url}/stream/main.mp3") as one,
                session.get(f"{served.url}/stream/main.mp3") as two,
            ):
                assert (one.status, two.status, context.connections.open) == (200, 200, 3)
        await until(lambda: context.connections.open == len(context.broadcasts["main"].members) == 1)


async def test_readers_of_events_stay_while_there_is_place() -> None:
    async with (
        running(speed=1.0, limits=LIMITS) as served,
        ClientSession() as session,
        session.get(f"{served.url}/api/stations/main/events") as response,
    ):
        await asyncio.sleep(1.5 * SILENCE_S)
        async with joined(served, codecs=[]) as client:
            await client.message("welcome")
        served.station.tell(served.station.now())
        async with asyncio.timeout(PATIENCE_S):
            while (await response.content.readline())[:5] != b"data:":
                pass


async def test_living_clients_stay_for_ever_so_long() -> None:
    """Those of strangers: they answer pings by themselves, and say nothing else."""
    async with (
        running(speed=1.0, limits=LIMITS | {"connections_per_address": 20}) as served,
        ClientSession() as session,
        session.ws_connect(f"{served.url}/ws/main/plain?codec=mp3") as plain,
        open_socket(served.ws(), ping_interval=None) as control,
        open_socket(served.ws(), ping_interval=None) as opus,
        session.get(f"{served.url}/stream/main.mp3") as stream,
    ):
        await control.send(json.dumps(HELLO | {"codecs": []}))
        await opus.send(json.dumps(HELLO | {"codecs": ["opus"]}))
        until_s = time.monotonic() + 2.5 * SILENCE_S
        sizes = dict.fromkeys(("plain", "control", "opus", "stream"), 0)

        async def read(name: str, receive: Callable[[], Any]) -> None:
            with contextlib.suppress(TimeoutError):
                while time.monotonic() < until_s:
                    async with asyncio.timeout_at(asyncio.get_running_loop().time() + until_s - time.monotonic()):
                        sizes[name] += len(await receive())

        await asyncio.gather(
            read("plain", lambda: _data(plain)),
            read("control", control.recv),
            read("opus", opus.recv),
            read("stream", lambda: stream.content.readany()),
        )
        assert min(sizes.values()) > 0
        assert served.server.context.connections.open == 4
        assert served.server.context.heartbeat.closed == 0


async def _data(socket: aiohttp.ClientWebSocketResponse) -> bytes | str:
    message = await socket.receive()
    assert message.type in (aiohttp.WSMsgType.BINARY, TEXT)
    data: bytes | str = message.data
    return data


async def test_a_slow_reader_that_answers_late_stays() -> None:
    """It reads a third of what is sent to it, so that its pongs come seconds late, behind a full buffer."""
    limits = LIMITS | {"skip_bytes": 16384, "send_buffer_bytes": 4096}
    async with running(speed=1.0, limits=limits) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(served.url.rsplit(":", 1)[1]), limit=4096)
        raw: socket.socket = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        writer.write(SHAKE + client_frame(json.dumps(HELLO)))
        await reader.readuntil(b"\r\n\r\n")
        broadcast = served.server.context.broadcasts["main"]
        ends = time.monotonic() + 3 * SILENCE_S
        while time.monotonic() < ends:
            assert await reader.read(6400)
            await asyncio.sleep(0.1)  # PCM comes at 19,200 bytes in that time
        assert broadcast.stats().skips > 2
        assert served.server.context.heartbeat.closed == 0
        assert broadcast.listeners == 1
        writer.close()


async def test_who_slept_comes_back_without_a_gap() -> None:
    """A phone in a pocket: frozen for longer than the server waits, then back under its session."""
    async with running(speed=1.0, limits=LIMITS) as served:
        async with joined(served, codecs=["opus"], steer=True) as client:
            session = (await client.message("welcome"))["session"]
            last = (await client.audio(3))[-1].seq
            client.socket.transport.pause_reading()
            await until_gone(served)
        async with joined(served, codecs=["opus"], steer=True, resume={"session": session, "last_seq": last}) as back:
            assert (await back.message("welcome"))["resumed"]
            frames = await back.audio(5)
            assert [frame.seq for frame in frames] == list(range(last + 1, last + 6))
            assert not any(frame.flags for frame in frames)


async def test_who_comes_back_before_it_is_missed_takes_its_own_place() -> None:
    """Its old connection is dead, and the server does not know: it would find the station full of itself."""
    limits = {"listeners_per_station": 1}
    async with running(speed=1.0, limits=limits) as served, joined(served, codecs=["opus"]) as old:
        session = (await old.message("welcome"))["session"]
        last = (await old.audio(3))[-1].seq
        async with joined(served, codecs=["opus"], resume={"session": session, "last_seq": last}) as back:
            assert (await back.message("welcome"))["resumed"]
            assert (await back.audio(1))[0].seq == last + 1
            await until(lambda: served.server.context.connections.open == 1)
            assert served.server.context.broadcasts["main"].listeners == 1


async def until_gone(served: Running) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while served.server.context.connections.open:
            await asyncio.sleep(0.05)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


LAN = f"10.231.{os.getpid() % 250}"
"""The first numbers of a network of this test run's own; two runs at once would be in each other's way."""


@pytest.fixture
def far() -> Iterator[str]:
    """The name of a network namespace that sees this machine as number 1 of :data:`LAN`."""
    name = f"riffstream-{os.getpid()}"
    if shutil.which("ip") is None:
        pytest.skip("ip (iproute2) is not installed")
    try:
        _ip("netns", "add", name)
    except subprocess.CalledProcessError:
        pytest.skip("making a network namespace needs root")
    ours, theirs = f"rs{os.getpid()}", f"rp{os.getpid()}"
    try:
        _ip("link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", name)
        _ip("address", "add", f"{LAN}.1/30", "dev", ours)
        _ip("link", "set", ours, "up")
        _ip("-n", name, "address", "add", f"{LAN}.2/30", "dev", theirs)
        _ip("-n", name, "link", "set", theirs, "up")
        yield name
    finally:
        subprocess.run(["ip", "link", "delete", ours], check=False, capture_output=True)
        _ip("netns", "delete", name)


async def test_clients_whose_network_is_gone_are_gone(far: str) -> None:
    """No kernel answers for them any more: TCP alone would wait for a quarter of an hour."""
    kinds = ("control", "opus", "plain", "stream", "events", "request", "handshake")
    async with contextlib.AsyncExitStack() as stack:
        served = [
            await stack.enter_async_context(running(speed=1.0, server={"host": f"{LAN}.1"}, limits=LIMITS))
            for _ in kinds
        ]
        for kind, each in zip(kinds, served, strict=True):
            await stack.enter_async_context(clients(kind, each, "ip", "netns", "exec", far))
        _ip("-n", far, "link", "set", f"rp{os.getpid()}", "down")
        await asyncio.gather(*(gone(each) for each in served))
