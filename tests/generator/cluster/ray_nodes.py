"""Nodes of a Ray cluster on this machine for tests, each a ``ray start --block`` with its own processes."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tests.conftest import PATIENCE_S, ROOT

__all__ = ["Node", "RayCluster", "until"]

RAY = [sys.executable, "-c", "from ray.scripts.scripts import main; main()"]


def until(condition: object, timeout_s: float = PATIENCE_S, what: str = "it") -> None:
    """Wait until a function says so."""
    assert callable(condition)
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen within {timeout_s:g} s"
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Node:
    """A running node."""

    def __init__(self, options: list[str], environment: dict[str, str], log: Path) -> None:
        command = [*RAY, "start", "--block", "--num-gpus=0", "--object-store-memory=80000000", *options]
        with log.open("wb") as file:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=file)
        until(lambda: self._started(log), what="the start of a Ray node")

    def _started(self, log: Path) -> bool:
        assert self.process.poll() is None, log.read_text()
        return "Ray runtime started" in log.read_text()

    def actors(self) -> list[psutil.Process]:
        """Processes of the generators on this node."""
        found = []
        for each in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if each.cmdline()[:1] and each.cmdline()[0].startswith("ray::GeneratorActor"):
                    found.append(each)
        return found

    def kill(self) -> None:
        """End all its processes at once, as when its machine loses power."""
        if self.process.poll() is not None:  # a drained node ends by itself
            return
        everything = [*psutil.Process(self.process.pid).children(recursive=True), psutil.Process(self.process.pid)]
        for each in everything:
            with contextlib.suppress(psutil.Error):
                each.kill()
        self.process.wait(20)


class RayCluster:
    """A head with one CPU, and more nodes if asked for. A token is needed to use it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ray-"))  # short: the paths of sockets may have 107 characters
        self.port, self.client_port = free_port(), free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {
            "PYTHONPATH": str(ROOT),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ADDRESS": self.address,
        }
        self._number = 0
        self.nodes: list[Node] = []
        self.start_head()

    def _start(self, *options: str) -> Node:
        self._number += 1
        environment = {name: value for name, value in self.environment.items() if name != "RAY_ADDRESS"}
        node = Node(list(options), environment, self.folder / f"{self._number}.log")
        self.nodes.append(node)
        return node

    def start_head(self) -> Node:
        """Start the head, or start it again at the same address."""
        return self._start(
            "--head",
            "--num-cpus=1",
            "--node-ip-address=127.0.0.1",
            f"--port={self.port}",
            f"--ray-client-server-port={self.client_port}",
            "--include-dashboard=false",
            f"--temp-dir={self.folder}",
        )

    def add_node(self, cpus: int) -> Node:
        """Start another node, at an address of its own: servers connect to the head."""
        number = len(self.nodes) + 1
        return self._start(f"--address={self.address}", f"--num-cpus={cpus}", f"--node-ip-address=127.0.0.{number}")

    def actors(self) -> dict[int, Node]:
        """Process id of each generator, and its node."""
        nodes = [node for node in self.nodes if node.process.poll() is None]
        return {actor.pid: node for node in nodes for actor in node.actors()}

    def drain(self, pid: int) -> None:
        """Drain the node with the generator of this process id."""
        code = (
            "import ray; from ray._private.state import state; ray.init('auto', log_to_driver=False)\n"
            f"print(next(a['Address']['NodeID'] for a in state.actor_table(None).values() if a.get('Pid') == {pid}))"
        )
        asked = subprocess.run([sys.executable, "-c", code], env=self.environment, capture_output=True, text=True)
        assert asked.returncode == 0, asked.stderr
        options = [
            "--reason=DRAIN_NODE_REASON_PREEMPTION",
            "--reason-message=a test",
            "--deadline-remaining-seconds=60",
        ]
        command = [*RAY, "drain-node", f"--address={self.address}", f"--node-id={asked.stdout.split()[-1]}", *options]
        subprocess.run(command, env=self.environment, check=True, capture_output=True)

    def close(self) -> None:
        """End all nodes."""
        for node in reversed(self.nodes):
            if node.process.poll() is None:
                node.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
