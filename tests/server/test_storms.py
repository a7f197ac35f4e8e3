"""Crowds: slow and dead listeners among good ones, everyone back at once, and the end in the middle of it all."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import riffstream
from riffstream.bench.sinks import SinkReport, client_frame, run_sinks
from riffstream.protocol import Prompt
from tests.conftest import PATIENCE_S
from tests.server.conftest import Running, running
from tests.server.test_fuzz import metrics
from tests.server.test_hostile import stalled
from tests.server.test_process import Process, fetch, generator_of, welcome
from tests.server.test_sockets import HELLO, Client, joined, open_socket

pytestmark = pytest.mark.slow
GOOD = BAD = 200
SLOW = 'riffstream_closed_slow_total{station="main"}'


class Crowd:
    """Good listeners in a thread: they read whatever comes, and count what is missing."""

    def __init__(self, port: int, count: int) -> None:
        self.report = SinkReport()
        self._in, self._leave = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._listen, args=(port, count), daemon=True)
        self._thread.start()

    def _listen(self, port: int, count: int) -> None:
        self.report = run_sinks("127.0.0.1", port, count, 300, self._in.set, stop=self._leave.is_set)

    async def joined(self) -> None:
        assert await asyncio.to_thread(self._in.wait, 60)

    async def leave(self) -> SinkReport:
        self._leave.set()
        await asyncio.to_thread(self._thread.join, 30)
        return self.report


class Bad:
    """Listeners of every bad kind; :meth:`trickle` lets the slow ones read a little."""

    def __init__(self, port: int, count: int) -> None:
        self.port = port
        self.sockets: list[socket.socket] = []
        self.slow: list[socket.socket] = []
        for n in range(count):
            match n % 5:
                case 0 | 1:  # joined, never reads
                    made = stalled(port)
                case 2 | 3:  # joined, reads far less than is sent
                    made = stalled(port)
                    made.setblocking(False)
                    self.slow.append(made)
                case _:  # connected, and dead before it said anything
                    made = socket.create_connection(("127.0.0.1", port))
            self.sockets.append(made)

    def trickle(self) -> None:
        for each in self.slow:
            with contextlib.suppress(OSError):
                each.recv(300)

    def close(self) -> None:
        for each in self.sockets:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            each.close()


@pytest.fixture
def crowded() -> Iterator[Process]:
    limits = {"CLOSE_S": "1.0", "HEADER_S": "5.0", "CONNECTIONS_PER_ADDRESS": "1000", "STEER_INTERVAL_S": "0"}
    process = Process(**{f"RIFFSTREAM_LIMITS_{name}": value for name, value in limits.items()})
    yield process
    if process.popen.poll() is None:
        code, _, logged = process.end()
        assert code == 0
        assert "Traceback" not in logged


def port_of(process: Process) -> int:
    return int(process.url.rsplit(":", 1)[1])


async def test_200_bad_listeners_cost_200_good_ones_nothing(crowded: Process) -> None:
    await welcome(crowded.url)
    good = Crowd(port_of(crowded), GOOD)
    await good.joined()
    bad = await asyncio.to_thread(Bad, port_of(crowded), BAD)
    try:
        async with riffstream.connect(crowded.url) as radio, asyncio.timeout(PATIENCE_S):
            began, figures = time.monotonic(), {SLOW: 0.0, "riffstream_turned_away_total": 0.0}
            while figures[SLOW] < BAD * 4 // 5 or figures["riffstream_turned_away_total"] < BAD // 5:
                bad.trickle()
                await asyncio.sleep(0.05)
                if time.monotonic() - began > 8:
                    figures = await asyncio.to_thread(metrics, crowded.url)
            applied = await radio.steer("still here")  # and steering works beside them
            assert applied.rev == 1
            figures = await asyncio.to_thread(metrics, crowded.url)
            assert figures[SLOW] == BAD * 4 // 5
            assert figures["riffstream_turned_away_total"] == BAD // 5
            assert figures["riffstream_connections"] == GOOD + 1
    finally:
        bad.close()
        report = await good.leave()
    assert (report.joined, report.lost, report.gaps, report.flagged) == (GOOD, 0, 0, 0)
    assert report.frames >= GOOD * 15  # half a second each


async def test_everyone_comes_back_at_once_without_a_gap() -> None:
    async with running(speed=1.0, limits={"connections_per_address": 1000}) as served:

        async def storm(n: int) -> None:
            codec = ("opus", "pcm_s16")[n % 2]
            last, session = None, ""
            for visit in range(4):
                resume = {} if visit == 0 else {"resume": {"session": session, "last_seq": last}}
                async with joined(served, codecs=[codec], steer=n % 3 > 0, **resume) as client:
                    session = (await client.message("welcome"))["session"]
                    for frame in await client.audio(2):
                        assert last is None or frame.seq == last + 1, f"listener {n}, visit {visit}"
                        assert not frame.flags & 1
                        last = frame.seq
                    client.socket.transport.abort()

        await asyncio.gather(*(storm(n) for n in range(60)))
        async with asyncio.timeout(PATIENCE_S):
            while served.server.context.connections.open or served.station.attached:
                await asyncio.sleep(0.05)


async def answer(client: Client, id_: str, type_: str) -> dict[str, Any]:
    """The answer of this type to a steer; any other ending of it is a failure."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            message: dict[str, Any] = json.loads(await client.socket.recv())
            if message.get("id") == id_:
                if message["type"] == type_:
                    return message
                assert message["type"] == "scheduled", message


async def test_1000_steers_through_sockets_leave_the_state_that_was_asked_for(crowded: Process) -> None:
    await welcome(crowded.url)
    heard: list[riffstream.client.Block] = []
    stop = asyncio.Event()

    async def listen() -> None:
        # Opus: a buffer that holds a second of samples holds many of it, and this process may be slow to read.
        async with riffstream.connect(crowded.url, codec="opus", steer=False) as radio:
            async for block in radio:
                heard.append(block)
                if stop.is_set():
                    return

    listening = asyncio.create_task(listen())
    sockets = [await open_socket(f"{crowded.url.replace('http', 'ws', 1)}/ws/main") for _ in range(12)]
    clients = [Client(each) for each in sockets]
    for client in clients:
        await client.send(**(HELLO | {"codecs": []}))
        await client.message("welcome")
    for n in range(1000):
        change: dict[str, Any] = [
            {"prompts": [{"text": f"prompt {n}", "weight": 1}]},
            {"bpm": 60 + n % 120},
            {"key": n % 13 - 6},
            {"at": ("asap", "beat", "bar", "clip")[n % 16 // 4], "seed": n},
        ][n % 4]
        await clients[n % 12].send(type="steer", id=str(n), **change)
        if n % 50 == 49:  # each reads what it has asked for: the server closes connections with too much unread data
            for place, client in enumerate(clients):
                await answer(client, str(n - (n - place) % 12), "scheduled")
    final = {"prompts": [{"text": "the last", "weight": 1}], "bpm": 99, "key": 2, "seed": 7, "at": "asap"}
    await clients[0].send(type="steer", id="last", **final)
    applied = await answer(clients[0], "last", "applied")
    state = json.loads(await asyncio.to_thread(fetch, f"{crowded.url}/api/stations/main"))["state"]
    assert [part["text"] for part in state["prompts"]] == [Prompt(text="the last").text]
    assert (state["bpm"], state["key"], state["seed"]) == (99, 2, 7)
    assert applied["rev"] > 500
    stop.set()
    await asyncio.wait_for(listening, PATIENCE_S)
    assert not any(block.discontinuity for block in heard)
    assert all(a.sample_pos + len(a.samples) == b.sample_pos for a, b in itertools.pairwise(heard))
    assert all(a.rev <= b.rev for a, b in itertools.pairwise(heard))
    assert min(float(abs(block.samples).max()) for block in heard) > 0.01  # never silent
    for each in sockets:
        await each.close()


async def test_sigterm_in_the_middle_of_it_all(crowded: Process) -> None:
    await welcome(crowded.url)
    port = port_of(crowded)
    generator = generator_of(crowded.url)
    good = Crowd(port, GOOD)
    await good.joined()
    bad = await asyncio.to_thread(Bad, port, 50)
    upload = socket.create_connection(("127.0.0.1", port))
    upload.sendall(b"POST /api/seeds HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nRIFF")
    player = socket.create_connection(("127.0.0.1", port))
    player.sendall(b"GET /stream/main.mp3 HTTP/1.1\r\nHost: x\r\n\r\n")
    events = socket.create_connection(("127.0.0.1", port))
    events.sendall(b"GET /api/stations/main/events HTTP/1.1\r\nHost: x\r\n\r\n")
    steering = stalled(port)
    for n in range(20):
        text = json.dumps({"type": "steer", "id": str(n), "bpm": 60 + n})
        steering.sendall(client_frame(text))
    try:
        await asyncio.sleep(1)
        code, seconds, logged = await asyncio.to_thread(crowded.end)
    finally:
        bad.close()
        for each in (upload, player, events, steering):
            each.close()
        report = await good.leave()
    assert code == 0, logged
    assert seconds < 30
    assert "Traceback" not in logged
    assert (report.joined, report.gaps, report.flagged) == (GOOD, 0, 0)
    assert report.lost == GOOD  # told to go, and gone
    with pytest.raises(ProcessLookupError):
        os.kill(generator, 0)


async def test_the_server_is_itself_after_the_storm(live: Running) -> None:
    bad = await asyncio.to_thread(Bad, int(live.url.rsplit(":", 1)[1]), 20)
    bad.close()
    async with asyncio.timeout(PATIENCE_S):
        while live.server.context.connections.open:
            await asyncio.sleep(0.05)
    async with joined(live) as client:
        assert len(await client.audio(5)) == 5
