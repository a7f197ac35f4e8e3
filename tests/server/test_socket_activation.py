"""Sockets that systemd opens for the server."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

import pytest

from riffstream.server.binding import inherited_sockets
from tests.server.test_process import COMMAND

SERVE = [*COMMAND, "serve", "--model", "tone", "--json", "--port", "1"]  # a port that could not be used
# systemd sets LISTEN_PID to the number of the process that it starts, and file 3.
AS_SYSTEMD = [
    sys.executable,
    "-c",
    "import os, sys; os.dup2(int(sys.argv[1]), 3); "
    "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1'); os.execv(sys.argv[2], sys.argv[2:])",
]


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def started(number: int) -> subprocess.Popen[str]:
    """A server that inherits this process's open file ``number``."""
    command = [*AS_SYSTEMD, str(number), *SERVE]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, pass_fds=[number])


def address_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()[1]
    return str(json.loads(line)["url"])


def health(url: str) -> str:
    with urllib.request.urlopen(f"{url}/healthz", timeout=60) as answer:
        return str(json.load(answer)["status"])


def ended(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    _, logged = process.communicate(timeout=60)
    assert process.returncode == 0, logged


async def test_no_connection_is_refused_while_one_server_replaces_another(listening: socket.socket) -> None:
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    first = started(listening.fileno())
    assert await asyncio.to_thread(address_of, first) == url
    assert await asyncio.to_thread(health, url) == "ok"
    await asyncio.to_thread(ended, first)
    between = asyncio.create_task(asyncio.to_thread(health, url))  # nobody accepts yet
    await asyncio.sleep(0.2)
    assert not between.done()
    second = started(listening.fileno())
    assert await between == "ok"
    await asyncio.to_thread(ended, second)


async def test_systemd_s_own_tool_can_start_the_server() -> None:
    tool = shutil.which("systemd-socket-activate")
    if tool is None:
        pytest.skip("systemd-socket-activate is not installed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    keep = [f"--setenv={name}" for name in ("PATH", "PYTHONPATH") if name in os.environ]
    command = [tool, "-l", f"127.0.0.1:{port}", *keep, *SERVE]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    url = f"http://127.0.0.1:{port}"
    for _ in range(100):
        try:
            assert await asyncio.to_thread(health, url) == "ok"  # this connection starts it
            break
        except OSError:
            await asyncio.sleep(0.1)  # the tool does not listen yet
    assert await asyncio.to_thread(address_of, process) == url
    await asyncio.to_thread(ended, process)


def test_other_inherited_files_are_errors_of_one_line() -> None:
    with socket.socket() as idle:
        idle.bind(("127.0.0.1", 0))
        process = started(idle.fileno())
        _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "LISTEN_FDS: socket 3 is no listening TCP socket" in said
    with open(os.devnull) as file:
        process = started(file.fileno())
        _, said = process.communicate(timeout=60)
    assert "file 3 is no socket" in said


def test_variables_meant_for_another_process_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    for pid, count in (("1", "1"), (str(os.getpid()), "many"), ("", "")):
        monkeypatch.setenv("LISTEN_PID", pid)
        monkeypatch.setenv("LISTEN_FDS", count)
        assert inherited_sockets() == []
        assert "LISTEN_FDS" not in os.environ  # children must not take them for theirs
