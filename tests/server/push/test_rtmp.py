"""Pushes over RTMP, with ffmpeg as the server that takes them."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import time
from collections.abc import Callable

import numpy as np
import pytest

from tests.conftest import PATIENCE_S
from tests.server.conftest import running
from tests.server.fakes import pitch
from tests.server.push.icecast import free_port

SECONDS = 3.0


async def until(true: Callable[[], bool], what: str, seconds: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.05)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed (see .ci/system-packages)")
async def test_ffmpeg_takes_the_stream_and_its_departure_is_seen() -> None:
    url = f"rtmp://127.0.0.1:{free_port()}/live/secret-key"
    push = {"home": {"url": url, "backoff_s": 0.2, "backoff_max_s": 0.5}}
    command = ["ffmpeg", "-v", "error", "-listen", "1", "-i", url, "-t", str(SECONDS), "-f", "f32le", "-ac", "1", "-"]
    async with running(speed=1.0, push=push) as served:
        home = served.server.context.pushes["home"]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, timeout=40)
        assert done.stderr == b""
        wave = np.frombuffer(done.stdout, np.float32)
        assert abs(len(wave) - SECONDS * 48_000) < 9600
        assert pitch(np.stack([wave[-48_000:]] * 2, 1)) == pytest.approx(300, abs=2)
        assert np.abs(wave[9600:129_600]).reshape(-1, 480).max(1).min() > 0.2, "a gap"
        await until(lambda: home.state == "retrying", "ffmpeg has left")
        assert "secret" not in home.problem


async def test_a_silent_server_never_holds_up_the_loop() -> None:
    """libav waits for it with Python's lock held."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    push = {"home": {"url": f"rtmp://127.0.0.1:{port}/live/key", "backoff_s": 0.05}}
    async with running(speed=1.0, push=push) as served:
        home, begun, latest = served.server.context.pushes["home"], time.monotonic(), 0.0
        while time.monotonic() - begun < 3:
            before = time.monotonic()
            await asyncio.sleep(0.05)
            latest = max(latest, time.monotonic() - before)
        assert home.state == "connecting"
        assert latest < 2.5  # as long as the connection waits
        assert served.station.committed > 2 * 48_000
        began = time.monotonic()
    assert time.monotonic() - began < 10
    assert home.state == "stopped"
    server.close()
    await server.wait_closed()
