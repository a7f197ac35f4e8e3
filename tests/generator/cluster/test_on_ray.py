"""A server whose generators run on a real Ray cluster of this machine, which loses a worker, a node and its head."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import psutil
import pytest

from riffstream.client import Block, connect
from tests.conftest import ROOT
from tests.generator.cluster.ray_nodes import RayCluster, until

pytest.importorskip("ray", reason="the extra ray is not installed: no test on a Ray cluster")
pytestmark = pytest.mark.slow

SETTINGS = """
[server]
port = 0
drain_s = 0
[generator]
model = "tone"
cpus = 0.4
[timeline]
repeats = 20
[stations.main]
prompts = ["first"]
"""
QUIET_S = 0.05


class Running:
    """``riffstream serve`` on the cluster, with two listeners: the socket client, and PyAV."""

    def __init__(self, environment: dict[str, str], folder: Path, *options: str, more: str = "") -> None:
        config = folder / "ray.toml"
        config.write_text(SETTINGS + more)
        command = [sys.executable, "-m", "riffstream", "serve", "--config", str(config), "--json", *options]
        self._log = (folder / "log").open("w+")
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=self._log, text=True
        )
        assert self.process.stdout is not None
        self.url = json.loads(self.process.stdout.readline())["url"]
        self._over = threading.Event()
        self.blocks: list[Block] = []
        self.heard: list[np.ndarray] = []
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._socket, self._pyav)]

    def log(self) -> str:
        return Path(self._log.name).read_text()

    def figure(self, name: str) -> float:
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=20) as answer:
            lines = answer.read().decode().splitlines()
        return float(next(line.split()[-1] for line in lines if line.startswith(f"riffstream_{name}")))

    def ready(self, workers: int = 1) -> bool:
        assert self.process.poll() is None, self.log()
        return self.figure("generator_workers_ready") == workers

    def listen(self) -> None:
        for thread in self._threads:
            thread.start()
        until(lambda: len(self.heard) > 10 and len(self.blocks) > 10, what="the first sound")

    def _socket(self) -> None:
        async def listen() -> None:
            async with connect(self.url, codec="pcm_s16", steer=False, reconnect=False) as radio:
                async for block in radio:
                    self.blocks.append(block)
                    if self._over.is_set():
                        return

        asyncio.run(listen())

    def _pyav(self) -> None:
        with av.open(f"{self.url}/stream/main.wav", timeout=30) as container:
            for frame in container.decode(audio=0):
                self.heard.append(frame.to_ndarray().reshape(-1, 2) / 32768.0)
                if self._over.is_set():
                    return

    def steer(self, prompt: str, station: str = "main") -> None:
        """Returns when the change is in the sound."""

        async def steer() -> None:
            async with connect(self.url, station=station, codec="pcm_s16") as radio:
                await radio.steer(prompt, timeout_s=60)

        asyncio.run(steer())

    def check_sound(self) -> None:
        """Every sample has come to both listeners, and there was sound all the time."""
        self._over.set()
        for thread in self._threads:
            thread.join(20)
        for one, two in itertools.pairwise(self.blocks):
            assert two.sample_pos == one.sample_pos + len(one.samples)
            assert not two.discontinuity
        for pcm in (np.concatenate([block.samples for block in self.blocks]), np.concatenate(self.heard)):
            quiet = round(QUIET_S * 48_000)
            levels = np.abs(pcm[: len(pcm) // quiet * quiet].reshape(-1, 2 * quiet)).max(axis=1)
            assert levels[20:].min() > 0.02, f"quiet after {20 * QUIET_S + levels[20:].argmin() * QUIET_S:.2f} s"
        assert self.figure("station_underruns_total") == 0

    def close(self) -> None:
        self._over.set()
        if self.process.poll() is None:
            self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
        self.process.kill()
        self.process.communicate()
        self._log.close()


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    made = RayCluster()
    yield made
    made.close()


@contextlib.contextmanager
def running(cluster: RayCluster, folder: Path, *options: str, more: str = "") -> Iterator[Running]:
    server = Running(cluster.environment, folder, *options, more=more)
    try:
        yield server
    finally:
        print(server.log())
        server.close()


def test_a_killed_worker_costs_no_listener_a_sample(cluster: RayCluster, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(cluster.environment, "RIFFSTREAM_GENERATOR_WORKERS", "2")
        with running(cluster, tmp_path, "--generator", "ray:auto") as server:
            until(lambda: server.ready(2), what="two workers")
            server.listen()
            for number, pid in enumerate(cluster.actors(), 1):  # the station is at one of them
                os.kill(pid, signal.SIGKILL)
                until(lambda n=number: server.figure("generator_restarts_total") == n, what="the loss")  # type: ignore[misc]
                server.steer(f"after {number}")
                until(lambda: server.ready(2), what="another worker")
            assert number == 2
            assert "worker process has died" in server.log()
            server.check_sound()
            server.process.kill()
            until(lambda: not cluster.actors(), what="the end of the workers of a server that was killed")


def test_a_stopped_worker_is_replaced_and_ended(cluster: RayCluster, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(cluster.environment, "RIFFSTREAM_GENERATOR_STALL_S", "2")
        with running(cluster, tmp_path, "--generator", "ray:auto") as server:
            until(server.ready, what="a worker")
            server.listen()
            (stopped,) = cluster.actors()
            os.kill(stopped, signal.SIGSTOP)
            until(lambda: server.figure("generator_restarts_total") == 1, what="the loss")
            until(server.ready, what="another worker")
            server.steer("after")
            until(lambda: stopped not in cluster.actors(), what="the end of the stopped one")
            server.check_sound()


def test_a_server_outside_the_cluster_uses_rays_client(cluster: RayCluster, tmp_path: Path) -> None:
    with running(cluster, tmp_path, "--generator", f"ray://127.0.0.1:{cluster.client_port}") as server:
        # Ray's proxy forks beside its threads, sometimes hangs until 30 s have passed, and then refuses once.
        until(server.ready, 110, what="a worker over Ray's client")
        server.listen()
        server.steer("after")
        server.check_sound()
        server.process.terminate()
        until(lambda: not cluster.actors(), what="the end of the workers of a server that ended")


def test_a_cluster_of_its_own_is_replaced_and_ends_with_the_server(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    server = Running(environment | {"PYTHONPATH": str(ROOT)}, tmp_path, "--generator", "ray:local")
    try:
        until(server.ready, what="a worker")
        server.listen()
        process = psutil.Process(server.process.pid)
        (head,) = [each for each in process.children() if "riffstream.generator.cluster.head" in each.cmdline()]
        begun = [each for each in head.children(recursive=True) if "GeneratorActor" in each.name()]
        head.kill()
        until(lambda: not server.ready(), what="the loss")
        until(server.ready, what="a worker of the next cluster")
        server.steer("after")
        server.check_sound()
        begun += process.children(recursive=True)  # the agents of a killed node take a minute to notice
        server.process.terminate()
        until(lambda: not [each for each in begun if _runs(each)], what="the end of Ray's processes")
    finally:
        print(server.log())
        server.close()


def _runs(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def test_the_head_is_restarted(cluster: RayCluster, tmp_path: Path) -> None:
    with running(cluster, tmp_path, "--generator", "ray:auto") as server:
        until(server.ready, what="a worker")
        server.listen()
        (before,) = cluster.actors()
        for node in cluster.nodes:
            if node.process.poll() is None:
                node.kill()
        until(lambda: not server.ready(), what="the loss")
        time.sleep(1)
        cluster.start_head()
        until(server.ready, what="a worker of the new head")
        assert list(cluster.actors()) != [before]
        server.steer("after")
        server.check_sound()


def test_a_client_without_the_token_is_refused(cluster: RayCluster) -> None:
    environment = cluster.environment | {"RAY_AUTH_TOKEN": "0" * 64, "RAY_NUM_REDIS_GET_RETRIES": "2"}
    command = [sys.executable, "-m", "riffstream.generator.cluster.bridge", "ray:auto"]
    ended = subprocess.run(
        command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=60
    )
    assert (
        b"the Ray cluster ray:auto cannot be reached (is it running, and is RAY_AUTH_TOKEN its token?)" in ended.stdout
    )
    assert ended.returncode == 3
    assert not cluster.actors()


def test_a_drained_node_hands_its_generator_over(cluster: RayCluster, tmp_path: Path) -> None:
    others = [cluster.add_node(cpus=2), cluster.add_node(cpus=2)]  # the head has no room for two CPUs
    near = "[stations.near]\nmodel = 'near'\n[models.near]\nmodel = 'tone'\nbackend = 'local'\n"
    try:
        with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as ending:
            patch.setitem(cluster.environment, "RIFFSTREAM_GENERATOR_CPUS", "2")
            server = ending.enter_context(running(cluster, tmp_path, "--generator", "ray:auto", more=near))
            until(lambda: server.ready(2), what="a worker, and a process of this machine")
            server.listen()
            ((pid, node),) = cluster.actors().items()
            cluster.drain(pid)
            until(lambda: cluster.actors() and pid not in cluster.actors(), what="the change to another worker")
            assert list(cluster.actors().values()) != [node]
            for station in ("main", "near"):
                server.steer("after", station)
            assert server.figure("generator_restarts_total") == 0
            assert server.figure("station_repeats_total") == 0, "the next clips came in time"
            server.check_sound()
    finally:
        for each in others:
            each.kill()
