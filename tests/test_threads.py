"""How many CPU threads a process takes, and how they wait for each other."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from riffstream import threads
from riffstream.threads import WAITING, limit_threads, usable_cores, wait_passively


def on_machine(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    cores: int,
    v2: str | None = None,
    v1: tuple[int, int] | None = None,
) -> None:
    """A machine with ``cores`` cores and these limits of a control group."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.setattr(threads, "_CGROUP_V2", tmp_path / "cpu.max")
    monkeypatch.setattr(threads, "_CGROUP_V1", tmp_path)
    if v2 is not None:
        (tmp_path / "cpu.max").write_text(v2)
    if v1 is not None:
        (tmp_path / "cpu.cfs_quota_us").write_text(str(v1[0]))
        (tmp_path / "cpu.cfs_period_us").write_text(str(v1[1]))


@pytest.mark.parametrize(
    ("cores", "threads", "expected"), [(1, 0, "1"), (2, 0, "1"), (8, 0, "7"), (8, 3, "3"), (2, 16, "16")]
)
def test_one_core_is_left_to_the_server_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cores: int, threads: int, expected: str
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    on_machine(monkeypatch, tmp_path, cores)
    limit_threads(threads)
    assert os.environ["OMP_NUM_THREADS"] == expected


def test_the_environment_wins_over_the_default_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    limit_threads()
    assert os.environ["OMP_NUM_THREADS"] == "5"
    limit_threads(2)
    assert os.environ["OMP_NUM_THREADS"] == "2"


@pytest.mark.parametrize(
    ("v2", "v1", "expected"),
    [
        (None, None, 16),
        ("max 100000\n", None, 16),
        ("200000 100000\n", None, 2),
        ("150000 100000\n", None, 2),
        ("20000 100000\n", None, 1),
        ("9900000 100000\n", None, 16),
        ("nonsense\n", None, 16),
        (None, (300000, 100000), 3),
        (None, (-1, 100000), 16),
        (None, (100000, 0), 16),
    ],
)
def test_cores_follow_the_quota_of_a_container(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, v2: str | None, v1: tuple[int, int] | None, expected: int
) -> None:
    on_machine(monkeypatch, tmp_path, 16, v2, v1)
    assert usable_cores() == expected


def test_cores_are_known_where_affinity_is_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    on_machine(monkeypatch, tmp_path, 16)
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert usable_cores() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores() == 1


def test_threads_sleep_unless_the_user_chose() -> None:
    plain: dict[str, str] = {}
    wait_passively(plain)
    assert plain == {"OMP_WAIT_POLICY": "PASSIVE"}
    for name in WAITING:
        chosen = {name: "1"}
        wait_passively(chosen)
        assert chosen == {name: "1"}


@pytest.mark.parametrize(
    "entry",
    [
        "import riffstream.spectrogram.vocoder",
        "import riffstream.generator.process",
        "import riffstream.training.denoiser",
        "from riffstream import Vocoder",
        "from riffstream.cli import main; main(['config'])",
    ],
)
def test_every_entry_sets_it_before_torch_is_loaded(entry: str) -> None:
    """A finder that looks at the environment when torch is asked for; the names would come too late afterwards."""
    watch = (
        "import os, sys\n"
        "class Watch:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch': assert os.environ.get('OMP_WAIT_POLICY') == 'PASSIVE', 'torch came first'\n"
        "sys.meta_path.insert(0, Watch())\n"
        f"{entry}\n"
        "assert os.environ['OMP_WAIT_POLICY'] == 'PASSIVE'\n"
    )
    own = {name: value for name, value in os.environ.items() if name not in WAITING}
    done = subprocess.run([sys.executable, "-c", watch], env=own, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_commands_leave_a_core_free() -> None:
    program = "import os; from riffstream.cli import main; main(['config']); print(os.environ['OMP_NUM_THREADS'])"
    own = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", program], env=own, capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[-1]) == max(1, usable_cores() - 1)
