"""What clients must not be able to do: fuzzed messages, slow readers, storms."""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import struct
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from riffstream.bench.sinks import client_frame
from riffstream.server.fanout import DropPolicy
from tests.conftest import PATIENCE_S
from tests.server.conftest import Running, open_socket, running
from tests.server.test_registry import until
from tests.server.test_sockets import Client, joined

ODD: list[Any] = [
    None, True, -1, 0, 1e308, float("inf"), 2**70, "", "x" * 400, "\0", "\ud83d\ude00" * 50, [], [[]], {}, {"a": {}},
    [{"text": "a", "weight": -1}], [{"text": "\u202e\u0000", "weight": 1}], [{"text": "a"}] * 9,
]  # fmt: skip
FIELDS = ["id", "prompts", "seed", "seed_image", "denoising", "guidance", "bpm", "key", "at", "ramp_s", "if_rev"]
FIELDS += ["op", "t0", "v", "codecs", "token", "resume", "buffer_ms", "underruns", "played", "negative", "type"]
TYPES: list[Any] = ["hello", "steer", "transport", "clock", "stats", "welcome", "applied", "", None, 5, "Steer"]


def nonsense(rng: random.Random) -> str | bytes:
    """A message that looks more or less like one of the protocol's."""
    kind = rng.random()
    if kind < 0.05:
        return rng.randbytes(rng.randrange(40))
    if kind < 0.15:
        return rng.choice(["", "{", "[1,2", '"', "null", "5", "[]", "\x00", "{}" * 3, "[" * 2000, '{"type":' * 300])
    message = {rng.choice(FIELDS): rng.choice(ODD) for _ in range(rng.randrange(6))}
    if rng.random() < 0.9:
        message["type"] = rng.choice(TYPES)
    if rng.random() < 0.5:
        message["id"] = "a"
    text = json.dumps(message)
    if kind > 0.95:
        at = rng.randrange(len(text))
        text = text[:at] + rng.choice(["", "\\", '"', "\u2028", "9" * 50]) + text[at + 1 :]
    return text


async def test_no_message_breaks_the_server_or_goes_unanswered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("riffstream.server.connection.MESSAGE_BURST", 10**9)
    rng = random.Random(5)
    async with running(speed=2.0, limits={"steer_interval_s": 0.0}) as served, joined(served) as listener:
        await listener.message("welcome")
        sent = 0
        async with joined(served, codecs=[]) as client:
            await client.message("welcome")
            for _ in range(3000):
                await client.socket.send(nonsense(rng))
                sent += 1
            await client.send(type="clock", t0=99.25)
            clock = await client.message("clock", t0=99.25)
            assert clock["sample_pos"] >= 0
        answers = [each["type"] for each in client.messages]
        assert answers.count("rejected") > 2000
        assert all(each["code"] != "internal" for each in client.messages if each["type"] == "rejected")
        frames = await listener.audio(10)
        assert [frame.seq for frame in frames] == list(range(frames[0].seq, frames[0].seq + 10))
        assert served.server.context.counters["errors"] == 0
        assert sent == 3000


@pytest.mark.parametrize("seed", range(20))
async def test_a_hello_of_nonsense_ends_that_connection_only(live: Running, seed: int) -> None:
    rng = random.Random(seed)
    async with open_socket(live.ws()) as socket:
        client = Client(socket)
        await socket.send(nonsense(rng))
        await socket.send(nonsense(rng))
        await client.ended()
    async with joined(live, codecs=[]) as after:
        await after.message("welcome")


async def test_bytes_that_are_no_websocket_end_that_connection_only(live: Running) -> None:
    rng = random.Random(1)
    port = int(live.url.rsplit(":", 1)[1])
    for kind in range(12):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        if kind % 2:
            writer.write(
                b"GET /ws/main HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            writer.write(client_frame('{"type":"hello","v":1,"codecs":[]}') + rng.randbytes(200))
        else:
            writer.write(rng.randbytes(500) + b"\r\n\r\n")
        await asyncio.wait_for(reader.read(), PATIENCE_S)
        writer.close()
    async with joined(live, codecs=[]) as after:
        await after.message("welcome")
    assert live.server.context.connections.open <= 1


def stalled(port: int) -> socket.socket:
    """A listener who joins and never reads."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", port))
    sock.sendall(
        b"GET /ws/main HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        + client_frame('{"type":"hello","v":1,"codecs":["pcm_s16"],"steer":true}')
    )
    return sock


async def test_slow_and_dead_listeners_cost_the_good_ones_nothing() -> None:
    limits = {"connections_per_address": 1000, "close_s": 1.0}
    async with running(speed=8.0, limits=limits) as served:
        port = int(served.url.rsplit(":", 1)[1])
        bad = [stalled(port) for _ in range(40)]
        try:

            async def listen() -> list[int]:
                async with joined(served, codecs=["opus"]) as client:
                    await client.message("welcome")
                    return [frame.seq for frame in await client.audio(150) if not frame.flags]

            heard = await asyncio.gather(*(listen() for _ in range(10)))
            for seqs in heard:
                assert seqs == list(range(seqs[0], seqs[0] + 150))
            stats = served.server.context.broadcast("main").stats()
            assert stats.closed_slow == 40
            async with asyncio.timeout(PATIENCE_S):
                while served.server.context.connections.open:
                    await asyncio.sleep(0.02)
        finally:
            for sock in bad:
                sock.close()
    assert DropPolicy().close_s == 10.0  # what is shipped; this test does not wait so long


async def test_reconnect_storms_leave_nothing_behind(live: Running) -> None:
    port = int(live.url.rsplit(":", 1)[1])
    live.server.context.connections.per_address = 1000

    async def visit(rng: random.Random) -> None:
        try:
            async with joined(live, codecs=["opus"]) as client:
                if rng.random() < 0.5:
                    await client.message("welcome")
                if rng.random() < 0.3:
                    client.socket.transport.abort()
        except (ConnectionClosed, OSError):
            pass

    def reset() -> None:
        sock = stalled(port)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # leave by a reset
        sock.close()

    for round_ in range(4):
        await asyncio.gather(*(visit(random.Random(round_ * 100 + n)) for n in range(50)))
        for _ in range(20):
            reset()
    async with asyncio.timeout(PATIENCE_S):
        while live.server.context.connections.open or live.station.attached:
            await asyncio.sleep(0.05)
    broadcast = live.server.context.broadcast("main")
    assert not broadcast.members
    assert broadcast.listeners == 0
    assert len(live.server.context.heartbeat) == 0
    assert sum(len(fanout.listeners) for feed in broadcast.feeds.values() for fanout in feed.fanouts.values()) == 0
    async with joined(live) as client:
        assert len(await client.audio(5)) == 5


async def test_open_files_do_not_leak(live: Running) -> None:
    async def once() -> None:
        async with joined(live) as client:
            await client.message("welcome")

    await once()
    await asyncio.sleep(0.1)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        await once()
    await until(lambda: len(os.listdir("/proc/self/fd")) <= before + 2)
