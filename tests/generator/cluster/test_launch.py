"""The server's side of a Ray cluster: the check for the extra, and the command of a bridge. No Ray is used here."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from riffstream.config import GeneratorSettings
from riffstream.generator.cluster import launch
from riffstream.generator.cluster.launch import Cluster
from riffstream.generator.supervisor import configuration
from tests.conftest import ROOT


class Started:
    """A process that was asked for."""

    def __init__(self, command: list[str], *, env: dict[str, str], **_: Any) -> None:
        self.command, self.environment = command[2:], env
        self.stdin = io.BytesIO()
        self.code: int | None = None

    def poll(self) -> int | None:
        return self.code

    def wait(self, timeout: float | None = None) -> int:
        if not self.stdin.closed:
            raise subprocess.TimeoutExpired("head", timeout or 0.0)
        return 0

    def kill(self) -> None:
        self.stdin.close()


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Started]:
    found: list[Started] = []

    def start(*args: Any, **more: Any) -> Started:
        found.append(Started(*args, **more))
        return found[-1]

    monkeypatch.setattr(launch.subprocess, "Popen", start)
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    return found


@pytest.mark.parametrize(
    ("settings", "cpus", "gpus"),
    [
        ({}, "1.0", "0.0"),
        ({"device": "cuda"}, "1.0", "1.0"),
        ({"device": "cuda", "gpus": 0.25, "cpus": 2.0}, "2.0", "0.25"),
        ({"device": "auto", "gpus": 1.0}, "1.0", "1.0"),
    ],
)
def test_a_bridge_asks_for_what_a_worker_reserves(
    started: list[Started], settings: dict[str, Any], cpus: str, gpus: str
) -> None:
    generator = GeneratorSettings(backend="ray://head:10001", **settings)
    Cluster(generator.backend).launcher(generator)()
    module = "riffstream.generator.cluster.bridge"
    assert started[0].command == [module, "ray://head:10001", "--cpus", cpus, "--gpus", gpus]
    assert "RAY_AUTH_TOKEN" not in started[0].environment, "it is the user's"


def test_the_cluster_of_this_machine_starts_once_and_again_after_its_end(started: list[Started]) -> None:
    cluster = Cluster("ray:local")
    start = cluster.launcher(GeneratorSettings(backend="ray:local"))
    start()
    start()
    head, *bridges = started
    file = head.command[1]
    assert head.command == ["riffstream.generator.cluster.head", file]
    assert [each.command[-2:] for each in bridges] == [["--address-file", file]] * 2
    tokens = {each.environment["RAY_AUTH_TOKEN"] for each in started}
    assert len(tokens) == 1
    assert len(tokens.pop()) >= 32
    assert {each.environment["RAY_AUTH_MODE"] for each in started} == {"token"}
    Path(file).write_text("127.0.0.1:1")
    head.code = 1
    start()
    assert [each.command[0].rpartition(".")[2] for each in started[3:]] == ["head", "bridge"]
    assert not Path(file).exists(), "a bridge must not read the address of the cluster that ended"
    cluster.close()
    cluster.close()
    assert started[3].stdin.closed
    assert not Path(file).parent.exists()


def test_a_token_of_the_user_is_kept(started: list[Started], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    cluster = Cluster("ray:local")
    cluster.launcher(GeneratorSettings(backend="ray:local"))()
    assert started[0].environment["RAY_AUTH_MODE"] == "disabled"
    assert "RAY_AUTH_TOKEN" not in started[0].environment
    cluster.close()


def test_the_command_says_so_too(tmp_path: Path) -> None:
    (tmp_path / "riffstream_without_ray.py").write_text(
        "import importlib.util, sys\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *more: None if name == 'ray' else find(name, *more)\n"
        "from riffstream.cli import main\n"
        "sys.argv[0] = 'riffstream'\n"
        "sys.exit(main())\n"
    )
    command = [sys.executable, str(tmp_path / "riffstream_without_ray.py"), "serve", "--generator", "ray:auto"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, env={"PYTHONPATH": str(ROOT)})
    assert ended.returncode == 2
    assert "pip install 'riffstream[ray]'" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_server_never_imports_ray() -> None:
    code = (
        "import riffstream.station.hub, riffstream.server.app, riffstream.commands.serve, sys\n"
        "from riffstream.generator.cluster.launch import Cluster\n"
        "from riffstream.generator.packages import check_installed\n"
        "from riffstream.config import GeneratorSettings\n"
        "check_installed(GeneratorSettings(runtime='openvino')), Cluster('ray:auto')\n"
        "print({'ray', 'grpc', 'torch', 'openvino'} & set(sys.modules))"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.stdout.strip() == "set()", ended.stderr


def test_a_renderer_is_not_told_where_it_runs() -> None:
    here = configuration(GeneratorSettings(model="mini", threads=2))
    there = configuration(GeneratorSettings(model="mini", threads=2, backend="ray:auto", workers=3, cpus=2.0, gpus=1.0))
    assert here == there
