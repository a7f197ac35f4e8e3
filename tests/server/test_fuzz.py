"""Thousands of messages through real sockets to a real station: malformed, oversized, out of order, hostile, and valid
ones in between, while somebody listens.

``FUZZ_MESSAGES=100000 python -m pytest tests/server/test_fuzz.py`` sends that many (10,000 by default); ``FUZZ_SEED``
chooses others.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import struct
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest

import riffstream
from riffstream import protocol
from tests.conftest import PATIENCE_S
from tests.server.test_hostile import nonsense
from tests.server.test_process import Process, fetch, welcome

MESSAGES = int(os.environ.get("FUZZ_MESSAGES", "10000"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
AT_ONCE = 12
# This process sends the messages and reads the sound: it may be seconds late.
LIMITS = {"RIFFSTREAM_LIMITS_CONNECTIONS_PER_ADDRESS": "1000", "RIFFSTREAM_LIMITS_SKIP_BYTES": "2000000"}
LAST = 4242  # no other clock message has this time
SHAKE = (
    b"GET /ws/main HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
HELLO = '{"type":"hello","v":1,"codecs":%s,"steer":true}'
WORDS = ("rain", "acid jazz", "\u202ehidden", "日本の笛", "a" * 300, "x (y:1.5) [z]", "'; DROP TABLE", "\0", "🎷" * 40)


def frame(payload: bytes, opcode: int = 1, *, first: int = 0x80, masked: bool = True) -> bytes:
    """A WebSocket frame whose mask is all zeros, so that the payload stays as it is."""
    size = len(payload)
    bit = 0x80 if masked else 0
    if size < 126:
        head = struct.pack("!BB", first | opcode, bit | size)
    elif size < 65536:
        head = struct.pack("!BBH", first | opcode, bit | 126, size)
    else:
        head = struct.pack("!BBQ", first | opcode, bit | 127, size)
    return head + (bytes(4) if masked else b"") + payload


def valid(rng: random.Random) -> str:
    """A message as a client may send it."""
    kind = rng.random()
    if kind < 0.15:
        return json.dumps({"type": "clock", "t0": rng.uniform(0, 1e9)})
    if kind < 0.25:
        return json.dumps({"type": "stats", "buffer_ms": 200, "underruns": rng.randrange(5), "played": 48_000})
    if kind < 0.35:
        op = rng.choice(["pause", "resume", "resume", "reset", "skip"])
        return json.dumps({"type": "transport", "id": f"t{rng.randrange(9)}", "op": op})
    steer: dict[str, object] = {"type": "steer", "id": f"s{rng.randrange(9)}"}
    options: dict[str, object] = {
        "prompts": [{"text": rng.choice(WORDS), "weight": rng.uniform(0, 10)} for _ in range(rng.randrange(1, 9))],
        "seed": rng.randrange(2**32),
        "bpm": rng.uniform(40, 240),
        "key": rng.uniform(-6, 6),
        "denoising": rng.random(),
        "guidance": rng.uniform(0, 30),
        "at": rng.choice(["asap", "beat", "bar", "clip"]),
        "ramp_s": rng.uniform(0, 120),
        "seed_image": rng.choice(["upload-0123456789ab", "../../etc/passwd", "piano"]),
        "if_rev": rng.randrange(100),
        "negative": rng.choice(WORDS),
    }
    for name in rng.sample(sorted(options), rng.randrange(1, 5)):
        steer[name] = options[name] if rng.random() < 0.9 else None
    return json.dumps(steer)


def hostile_frame(rng: random.Random) -> bytes:
    """A frame that no client should send."""
    text = valid(rng).encode()
    match rng.randrange(10):
        case 0:
            return frame(b'{"type":"steer","id":"' + b"x" * rng.choice([4060, 36_865, 40_000, 70_000]) + b'"}')
        case 1:
            return frame(text, rng.choice([3, 4, 7, 11, 15]))
        case 2:
            return frame(text, first=0x80 | rng.choice([0x10, 0x20, 0x40, 0x70]))
        case 3:
            return frame(text, masked=False)
        case 4:
            return frame(text, 0)  # goes on with nothing
        case 5:
            cut = rng.randrange(len(text))
            return frame(text[:cut], first=0) + frame(b"", 9) + frame(text[cut:], 0)
        case 6:
            return frame(b"\xff\xfe" + text)
        case 7:
            return frame(struct.pack("!H", rng.choice([0, 1, 999, 1000, 1005, 4999, 65535])) + rng.randbytes(9), 8)
        case 8:
            return frame(rng.randbytes(rng.choice([0, 125, 126])), rng.choice([9, 10]))
        case _:
            return struct.pack("!BBQ", 0x81, 0xFF, 2**63 + 5) + rng.randbytes(20)


@dataclass
class Tally:
    """What was sent and what came back."""

    sent: int = 0
    connections: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    clocks: int = 0  # last messages of connections that did nothing to be hung up on
    told: int = 0  # ... and their answers


def parse(data: bytes, tally: Tally) -> bytes:
    """Count the messages in what a server sent; what is left is the beginning of another."""
    at = 0
    while len(data) - at >= 2:
        size, head = data[at + 1] & 127, 2
        assert not data[at + 1] & 128, "a server must not mask"
        if size == 126:
            size, head = int.from_bytes(data[at + 2 : at + 4], "big"), 4
        elif size == 127:
            size, head = int.from_bytes(data[at + 2 : at + 10], "big"), 10
        if len(data) - at < head + size:
            break
        body = data[at + head : at + head + size]
        match data[at] & 15:
            case 1:
                message = protocol.decode_server(body.decode())
                tally.answers[type(message).__name__] += 1
                if isinstance(message, protocol.Rejected):
                    tally.codes[message.code] += 1
                elif isinstance(message, protocol.ClockReply):
                    tally.told += message.t0 == LAST
            case 2:
                protocol.unpack_frame(body)
                tally.answers["audio"] += 1
            case 8:
                tally.answers["close"] += 1
        at += head + size
    return data[at:]


async def attack(port: int, rng: random.Random, tally: Tally) -> None:
    """One connection, from whatever it begins with to its end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    tally.connections += 1
    polite = rng.random() < 0.5  # keeps to the framing, and is answered to the end

    async def listen() -> None:
        left = b""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            while data := await reader.read(65_536):
                left = parse(left + data, tally)

    listening = asyncio.create_task(listen())
    try:
        writer.write(SHAKE)
        codecs = rng.choice(["[]", "[]", "[]", '["opus"]', '["pcm_s16"]'])
        if polite or rng.random() < 0.8:
            writer.write(frame((HELLO % codecs).encode()))
        # A hundred at once are let through; who sends more, or breaks the framing, is hung up on.
        for n in range(rng.randrange(1, 95 if polite else 300)):
            chance = rng.random()
            if chance < (0.0 if polite else 0.01):
                writer.write(hostile_frame(rng))
            elif chance < 0.75:
                text = nonsense(rng)
                writer.write(frame(text if isinstance(text, bytes) else text.encode(), 1 + isinstance(text, bytes)))
            else:
                writer.write(frame(valid(rng).encode()))
            tally.sent += 1
            if n % 8 == 7:
                await writer.drain()
                await asyncio.sleep(0)
                if listening.done():
                    break
        if polite:
            tally.clocks += 1
            writer.write(frame(b'{"type":"clock","t0":%d}' % LAST))
        await writer.drain()
        if not polite and rng.random() < 0.2:
            writer.transport.abort()
        elif rng.random() < 0.5:
            writer.write(frame(b"\x81\x85"[: rng.randrange(3)], 8))
        else:
            writer.write(frame(b'{"type":"bye","reason":"enough"}'))
        await asyncio.wait_for(listening, PATIENCE_S)  # the server ends every one of them
    except ConnectionError:
        await asyncio.wait_for(listening, PATIENCE_S)
    finally:
        listening.cancel()
        writer.close()


async def listen_well(url: str, stop: asyncio.Event) -> tuple[int, int, list[float]]:
    """A good listener: samples heard, revisions seen, and loudness of each block; its stream has no gap."""
    heard, position, rev, levels = 0, None, 0, []
    async with riffstream.connect(url, codec="pcm_s16", steer=False, reconnect=False) as radio:
        async for block in radio:
            assert not block.discontinuity
            assert position in (None, block.sample_pos)
            assert block.rev >= rev
            assert np.isfinite(block.samples).all()
            position, rev = block.sample_pos + len(block.samples), block.rev
            heard += len(block.samples)
            levels.append(float(np.abs(block.samples).max()))
            if stop.is_set() and not radio.state.paused and levels[-1] > 0.01:
                return heard, rev, levels
    raise AssertionError("the server hung up on a good listener")


def metrics(url: str) -> dict[str, float]:
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


@pytest.mark.slow
@pytest.mark.timeout(120 + MESSAGES // 100)
async def test_messages_of_every_kind_harm_neither_the_state_nor_the_stream() -> None:
    process = await asyncio.to_thread(Process, **LIMITS)
    url, stop, tally, rng = process.url, asyncio.Event(), Tally(), random.Random(SEED)
    port = int(url.rsplit(":", 1)[1])
    await welcome(url)
    good = asyncio.create_task(listen_well(url, stop))
    try:

        async def keep_on(own: random.Random) -> None:
            while tally.sent < MESSAGES and not good.done():
                await attack(port, own, tally)

        began = time.monotonic()
        await asyncio.gather(*(keep_on(random.Random(rng.random())) for _ in range(AT_ONCE)))
        seconds = time.monotonic() - began
        assert not good.done(), good.exception()

        # The state is right: it can be read, and a change made now is what plays.
        async with asyncio.timeout(PATIENCE_S):
            while (await asyncio.to_thread(metrics, url))["riffstream_connections"] > 1:
                await asyncio.sleep(0.2)
        async with riffstream.connect(url) as radio, asyncio.timeout(PATIENCE_S):
            before = radio.rev
            if radio.state.paused:
                await radio.transport("resume")
            applied = await radio.steer("after the storm", bpm=100, key=0, seed=5, ramp_s=0)
            assert applied.rev > before
            state = json.loads(await asyncio.to_thread(fetch, f"{url}/api/stations/main"))["state"]
            assert [part["text"] for part in state["prompts"]] == ["after the storm"]
            assert (state["bpm"], state["key"], state["seed"]) == (100, 0, 5)
            assert (await radio.clock()).sample_pos >= applied.audible_at - 48_000
        stop.set()
        heard, rev, levels = await asyncio.wait_for(good, PATIENCE_S)
        figures = await asyncio.to_thread(metrics, url)
        lag_ms = 1000 * figures['riffstream_loop_lag_seconds{stat="p95"}']
        print(f"\n{tally.sent} messages on {tally.connections} connections in {seconds:.0f} s; lag p95 {lag_ms:.0f} ms")
        print(f"{dict(tally.answers)}; {dict(tally.codes)}")
        assert tally.sent >= MESSAGES
        assert tally.told == tally.clocks > 0
        assert tally.codes["bad_request"] > MESSAGES / 4
        assert not {"internal", "busy"} & set(tally.codes), tally.codes
        assert rev > tally.answers["Applied"] > 0
        assert heard > 48_000
        assert max(levels) > 0.05
        assert figures.get("riffstream_errors_total", 0) == 0
        assert figures["riffstream_generator_restarts_total"] == 0
    finally:
        stop.set()
        good.cancel()
        code, _, logged = await asyncio.to_thread(process.end)
    assert code == 0
    assert "Traceback" not in logged
