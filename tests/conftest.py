"""What every test may use: tools that must be there, and one thread for torch so that results are steady."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.workers import pytest_collection_modifyitems, pytest_xdist_make_scheduler

__all__ = [
    "PATIENCE_MS",
    "PATIENCE_S",
    "PLAY_S",
    "ROOT",
    "need_tool",
    "parity_folder",
    "pytest_collection_modifyitems",
    "pytest_xdist_make_scheduler",
]

os.environ.setdefault("OMP_NUM_THREADS", "1")

# A busy machine is no fault: hypothesis would take an example of 200 ms for one, and slow making of examples.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

# A shell ignores SIGINT in background jobs, and nohup ignores SIGHUP; processes under test would inherit that.
for _name in ("SIGINT", "SIGHUP", "SIGQUIT"):
    _number = getattr(signal, _name, None)
    if _number is not None and signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _name == "SIGINT" else signal.SIG_DFL)

ROOT = Path(__file__).resolve().parent.parent

PATIENCE_S = 120.0
"""Longest wait for what must happen: far longer than a busy machine needs. A wait ends as soon as it has happened."""

PATIENCE_MS = 1000 * PATIENCE_S
"""The same for browsers."""

PLAY_S = float(os.environ.get("RIFFSTREAM_PLAY_S", "20"))
"""How long players and the page play without a fault."""


@pytest.fixture(scope="session")
def need_tool() -> Callable[[str], str]:
    """``need_tool("ffmpeg")`` gives the program's path; without it the test is skipped, or fails where CI is set."""

    def find(name: str) -> str:
        path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
        if path is None:
            message = f"{name} is not installed (see .ci/system-packages)"
            if os.environ.get("CI"):
                pytest.fail(message)
            pytest.skip(message)
        return path

    return find


@pytest.fixture(scope="session")
def parity_folder() -> Path:
    """The full set of numbers from the original Riffusion, where it lies beside the repository."""
    folder = ROOT.parent / "shared" / "parity"
    if not folder.is_dir():
        pytest.skip("the full parity set is not beside this repository; the subset in tests/data still runs")
    return folder
