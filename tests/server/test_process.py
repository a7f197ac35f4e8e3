"""``riffstream serve`` and ``riffstream listen`` as processes."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile
from aiohttp import ClientSession

import riffstream
from riffstream.client import RadioError
from tests.audio.signals import clicks
from tests.conftest import PATIENCE_S
from tests.server.conftest import open_socket
from tests.server.test_sockets import HELLO, Client

COMMAND = [sys.executable, "-m", "riffstream"]


class Process:
    """A server with the test generator, and the address that it printed."""

    def __init__(self, *options: str, **environment: str) -> None:
        self.popen = subprocess.Popen(
            [*COMMAND, "serve", "--port", "0", "--model", "tone", "--json", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline()
        assert line, self.popen.communicate()[1]
        self.url = str(json.loads(line)["url"])

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, float, str]:
        """Exit code, seconds that it took, and what was logged."""
        began = time.monotonic()
        self.popen.send_signal(number)
        _, logged = self.popen.communicate(timeout=PATIENCE_S)
        return self.popen.returncode, time.monotonic() - began, logged


@pytest.fixture(scope="module")
def served() -> Iterator[Process]:
    process = Process()
    yield process
    code, _, logged = process.end()
    assert code == 0, logged


async def welcome(url: str) -> None:
    """Wait until there is sound."""
    async with asyncio.timeout(90):
        async with riffstream.connect(url) as radio:
            await anext(radio)


async def test_a_real_station_plays_and_is_steered(served: Process) -> None:
    await welcome(served.url)
    async with riffstream.connect(served.url) as radio, asyncio.timeout(90):
        first = await anext(radio)
        applied = await radio.steer("church bells", bpm=100)
        assert applied.audible_at > first.sample_pos
        position = first.sample_pos + len(first.samples)
        loud = 0.0
        while position <= applied.audible_at:
            block = await anext(radio)
            assert block.sample_pos == position
            position += len(block.samples)
            loud = max(loud, float(abs(block.samples).max()))
        assert block.rev == applied.rev
    assert 0.05 < loud <= 1.0


def test_listen_records_and_reports(served: Process, tmp_path: Path) -> None:
    file = tmp_path / "out.flac"
    command = [*COMMAND, "listen", served.url, "-o", str(file), "--seconds", "1.5", "--steer", "rain", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["seconds"] == 1.5
    assert report["discontinuities"] == 0
    info = soundfile.info(file)
    assert (info.frames, info.samplerate, info.channels) == (72_000, 48_000, 2)


def test_listen_writes_raw_samples_to_a_pipe(served: Process) -> None:
    command = [*COMMAND, "listen", served.url, "-o", "-", "--seconds", "0.5", "--quiet"]
    done = subprocess.run(command, capture_output=True, timeout=60)
    assert done.returncode == 0
    assert len(done.stdout) == 24_000 * 2 * 4
    assert done.stderr == b""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["listen", "ftp://x"], "an address like"),
        (["listen", "http://127.0.0.1:9", "-o", "x.wav"], "cannot reach"),
        (["listen", "http://127.0.0.1:9", "-o", "x.xyz"], "wav"),
        (["listen", "http://127.0.0.1:9", "--seconds", "-1"], "more than 0"),
        (["serve", "--port", "70000"], "0 to 65535"),
        (["serve", "--config", "nowhere.toml"], "nowhere.toml"),
        (["serve", "--host", "203.0.113.7", "--port", "0", "--model", "tone"], "203.0.113.7"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(arguments: list[str], words: str, tmp_path: Path) -> None:
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_port_in_use_is_told_plainly(served: Process) -> None:
    port = served.url.rsplit(":", 1)[1]
    done = subprocess.run(
        [*COMMAND, "serve", "--port", port, "--model", "tone"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert f"port {port} on 127.0.0.1 is in use" in done.stderr


def test_a_public_address_without_a_token_is_warned_about() -> None:
    process = Process("--host", "0.0.0.0")
    code, _, logged = process.end(signal.SIGINT)
    assert code == 0
    warnings = [json.loads(line) for line in logged.splitlines() if '"warning"' in line]
    assert any("may steer" in each["event"] for each in warnings)
    assert process.url.startswith("http://localhost:")


async def test_sigterm_under_load_says_bye_and_leaves_in_time() -> None:
    process = await asyncio.to_thread(Process)
    await welcome(process.url)
    sockets = [
        await open_socket(f"{process.url.replace('http', 'ws', 1)}/ws/main", subprotocols=["riffstream.v1"])
        for _ in range(19)
    ]
    clients = [Client(socket) for socket in sockets]
    for client in clients:
        await client.send(**(HELLO | {"codecs": ["opus"]}))
        await client.message("welcome")
    ending = asyncio.create_task(asyncio.to_thread(process.end))
    codes = await asyncio.gather(*(client.ended() for client in clients))
    code, seconds, logged = await ending
    assert code == 0, logged
    assert seconds < 30
    assert set(codes) == {1012}
    byes = [client.messages[-1] for client in clients]
    assert {bye["type"] for bye in byes} == {"bye"}
    assert len({bye["reconnect_ms"] for bye in byes}) > 5
    assert "Traceback" not in logged
    with pytest.raises(RadioError, match="cannot reach"):
        await riffstream.connect(process.url).__aenter__()


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return str(answer.read().decode())


def generator_of(url: str) -> int:
    lines = fetch(f"{url}/metrics").splitlines()
    return int(next(float(line.split()[1]) for line in lines if line.startswith("riffstream_generator_pid ")))


def seed_image_of(url: str) -> str | None:
    shown: dict[str, Any] = json.loads(fetch(f"{url}/api/stations/main"))
    return shown["state"].get("seed_image")


@pytest.mark.slow
async def test_an_upload_plays_and_outlives_the_generator(tmp_path: Path) -> None:
    target = io.BytesIO()
    soundfile.write(target, clicks(125, 5).T, 48_000, format="FLAC")
    target.seek(0)
    process = await asyncio.to_thread(Process, "--model", "mini", TMPDIR=str(tmp_path))  # the last --model counts
    try:
        await welcome(process.url)
        assert len(list(tmp_path.glob("riffstream-seeds-*"))) == 1
        async with ClientSession() as session, session.post(f"{process.url}/api/seeds", data=target) as answer:
            assert answer.status == 201, await answer.text()
            name = (await answer.json())["name"]
        async with riffstream.connect(process.url) as radio, asyncio.timeout(120):
            first = await radio.steer("drums", seed_image=name, denoising=0.3)
            assert seed_image_of(process.url) == name
            pid = generator_of(process.url)
            os.kill(pid, signal.SIGKILL)
            again = await radio.steer("drums", seed=7, timeout_s=100)
            assert (again.rev, seed_image_of(process.url)) == (first.rev + 1, name)
            assert generator_of(process.url) != pid
            with pytest.raises(RadioError, match="seed_image is 'upload-000000000000'"):
                await radio.steer(seed_image="upload-000000000000", timeout_s=60)
    finally:
        code, _, logged = await asyncio.to_thread(process.end)
    assert code == 0, logged
    assert list(tmp_path.iterdir()) == []


def test_variables_of_a_service_are_passed_over_in_one_line() -> None:
    injected = {"RIFFSTREAM_SERVER_PORT": "tcp://10.0.0.7:8080", "RIFFSTREAM_SERVER_SERVICE_HOST": "10.0.0.7"}
    process = Process(**injected)
    code, _, logged = process.end()
    assert code == 0, logged
    lines = [line for line in logged.splitlines() if "RIFFSTREAM_" in line]
    assert len(lines) == 1
    assert all(name in lines[0] for name in injected)
