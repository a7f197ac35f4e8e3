"""A server that is stopped or killed, and started again with the same ``state_dir``."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import riffstream
from riffstream.client import Radio
from riffstream.server.sessions import epoch_of
from tests.server.test_process import COMMAND

KILLED_S = 20.0  # what a crash leaves out, and what is played until the client is back


class Restartable:
    """Servers one after another on one port, with one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self.popen: subprocess.Popen[str] | None = None
        self.logs = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [*COMMAND, "serve", "--host", "127.0.0.1", "--port", str(self.port), "--model", "tone", "--json"]
        state = {"RIFFSTREAM_SERVER_STATE_DIR": str(self.folder), "RIFFSTREAM_LIMITS_STEER_INTERVAL_S": "0"}
        self.popen = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | state
        )
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline()
        assert line, self.popen.communicate()[1]
        self.port = int(str(json.loads(line)["url"]).rsplit(":", 1)[1])

    def end(self, number: signal.Signals) -> None:
        assert self.popen is not None
        self.popen.send_signal(number)
        _, logged = self.popen.communicate(timeout=60)
        self.logs += logged
        self.popen = None

    def wait_ready(self) -> None:
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/readyz", timeout=30):
                    return
            except OSError:
                time.sleep(0.1)

    def shown(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/api/stations/main", timeout=30) as answer:
            return dict(json.load(answer))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Restartable]:
    made = Restartable(tmp_path)
    yield made
    if made.popen is not None:
        made.end(signal.SIGKILL)


async def received(radio: Radio, blocks: list[Any], until: float = 0.0, seconds: float = 0.0) -> None:
    """Read until a sample position or for a time of audio."""
    end = blocks[-1].sample_pos + seconds * 48_000 if blocks else seconds * 48_000
    async with asyncio.timeout(90):
        while not blocks or blocks[-1].sample_pos < max(until, end):
            blocks.append(await anext(radio))


@pytest.mark.parametrize(("codec", "passive"), [("pcm_s16", False), ("opus", True)])
async def test_a_planned_stop_loses_no_sample_and_nothing_that_was_steered(
    server: Restartable, codec: Any, passive: bool
) -> None:
    await asyncio.to_thread(server.start)
    blocks: list[Any] = []
    async with riffstream.connect(server.url, codec="none") as dj, asyncio.timeout(90):
        await asyncio.to_thread(server.wait_ready)
        await dj.steer("church bells", bpm=97)
        await dj.steer(mix={"low": -12})
    async with riffstream.connect(server.url, codec=codec, steer=not passive) as radio:
        async with asyncio.timeout(90):
            await anext(radio)
        await received(radio, blocks, seconds=1.0)
        epoch = epoch_of(radio.welcome.session)
        before = await asyncio.to_thread(server.shown)
        ending = asyncio.to_thread(server.end, signal.SIGTERM)
        reader = asyncio.create_task(received(radio, blocks, seconds=6.0))
        await ending
        await asyncio.to_thread(server.start)
        await reader
        assert radio.reconnects == 1
        assert epoch_of(radio.welcome.session) == epoch, "caches and relays may go on with the same clock"
        now = radio.now
    positions = [block.sample_pos for block in blocks]
    lengths = [len(block.samples) for block in blocks]
    assert positions[1:] == [pos + n for pos, n in zip(positions, lengths, strict=True)][:-1], "no sample is missing"
    assert not any(block.discontinuity for block in blocks[1:])
    revs = [block.rev for block in blocks]
    assert revs == sorted(revs)
    assert revs[-1] == 2
    assert now is not None
    assert (now.state.bpm, now.state.prompts[0].text, now.state.mix.low) == (97.0, "church bells", -12.0)
    assert now.state == radio.state
    assert before["rev"] == now.rev == 2
    pcm = np.concatenate([block.samples for block in blocks])
    assert float(np.abs(np.diff(pcm[:, 0])).max()) < 0.2, "the seam does not click"
    assert "Traceback" not in server.logs


async def test_a_killed_server_goes_on_with_the_newest_change(server: Restartable) -> None:
    await asyncio.to_thread(server.start)
    blocks: list[Any] = []
    async with riffstream.connect(server.url, codec="pcm_s16") as radio:
        async with asyncio.timeout(90):
            await anext(radio)
            for number in range(3):
                await radio.steer(f"rain {number}", bpm=90 + number)
        await received(radio, blocks, seconds=2.0)
        last = blocks[-1].sample_pos
        reader = asyncio.create_task(received(radio, blocks, until=last + (KILLED_S + 3) * 48_000))
        await asyncio.to_thread(server.end, signal.SIGKILL)
        await asyncio.to_thread(server.start)
        await reader
    positions = [block.sample_pos for block in blocks]
    assert positions == sorted(positions), "the sample clock never goes back"
    jumps = [b - a - len(block.samples) for a, b, block in zip(positions, positions[1:], blocks, strict=False)]
    assert sum(1 for jump in jumps if jump) == 1
    assert 0 < max(jumps) < KILLED_S * 48_000
    assert {block.rev for block in blocks if block.sample_pos > last} == {3}
    assert radio.state.prompts[0].text == "rain 2"
    assert radio.state.bpm == 92.0


def ffmpeg(url: str, seconds: float) -> bytes:
    """Decoded audio of a stream, as ffmpeg plays it through the restarts of its server."""
    command = ["ffmpeg", "-v", "error", "-reconnect", "1", "-reconnect_at_eof", "1", "-reconnect_streamed", "1"]
    command += ["-reconnect_on_network_error", "1", "-reconnect_on_http_error", "5xx", "-reconnect_delay_max", "3"]
    command += ["-i", url, "-t", str(seconds), "-f", "f32le", "-ac", "1", "-ar", "48000", "-"]
    return subprocess.run(command, capture_output=True, timeout=120).stdout


async def test_a_change_that_waits_for_its_bar_is_still_announced(server: Restartable) -> None:
    await asyncio.to_thread(server.start)

    async def announced() -> list[str]:
        async with riffstream.connect(server.url, codec="none") as listener, asyncio.timeout(90):
            while listener.now is None:
                await asyncio.sleep(0.05)
            coming = listener.now.coming
            return [each.prompts[0].text for each in coming if each.by == "steer" and each.prompts]

    async with riffstream.connect(server.url, codec="none") as dj, asyncio.timeout(90):
        await asyncio.to_thread(server.wait_ready)
        drop = asyncio.create_task(dj.steer("thunder", bar=60))
        while not await announced():
            await asyncio.sleep(0.05)
        drop.cancel()
    await asyncio.to_thread(server.end, signal.SIGTERM)
    await asyncio.to_thread(server.start)
    await asyncio.to_thread(server.wait_ready)
    assert await announced() == ["thunder"]


async def test_ffmpeg_plays_on_through_stops_and_kills(server: Restartable) -> None:
    await asyncio.to_thread(server.start)
    playing = asyncio.create_task(asyncio.to_thread(ffmpeg, f"{server.url}/stream/main.mp3", 9.0))
    for number in (signal.SIGTERM, signal.SIGKILL):
        await asyncio.sleep(4)
        await asyncio.to_thread(server.end, number)
        await asyncio.to_thread(server.start)
    pcm = np.frombuffer(await playing, np.float32)
    assert len(pcm) == 9 * 48_000
    assert float(np.abs(pcm).max()) < 1.0


async def test_stations_of_the_api_go_on_too(server: Restartable) -> None:
    await asyncio.to_thread(server.start)

    def call(method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{server.url}{path}", data, {"Content-Type": "application/json"})
        request.method = method
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    await asyncio.to_thread(call, "POST", "/api/stations", {"id": "jazz", "prompts": ["cool jazz"]})
    await asyncio.sleep(2)
    await asyncio.to_thread(server.end, signal.SIGTERM)
    await asyncio.to_thread(server.start)
    shown = await asyncio.to_thread(call, "GET", "/api/stations/jazz")
    assert shown["state"]["prompts"][0]["text"] == "cool jazz"


async def test_a_private_station_and_its_token_go_on(server: Restartable) -> None:
    await asyncio.to_thread(server.start)
    music = {"prompts": ["calm piano"]}
    async with riffstream.connect(server.url, station="new", codec="none", music=music, reconnect=False) as own:
        name, token = own.welcome.station, own._hello.token
        await asyncio.sleep(2)
        await asyncio.to_thread(server.end, signal.SIGTERM)
        saved = (server.folder / "stations.json").read_text()
        assert token is not None
        assert token not in saved
        await asyncio.to_thread(server.start)
        async with riffstream.connect(server.url, station=name, token=token, codec="none") as again:
            assert again.welcome.role == "dj"
            assert again.state.prompts[0].text == "calm piano"
        async with riffstream.connect(server.url, station=name, codec="none") as other:
            assert other.welcome.role == "listener"


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"\x00" * 500,
        b"[]\n{}",
        b'{"format": "riffstream-state", "version": 999}\n{}\n',
        b'{"format": "other", "version": 1}\n{}\n',
        None,  # cut in half
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_a_line(server: Restartable, damage: bytes | None) -> None:
    file = server.folder / "stations.json"
    if damage is None:
        server.start()
        time.sleep(4)
        server.end(signal.SIGTERM)
        damage = file.read_bytes()
        damage = damage[: len(damage) // 2]
    file.write_bytes(damage)
    server.start()
    assert server.shown()["rev"] == 0
    server.end(signal.SIGTERM)
    assert "saved state refused" in server.logs
    assert "Traceback" not in server.logs
    assert (server.folder / "stations.json.refused").read_bytes() == damage
