"""Delivery through real sockets on loopback: bursts, resumption, slow listeners."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame as ReferenceFrame
from websockets.frames import Opcode

from riffstream.protocol import Flags
from riffstream.server import fanout
from riffstream.server.fanout import DropPolicy, Fanout, Frame, Listener, websocket_frame

SKIP_BYTES = DropPolicy().skip_bytes


def frame(index: int, size: int = 1000) -> Frame:
    """Frame ``index`` of 4,800 samples: its number in the first four bytes, then the flags byte."""
    body = index.to_bytes(4, "little")
    return Frame(index * 4800, 4800, 0, lambda: (body + b"\0" * (size - 4), 4))


@asynccontextmanager
async def wire(rcvbuf: int | None = None) -> AsyncIterator[tuple[asyncio.Transport, asyncio.StreamReader]]:
    """A server-side transport with the send buffer that the server sets, and the client's end of it."""
    accepted: asyncio.Future[asyncio.Transport] = asyncio.get_running_loop().create_future()

    class Accept(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
            accepted.set_result(transport)

    server = await asyncio.get_running_loop().create_server(Accept, "127.0.0.1", 0)
    client = socket.socket()
    if rcvbuf is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, server.sockets[0].getsockname())
    reader, writer = await asyncio.open_connection(sock=client, limit=4096)
    transport = await accepted
    try:
        yield transport, reader
    finally:
        transport.abort()
        writer.close()
        server.close()
        await asyncio.sleep(0.01)


async def frames_of(reader: asyncio.StreamReader, count: int, size: int = 1000) -> list[tuple[int, bool]]:
    """(number, after a gap) of the next ``count`` frames."""
    got = []
    for _ in range(count):
        data = await asyncio.wait_for(reader.readexactly(size), 5)
        got.append((int.from_bytes(data[:4], "little"), data[4] == Flags.DISCONTINUITY))
    return got


@given(st.integers(0, 200) | st.integers(65530, 65540), st.binary(min_size=1, max_size=1))
def test_websocket_frame_equals_the_reference(size: int, byte: bytes) -> None:
    payload = byte * size
    assert websocket_frame(2, payload) == ReferenceFrame(Opcode.BINARY, payload).serialize(mask=False)


async def test_listeners_get_every_frame_in_order() -> None:
    fanned = Fanout(capacity=10)
    async with wire() as (one, one_end), wire() as (two, two_end):
        for transport in (one, two):
            fanned.attach(Listener(transport))
        for index in range(20):
            fanned.push(frame(index))
            await asyncio.sleep(0)
        assert await frames_of(one_end, 20) == await frames_of(two_end, 20) == [(i, False) for i in range(20)]
    assert fanned.stats.deliveries == 40
    assert fanned.stats.bytes == 40_000


async def test_more_listeners_than_one_slice_all_get_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "SLICE", 2)
    fanned = Fanout(capacity=10)
    async with wire() as a, wire() as b, wire() as c, wire() as d, wire() as e:
        for transport, _ in (a, b, c, d, e):
            fanned.attach(Listener(transport))
        for index in range(6):  # without a pause: each frame arrives in the middle of the round before
            fanned.push(frame(index))
        for _, reader in (a, b, c, d, e):
            assert await frames_of(reader, 6) == [(i, False) for i in range(6)]


async def test_burst_begins_the_asked_time_back_and_goes_on_live() -> None:
    fanned = Fanout(capacity=10)
    for index in range(10):
        fanned.push(frame(index))
    async with wire() as (transport, reader):
        fanned.attach(Listener(transport), burst_samples=3 * 4800 - 1)
        fanned.push(frame(10))
        assert await frames_of(reader, 4) == [(7, False), (8, False), (9, False), (10, False)]


@pytest.mark.parametrize(("last", "accepted"), [(3, False), (4, True), (8, True), (14, True), (15, False), (-1, False)])
async def test_resume_needs_the_next_frame_in_the_ring(last: int, accepted: bool) -> None:
    fanned = Fanout(capacity=10)
    for index in range(15):
        fanned.push(frame(index))
    async with wire() as (transport, reader):
        assert fanned.resume(Listener(transport), last) is accepted
        fanned.push(frame(15))
        expected = list(range(last + 1, 16)) if accepted else []
        assert await frames_of(reader, len(expected)) == [(i, False) for i in expected]


async def test_a_long_burst_arrives_whole_however_small_the_buffers() -> None:
    fanned = Fanout(capacity=100)
    for index in range(100):
        fanned.push(frame(index, 10_000))
    async with wire(rcvbuf=8192) as (transport, reader):
        fanned.attach(Listener(transport), burst_samples=100 * 4800)
        assert transport.get_write_buffer_size() <= SKIP_BYTES + 10_000
        assert await frames_of(reader, 100, 10_000) == [(i, False) for i in range(100)]


async def test_a_slow_listener_skips_to_live_flagged_and_others_lose_nothing() -> None:
    fanned = Fanout(capacity=400)
    async with wire(rcvbuf=8192) as (slow, slow_end), wire() as (good, good_end):
        listener = Listener(slow)
        fanned.attach(listener)
        fanned.attach(Listener(good))
        received: list[tuple[int, bool]] = []
        for index in range(60):  # 600 kB: the kernel, the transport and the reader together hold far less
            fanned.push(frame(index, 10_000))
            received += await frames_of(good_end, 1, 10_000)
        assert received == [(i, False) for i in range(60)]
        assert slow.get_write_buffer_size() <= SKIP_BYTES + 10_000
        assert listener.late_since is not None
        last_before = listener.cursor - 1
        assert await frames_of(slow_end, last_before + 1, 10_000) == [(i, False) for i in range(last_before + 1)]
        fanned.push(frame(60, 10_000))
        fanned.push(frame(61, 10_000))
        assert await frames_of(slow_end, 2, 10_000) == [(60, True), (61, False)]
        assert listener.skipped_frames == fanned.stats.skipped_frames == 60 - last_before - 1
        assert await frames_of(good_end, 2, 10_000) == [(60, False), (61, False)]


async def test_a_dead_listener_is_closed_after_its_grace() -> None:
    reasons: list[str] = []
    fanned = Fanout(capacity=10)
    async with wire(rcvbuf=8192) as (transport, _):
        fanned.attach(Listener(transport, policy=DropPolicy(close_s=0.05), on_closed=reasons.append))
        for index in range(60):
            fanned.push(frame(index, 10_000))
        await asyncio.sleep(0.1)
        fanned.push(frame(60, 10_000))
        assert reasons == ["slow"]
        assert transport.is_closing()
        assert not fanned.listeners
        assert fanned.stats.closed_slow == 1


async def test_control_messages_pass_a_full_buffer_until_the_hard_limit() -> None:
    reasons: list[str] = []
    fanned = Fanout(capacity=10)
    async with wire(rcvbuf=8192) as (transport, _):
        listener = Listener(transport, on_closed=reasons.append)
        fanned.attach(listener)
        for index in range(60):
            fanned.push(frame(index, 10_000))
        before = transport.get_write_buffer_size()
        listener.send_control(b"c" * 1000)
        assert transport.get_write_buffer_size() == before + 1000
        for _ in range(400):
            listener.send_control(b"c" * 1000)
        assert reasons == ["slow"]
        assert not listener.send_control(b"late")


async def test_a_detached_listener_gets_nothing_more() -> None:
    fanned = Fanout(capacity=10)
    async with wire() as (transport, reader):
        listener = Listener(transport)
        fanned.attach(listener)
        fanned.push(frame(0))
        fanned.detach(listener)
        fanned.detach(listener)
        fanned.push(frame(1))
        assert await frames_of(reader, 1) == [(0, False)]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readexactly(1), 0.05)


async def test_bytes_are_built_once_while_new_and_again_for_who_comes_back_late() -> None:
    built: list[int] = []

    def counted(index: int) -> Frame:
        made = frame(index)
        whole = made.build
        made.build = lambda: built.append(index) or whole()  # type: ignore[func-returns-value]
        return made

    fanned = Fanout(capacity=10, fresh=2)
    for index in range(3):
        fanned.push(counted(index))
    assert built == []  # nobody listens
    async with wire() as (one, one_end), wire() as (two, two_end):
        listener = Listener(one)
        for each in (listener, Listener(two)):
            fanned.attach(each)
        for index in range(3, 8):
            fanned.push(counted(index))
        for end in (one_end, two_end):
            assert await frames_of(end, 5) == [(i, False) for i in range(3, 8)]
        assert built == [3, 4, 5, 6, 7]
        assert [index for index in range(8) if fanned.frame(index)._built is not None] == [6, 7]
        fanned.detach(listener)
        assert fanned.resume(listener, 3)
        assert await frames_of(one_end, 4) == [(i, False) for i in range(4, 8)]
        assert built == [3, 4, 5, 6, 7, 4, 5]


async def test_a_frame_out_of_the_ring_is_an_index_error() -> None:
    fanned = Fanout(capacity=2)
    for index in range(3):
        fanned.push(frame(index))
    assert fanned.frame(2).sample_pos == 9600
    with pytest.raises(IndexError, match="frame 0 is not kept"):
        fanned.frame(0)
