"""How ``riffstream serve`` ends: by signals to it, to its group, twice, by a kill, and with closed standard streams."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from riffstream.server.broadcast import Member
from tests.conftest import PATIENCE_S
from tests.server.conftest import running
from tests.server.test_process import COMMAND, Process, generator_of, welcome

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until(condition: Callable[[], bool], timeout: float = PATIENCE_S) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.02)


async def started(**environment: str) -> Process:
    process = await asyncio.to_thread(Process, RIFFSTREAM_GENERATOR_BACKOFF_S="0.02", **environment)
    await welcome(process.url)
    return process


async def test_signals_to_the_generator_do_not_end_it_and_those_to_the_server_do() -> None:
    """The whole group gets systemd's SIGTERM, Ctrl-C and the SIGHUP of a closed terminal."""
    process = await started()
    pid = generator_of(process.url)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(pid, number)
    time.sleep(0.3)
    assert alive(pid)
    code, _, logged = process.end(signal.SIGHUP)
    assert code == 0, logged
    assert "generator lost" not in logged
    until(lambda: not alive(pid))


@pytest.mark.parametrize("hurried", [False, True])
async def test_a_second_signal_does_not_wait_for_listeners(hurried: bool) -> None:
    async def never(reason: str) -> None:
        await asyncio.sleep(600)

    async with running(server={"drain_s": 2 * PATIENCE_S}) as served:
        server = served.server
        server.context.broadcast("main").members.add(Member(never))
        leaving = asyncio.create_task(server.run())
        await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.2)
        assert served.hub.draining, "no generator is started any more"
        assert not leaving.done()
        if hurried:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.wait_for(leaving, PATIENCE_S)
        else:
            await asyncio.sleep(0.5)
            assert not leaving.done()
            server._signalled()
            await asyncio.wait_for(leaving, PATIENCE_S)


async def test_closed_standard_streams_do_not_disturb_and_a_killed_server_leaves_no_generator() -> None:
    """Nothing to read from and nothing to write to is how some service managers start programs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = f"exec {sys.executable} -m riffstream serve --port {port} --model tone <&- >&- 2>&-"
    popen = subprocess.Popen(["sh", "-c", command])
    try:
        url = f"http://127.0.0.1:{port}"

        def listens() -> bool:
            with socket.socket() as sock:
                return sock.connect_ex(("127.0.0.1", port)) == 0

        await asyncio.to_thread(until, listens)
        await welcome(url)
        pid = generator_of(url)
        assert alive(pid)
    finally:
        popen.kill()
        popen.wait()
    until(lambda: not alive(pid))


def test_a_model_that_never_loads_ends_the_server_with_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text('raise ImportError("libtorch_cpu.so: cannot open shared object file")\n')
    done = subprocess.run(
        [*COMMAND, "serve", "--port", "0", "--quiet"],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ
        | {
            "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
            "RIFFSTREAM_GENERATOR_BACKOFF_S": "0.02",
        },
    )
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert "the generator ended 5 times before it was ready, the last time: ImportError: libtorch_cpu.so" in last
