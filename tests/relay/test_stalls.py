"""A line to the upstream that stalls, dies and comes back, in pairs: listeners get every sample or a word."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator

import pytest

from riffstream.protocol import SAMPLE_RATE, Flags
from tests.conftest import PATIENCE_S
from tests.relay.conftest import relaying
from tests.relay.test_relay import joined
from tests.server.conftest import running
from tests.server.test_sockets import Client


class Line:
    """A TCP line to a server that can stall (bytes wait, nothing closes) and die (connections are reset).

    Attributes:
        url: its own address.
    """

    def __init__(self, target: str) -> None:
        self.port = int(target.rsplit(":", 1)[1])
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.refusing = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = ""

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Line]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            self._cut()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        above, back = await asyncio.open_connection("127.0.0.1", self.port)
        self._writers |= {writer, back}
        for pair in ((reader, back), (above, writer)):
            task = asyncio.create_task(self._pump(*pair))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self.flowing.wait()
                writer.write(data)
                await writer.drain()
        writer.transport.abort()

    def _cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def fault(self, name: str) -> None:
        """Do what a line does, for a while, and mend it."""
        if name == "die":
            self.refusing = True
            self._cut()
            await asyncio.sleep(1.0)
            self.refusing = False
            return
        self.flowing.clear()
        await asyncio.sleep({"stall": 3.0, "hiccup": 0.5}[name])
        self.flowing.set()


def told(client: Client) -> list[str]:
    """What the relay has said about its upstream."""
    return [str(message["reason"]) for message in client.messages if message.get("kind") == "upstream"]


@pytest.mark.parametrize(
    ("first", "second"), [("stall", "die"), ("die", "stall"), ("die", "die"), ("stall", "stall"), ("hiccup", "stall")]
)
async def test_a_listener_of_a_faulty_line_misses_nothing_and_is_told(first: str, second: str) -> None:
    async with (
        running(speed=1.0) as origin,
        Line(origin.url).open() as line,
        relaying(line.url, relay={"silence_s": 1.0, "backoff_max_s": 1.0}) as relay,
        joined(relay, codecs=["opus"]) as client,
    ):
        frames = await client.audio(5)
        expected: list[str] = []
        for name in (first, second):
            await line.fault(name)
            expected += [] if name == "hiccup" else ["lost", "connected"]
            async with asyncio.timeout(PATIENCE_S):
                while len(told(client)) < len(expected):
                    frames += await client.audio(1)
            frames += await client.audio(10)
        async with asyncio.timeout(PATIENCE_S):
            while frames[-1].sample_pos < origin.station.sample_pos - 2 * SAMPLE_RATE:
                frames += await client.audio(5)
    for before, after in itertools.pairwise(frames):
        if not after.flags & Flags.DISCONTINUITY:
            assert after.sample_pos == before.sample_pos + before.n_samples
    assert not any(frame.flags & Flags.DISCONTINUITY for frame in frames[1:]), "the upstream still had the audio"
    assert told(client) == expected
