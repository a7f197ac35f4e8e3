"""A benchmark that is told to end leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import PATIENCE_S


def started(pid: int) -> list[int]:
    """Processes that a process has started, and theirs."""
    try:
        found = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [each for child in found for each in (child, *started(child))]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="reads /proc")
@pytest.mark.parametrize("interrupts", ["heard", "ignored"])
@pytest.mark.parametrize(
    ("benchmark", "processes"),  # a server and its generator; of "all", also the benchmark itself
    [(("stream", "--model", "tone", "--only", "soak"), 2), (("all", "--quick", "--only", "soak"), 3)],
)
def test_sigterm_ends_a_benchmark_and_the_server_that_it_started(
    interrupts: str, benchmark: tuple[str, ...], processes: int
) -> None:
    command = [sys.executable, "-m", "riffstream", "bench", *benchmark, "--quiet"]
    # A shell starts what it puts in the background with SIGINT ignored.
    ignore = (lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)) if interrupts == "ignored" else None
    bench = subprocess.Popen(command, stderr=subprocess.PIPE, preexec_fn=ignore)
    try:
        until = time.monotonic() + PATIENCE_S
        while len(everyone := started(bench.pid)) < processes:
            assert bench.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
        bench.terminate()
        _, said = bench.communicate(timeout=PATIENCE_S)
        assert bench.returncode == 130, said.decode()
        assert b"Traceback" not in said
        until = time.monotonic() + PATIENCE_S
        while any(map(alive, everyone)):
            assert time.monotonic() < until, "something was left behind"
            time.sleep(0.05)
    finally:
        bench.kill()
        for pid in [each for each in locals().get("everyone", []) if alive(each)]:
            os.kill(pid, signal.SIGKILL)
