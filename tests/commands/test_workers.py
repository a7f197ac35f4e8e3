"""``riffstream serve --workers 3`` as processes: all share the port, the stations and the steering."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import riffstream
from riffstream.client import Radio, connect
from riffstream.commands._worker import worker_config
from riffstream.config import Config
from riffstream.errors import ParameterError, RiffstreamError
from riffstream.server.binding import joined_sockets, listening_sockets
from tests.conftest import PATIENCE_S
from tests.relay.conftest import until
from tests.server.test_process import Process

pytestmark = pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="this system has no SO_REUSEPORT")

ENVIRONMENT = {
    "RIFFSTREAM_LIMITS_CONNECTIONS_PER_ADDRESS": "1000",
    "RIFFSTREAM_LIMITS_STEER_BURST": "100",
    "RIFFSTREAM_ACCESS_DJ_TOKEN": "dj",
    "RIFFSTREAM_SERVER_DRAIN_S": "1",
}


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=20) as answer:
        body = answer.read().decode()
        return json.loads(body) if "json" in answer.headers["Content-Type"] else body


def pids(url: str) -> dict[str, int]:
    return {name: each["pid"] for name, each in get(f"{url}/healthz")["workers"].items()}


def is_alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    return False


@pytest.fixture(scope="module")
def server() -> Iterator[Process]:
    process = Process("--workers", "3", **ENVIRONMENT)
    yield process
    workers = pids(process.url)
    code, _, logged = process.end(signal.SIGINT)  # as Ctrl-C does; the workers of a terminal get it too
    assert code == 0, logged
    assert "Traceback" not in logged
    assert not any(map(is_alive, workers.values()))


async def everywhere(url: str, **options: Any) -> dict[str, Radio]:
    """A listener at each process, by the process's id."""
    found: dict[str, Radio] = {}
    async with asyncio.timeout(PATIENCE_S):
        while len(found) < 3:
            radio = connect(url, **options)
            try:
                await radio.__aenter__()
            except riffstream.client.RadioError:
                await asyncio.sleep(0.2)
                continue
            if radio.welcome.path[0] in found:
                await radio.close()
            else:
                found[radio.welcome.path[0]] = radio
    return found


def test_hls_is_the_same_at_each_process(server: Process, need_tool: Callable[[str], str]) -> None:
    """A player opens several connections, and the kernel gives each to any process."""
    folder = f"{server.url}/hls/main"
    segments = set()
    for _ in range(12):
        lines = get(f"{folder}/128.m3u8").splitlines()
        segments |= {line.rpartition("/")[0] for line in lines if line.endswith(".m4s")}
    assert len(segments) == 1
    command = [need_tool("ffmpeg"), "-v", "error", "-i", f"{folder}/master.m3u8", "-t", "4", "-f", "s16le", "-"]
    done = subprocess.run(command, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(done.stdout) == 4 * 48_000 * 4


async def test_each_process_plays_the_same_and_steers_the_same(server: Process) -> None:
    radios = await everywhere(server.url, token="dj")
    try:
        for number, radio in enumerate(radios.values()):
            applied = await radio.steer(f"tone {number}", timeout_s=30)
            for other in radios.values():
                async with asyncio.timeout(PATIENCE_S):
                    while (block := await anext(other)).rev < applied.rev:
                        pass
                assert block.sample_pos <= applied.audible_at + 48_000
        paths = sorted(len(radio.welcome.path) for radio in radios.values())
        assert paths == [1, 2, 2]
        assert {radio.welcome.role for radio in radios.values()} == {"dj"}
        clocks = [(await radio.clock()).sample_pos for radio in radios.values()]
        assert max(clocks) - min(clocks) < 24_000
    finally:
        for radio in radios.values():
            await radio.close()
    for radio in (await everywhere(server.url)).values():
        assert (radio.welcome.role, radio.welcome.reason is None) == ("listener", False)
        await radio.close()


async def test_metrics_health_and_the_api_are_those_of_all_at_each(server: Process) -> None:
    radios = await everywhere(server.url)
    for _ in range(8):  # the kernel chooses the process
        health = await asyncio.to_thread(get, f"{server.url}/healthz")
        assert set(health["workers"]) == {"1", "2"}
        metrics = await asyncio.to_thread(get, f"{server.url}/metrics")
        assert all(
            f'riffstream_build_info{{version="{riffstream.__version__}",worker="{n}"}} 1.0' in metrics for n in "012"
        )
        listeners = [line for line in metrics.splitlines() if line.startswith("riffstream_listeners{")]
        assert sum(float(line.rsplit(" ", 1)[1]) for line in listeners) >= 3
        assert len((await asyncio.to_thread(get, f"{server.url}/api/seeds"))["seeds"]) > 10
        assert (await asyncio.to_thread(get, f"{server.url}/readyz"))["status"] == "ready"
    for radio in radios.values():
        await radio.close()


async def test_a_killed_worker_is_replaced_and_its_listeners_lose_nothing(server: Process) -> None:
    before = pids(server.url)
    radios = [radio for radio in (await everywhere(server.url)).values() if len(radio.welcome.path) == 2]
    blocks: list[list[Any]] = [[], []]

    async def listen(radio: Radio, heard: list[Any]) -> None:
        async for block in radio:
            heard.append(block)

    tasks = [asyncio.create_task(listen(*pair)) for pair in zip(radios, blocks, strict=True)]
    await until(lambda: all(len(each) > 30 for each in blocks))
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    await until(lambda: all(radio.reconnects for radio in radios))
    lengths = [len(each) for each in blocks]
    await until(lambda: all(len(each) > length + 50 for each, length in zip(blocks, lengths, strict=True)))
    for task, radio in zip(tasks, radios, strict=True):
        task.cancel()
        await radio.close()
    for heard in blocks:
        assert not any(block.discontinuity for block in heard[1:])
        for one, two in itertools.pairwise(heard):
            assert two.sample_pos == one.sample_pos + len(one.samples)

    def replaced() -> bool:
        health = get(f"{server.url}/healthz")["workers"]
        return all(each["state"] == "running" and each["restarts"] == 1 for each in health.values())

    async with asyncio.timeout(PATIENCE_S):
        while not await asyncio.to_thread(replaced):
            await asyncio.sleep(0.2)
    for radio in (await everywhere(server.url)).values():
        await radio.close()


def test_workers_end_with_a_killed_first_process() -> None:
    process = Process("--workers", "2", **ENVIRONMENT)
    try:
        for _ in range(100):
            with contextlib.suppress(OSError):
                workers = pids(process.url)
                if all(workers.values()):
                    break
        process.popen.kill()
        process.popen.communicate(timeout=30)
        for _ in range(300):
            if not any(map(is_alive, workers.values())):
                break
            signal.sigtimedwait([], 0.1)
        assert not any(map(is_alive, workers.values()))
        port = int(process.url.rsplit(":", 1)[1])
        socket.create_server(("127.0.0.1", port)).close()  # nobody holds the port
    finally:
        process.popen.kill()


def test_a_worker_that_cannot_listen_ends(tmp_path: Path) -> None:
    """The first process then replaces it; it must not look alive."""
    orders = {
        "config": Config().to_dict(),
        "token": "t",
        "feed": str(tmp_path / "feed"),
        "own": str(tmp_path / "missing" / "own"),
        "files": [],
        "addresses": [["127.0.0.1", 0]],
    }
    command = [sys.executable, "-m", "riffstream.commands._worker"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as worker:
        assert worker.stdin is not None
        worker.stdin.write(json.dumps(orders) + "\n")
        worker.stdin.flush()
        assert worker.wait(60) != 0


def test_the_number_of_workers_is_checked() -> None:
    for workers in ("0", "65"):
        command = [sys.executable, "-m", "riffstream", "serve", "--workers", workers]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 2
        assert done.stderr == f"riffstream serve: server.workers is {workers}; allowed: a whole number from 1 to 64\n"


def test_only_the_first_process_archives_pushes_and_reports() -> None:
    given = {
        "server": {"state_dir": "y"},
        "archive": {"dir": "x"},
        "push": {"a": {"url": "icecast://source:hackme@localhost:8000/a.mp3"}},
        "webhooks": {"b": {"url": "https://hook.example"}},
        "access": {"dj_token": "dj"},
    }
    config = worker_config(Config.from_dict(given).to_dict(), "secret")
    assert (config.archive.dir, config.push, config.webhooks) == ("", {}, {})
    assert config.server.state_dir == "", "the first process holds the folder"
    assert (config.access.dj_token, config.relay.token) == ("dj", "secret")


def test_a_shared_port_is_not_shared_with_another_server() -> None:
    first = listening_sockets("127.0.0.1", 0, share=True)
    address = first[0].getsockname()
    joined = joined_sockets([address])
    with pytest.raises(RiffstreamError, match="in use"):
        listening_sockets("127.0.0.1", address[1], share=True)
    for sock in (*first, *joined):
        sock.close()


def test_serve_refuses_upstreams() -> None:
    command = [sys.executable, "-m", "riffstream", "serve"]
    environment = os.environ | {"RIFFSTREAM_RELAY_UPSTREAMS": "wss://radio.example"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 2
    assert "relay.upstreams" in done.stderr
    assert "riffstream relay" in done.stderr


@pytest.mark.parametrize(
    ("upstreams", "field"),
    [
        (["ftp://x"], "upstreams"),
        (["ws://user:secret@x"], "upstreams"),
        (["ws://x?y"], "upstreams"),
        (["ws://x:0"], "upstreams"),
        (["ws://x/ws/a", "ws://y/ws/b"], "upstreams"),
    ],
)
def test_addresses_of_upstreams_are_checked(upstreams: list[str], field: str) -> None:
    with pytest.raises(ParameterError) as caught:
        Config.from_dict({"relay": {"upstreams": upstreams}})
    assert caught.value.field == f"relay.{field}"
    assert "secret" not in str(caught.value)
