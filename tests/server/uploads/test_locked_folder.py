"""Folders that servers hold: those of dead ones go, those of living ones stay, whatever happens at the same time."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from riffstream.config import Config
from riffstream.errors import ParameterError
from riffstream.server.uploads import locked_folder as module
from riffstream.server.uploads.intake import Uploads
from riffstream.server.uploads.locked_folder import FolderTakenError, LockedFolder

PREFIX = "riffstream-test-"
HOLD = """
import sys, tempfile
from riffstream.server.uploads.locked_folder import LockedFolder
tempfile.tempdir = sys.argv[1]
held = [LockedFolder.temporary("riffstream-test-") for _ in range(int(sys.argv[2]))]
print(*(each.path for each in held), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's temporary folder, for this test."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def holder(folder: Path, count: int = 1) -> tuple[subprocess.Popen[str], list[Path]]:
    """A process that holds temporary folders, and the folders."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, [Path(word) for word in process.stdout.readline().split()]


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_folders_of_a_killed_process_go_and_those_of_a_living_one_stay(temporary: Path) -> None:
    living, (kept,) = holder(temporary)
    dead, (left,) = holder(temporary)
    (kept / "loop.wav").write_text("x")
    (left / "deep").mkdir()
    (left / "deep" / "loop.wav").write_text("x")
    kill(dead)
    assert left.exists()
    ours = LockedFolder.temporary(PREFIX)
    assert sorted(temporary.iterdir()) == sorted([kept, ours.path])
    assert (kept / "loop.wav").exists()
    kill(living)
    again = LockedFolder.temporary(PREFIX)
    assert sorted(temporary.iterdir()) == sorted([ours.path, again.path])
    for each in (ours, again, again):
        each.close()
    assert not list(temporary.iterdir())


def test_what_is_not_ours_is_left_alone(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = temporary / "elsewhere"
    elsewhere.mkdir()
    (temporary / f"{PREFIX}link").symlink_to(elsewhere)
    (temporary / f"{PREFIX}file").write_text("x")
    (temporary / "riffstream-other").mkdir()
    LockedFolder.temporary(PREFIX).close()
    assert len(list(temporary.iterdir())) == 4
    stranger = temporary / f"{PREFIX}stranger"
    stranger.mkdir()
    uid = os.geteuid()
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: uid + 1)
        LockedFolder.temporary(PREFIX).close()
    assert stranger.exists()
    LockedFolder.temporary(PREFIX).close()
    assert not stranger.exists()


def test_servers_that_start_together_never_take_each_others(temporary: Path) -> None:
    """Many at once, each clearing and making: in the end every folder that was handed out is there."""
    held: list[LockedFolder] = []

    def make() -> None:
        for _ in range(40):
            held.append(LockedFolder.temporary(PREFIX))

    threads = [threading.Thread(target=make) for _ in range(4)]
    others = [holder(temporary, 20) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    paths = [each.path for each in held] + [path for _, found in others for path in found]
    assert len(set(paths)) == 200
    assert sorted(temporary.iterdir()) == sorted(paths)
    for process, _ in others:
        kill(process)
    for each in held:
        each.close()


def test_a_new_folder_that_was_cleared_before_it_was_held_is_made_again(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []
    hold = module._hold

    def cleared_first(path: Path, *, wait: bool) -> int | None:
        made.append(path)
        if len(made) == 1:
            module._clear(path)
            made.append(path)
        return hold(path, wait=wait)

    monkeypatch.setattr(module, "_hold", cleared_first)
    ours = LockedFolder.temporary(PREFIX)
    assert not made[0].exists()
    assert ours.path != made[0]
    assert ours.path.is_dir()
    ours.close()


def test_a_lasting_folder_is_one_servers_alone_and_stays(tmp_path: Path) -> None:
    config = Config.from_dict({"server": {"state_dir": str(tmp_path)}})
    first = LockedFolder.lasting(tmp_path / "seeds")
    (first.path / "kept").write_text("x")
    with pytest.raises(FolderTakenError):
        LockedFolder.lasting(tmp_path / "seeds")
    with pytest.raises(ParameterError, match=r"state_dir is .*; allowed: a folder that no other running server uses"):
        Uploads(config)
    first.close()
    first.close()
    LockedFolder.lasting(tmp_path / "seeds").close()
    assert (tmp_path / "seeds" / "kept").exists()


def test_without_locks_folders_are_made_and_nothing_is_cleared(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "fcntl", None)
    one, two = LockedFolder.temporary(PREFIX), LockedFolder.temporary(PREFIX)
    assert one.path.exists()
    lasting = LockedFolder.lasting(temporary / "seeds")
    for each in (one, two, lasting):
        each.close()
    assert [path.name for path in temporary.iterdir()] == ["seeds"]
    shutil.rmtree(temporary / "seeds")
