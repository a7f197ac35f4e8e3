"""``/ws/{station}/plain``: what ten lines of any language can do."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import InvalidStatus

from tests.conftest import PATIENCE_S
from tests.server.conftest import Running, open_socket, running
from tests.server.fakes import pitch
from tests.server.test_streams import decoded


class Plain:
    """Collects audio and lines."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self.audio = b""
        self.lines: list[str] = []

    async def line(self, start: str) -> str:
        """The next line that begins with this."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                data = await self.socket.recv()
                if isinstance(data, bytes):
                    self.audio += data
                else:
                    self.lines.append(data)
                    if data.startswith(start):
                        return data

    async def more(self, size: int) -> None:
        """Until so many bytes of audio are there."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.audio) < size:
                data = await self.socket.recv()
                if isinstance(data, bytes):
                    self.audio += data
                else:
                    self.lines.append(data)


async def test_pcm_comes_bare_and_a_text_steers(live: Running) -> None:
    async with open_socket(live.ws("main/plain")) as socket:
        plain = Plain(socket)
        assert await plain.line("now") == "now a test tone"
        await plain.more(96_000)
        before = np.frombuffer(plain.audio[:96_000], "<i2").reshape(-1, 2)
        assert abs(pitch(before.astype(np.float32)) - 300) < 3
        await socket.send("  gentle\nrain ")
        assert await plain.line("scheduled") == "scheduled rev 1 in 0.35 s"
        await plain.line("applied rev 1 at sample ")
        assert await plain.line("now") == "now gentle rain"
        plain.audio = b""
        await plain.more(192_000)
        after = np.frombuffer(plain.audio[96_000:192_000], "<i2").reshape(-1, 2)
        assert abs(pitch(after.astype(np.float32)) - 500) < 3


async def test_mp3_comes_as_frames(live: Running) -> None:
    async with open_socket(live.ws("main/plain?codec=mp3")) as socket:
        plain = Plain(socket)
        await plain.more(20_000)
    assert plain.audio[0] == 0xFF
    assert len(decoded(plain.audio, "mp3")) > 40_000


async def test_mistakes_are_told_in_a_line(live: Running) -> None:
    async with open_socket(live.ws("main/plain")) as socket:
        plain = Plain(socket)
        await socket.send("x" * 301)
        assert "prompt_rejected" in await plain.line("error")
        await socket.send(b"\0\0")
        assert "bad_request" in await plain.line("error")
        await socket.send("\t ")
        await socket.send("fine")
        await plain.line("applied")
    assert len(live.station.steers) == 1
    counters = live.server.context.counters
    assert (counters["steers"], counters["rejected"]) == (1, 1)  # as those of the other socket


async def test_an_unknown_codec_is_refused(live: Running) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await open_socket(live.ws("main/plain?codec=flac"))
    assert refused.value.response.status_code == 400


async def test_without_the_token_one_listens() -> None:
    async with running(speed=10.0, access={"dj_token": "dj"}) as served:
        async with open_socket(served.ws("main/plain")) as socket:
            plain = Plain(socket)
            await plain.more(1000)
            await socket.send("rain")
            assert "forbidden" in await plain.line("error")
        async with open_socket(served.ws("main/plain"), additional_headers={"Authorization": "Bearer dj"}) as socket:
            plain = Plain(socket)
            await socket.send("rain")
            await plain.line("applied")
        with pytest.raises(InvalidStatus) as refused:
            await open_socket(served.ws("main/plain"), additional_headers={"Authorization": "Bearer no"})
        assert refused.value.response.status_code == 401


async def test_quick_prompts_are_coalesced(live: Running) -> None:
    async with open_socket(live.ws("main/plain")) as socket:
        plain = Plain(socket)
        for n in range(8):
            await socket.send(f"prompt {n}")
        assert await plain.line("superseded") == "superseded by a later prompt"
        async with asyncio.timeout(PATIENCE_S):
            while live.station.state.prompts[0].text != "prompt 7":
                await asyncio.sleep(0.05)
    assert len(live.station.steers) == 4
