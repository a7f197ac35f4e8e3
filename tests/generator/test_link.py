"""The server's end of the pipe by itself."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable
from typing import BinaryIO, cast

import numpy as np
import pytest

from riffstream.generator import link as module
from riffstream.generator.channel import Channel
from riffstream.generator.link import Link
from riffstream.generator.messages import Cancel, FromGenerator, Heartbeat, Pcm, Piece, pack, unpack_command


class Ends:
    """A link, and the generator's end of its pipes."""

    def __init__(self) -> None:
        ours, theirs = os.pipe(), os.pipe()
        self.reader = os.fdopen(theirs[0], "rb", buffering=0)
        self.writer = os.fdopen(ours[1], "wb", buffering=0)
        self.there = Channel(cast(BinaryIO, self.reader), cast(BinaryIO, self.writer))
        self.channel = Channel(
            cast(BinaryIO, os.fdopen(ours[0], "rb", buffering=0)),
            cast(BinaryIO, os.fdopen(theirs[1], "wb", buffering=0)),
        )
        self.reports: list[tuple[FromGenerator, Pcm]] = []
        self.ends = 0
        self.link = Link(self.channel, lambda message, pcm: self.reports.append((message, pcm)), self.ended)

    def ended(self) -> None:
        self.ends += 1

    def leave(self) -> None:
        self.reader.close()
        self.writer.close()


@pytest.fixture
async def ends() -> AsyncIterator[Ends]:
    made = Ends()
    yield made
    made.link.close()
    made.leave()
    await until(lambda: not [each for each in threading.enumerate() if each.name.startswith("generator-")])


async def until(condition: Callable[[], bool], timeout: float = 15.0) -> None:
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.01)


async def test_messages_pass_in_order_in_both_directions(ends: Ends) -> None:
    sent = [Cancel("s", number, 0) for number in range(200)]
    ends.link.send(sent)
    for number in range(200):
        ends.there.send(pack(Piece("s", 0, number), np.full((10, 2), number, np.float32)))
    received = [await asyncio.to_thread(ends.there.receive) for _ in sent]
    assert [unpack_command(data) for data in received] == sent
    await until(lambda: len(ends.reports) == 200)
    assert [message.number for message, _ in ends.reports if isinstance(message, Piece)] == list(range(200))
    assert all((pcm == number).all() for number, (_, pcm) in enumerate(ends.reports))


async def test_the_end_is_told_once(ends: Ends) -> None:
    ends.leave()
    await until(lambda: ends.ends == 1)
    ends.link.send([Cancel("s", 0, 0)])
    ends.link.close()
    await asyncio.sleep(0.05)
    assert ends.ends == 1


async def test_after_closing_nothing_is_told(ends: Ends) -> None:
    ends.link.close()
    ends.there.send(pack(Heartbeat(0)))
    ends.leave()
    await asyncio.sleep(0.1)
    assert (ends.ends, ends.reports) == (0, [])


@pytest.mark.parametrize(
    "data", [b"", b"\x01", b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\x04\x00\x00\x00\xc1\xc1\xc1\xc1", b"\x00" * 7]
)
async def test_what_cannot_be_read_ends_the_link(ends: Ends, data: bytes) -> None:
    """Also bytes that are too few for the length that they begin with."""
    ends.there.send(pack(Heartbeat(3)))
    ends.there.send(data)
    await until(lambda: ends.ends == 1)
    assert [message for message, _ in ends.reports] == [Heartbeat(3)]


async def test_a_length_that_no_message_has_ends_the_link(ends: Ends) -> None:
    ends.writer.write(b"a library that prints\n")
    await until(lambda: ends.ends == 1)


async def test_a_reader_that_does_not_read_ends_the_link(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 20)
    for _ in range(40):
        ends.link.send([Cancel("s" * 65536, 0, 0)])
    await until(lambda: ends.ends == 1)
    assert ends.link._queue.qsize() <= 22


async def test_a_message_that_cannot_be_packed_is_raised_to_its_sender(ends: Ends) -> None:
    with pytest.raises(OverflowError):
        ends.link.send([Cancel("s", 2**70, 0)])
    ends.link.send([Cancel("s", 1, 0)])
    assert unpack_command(await asyncio.to_thread(ends.there.receive)) == Cancel("s", 1, 0)
