"""``make`` sets up its virtual environment whatever is there before."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(sys.platform == "win32" or shutil.which("make") is None, reason="make is not installed")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What make needs of one, and a Python as Debian installs it: without ensurepip, venv fails half way."""
    folder = tmp_path / "a checkout"
    shutil.copytree(ROOT / ".ci", folder / ".ci")
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder / name)
    debian = folder / "debian-python"
    debian.write_text(
        f'#!/bin/sh\nif [ "$1 $2" = "-m venv" ]; then shift 2; "{sys.executable}" -m venv --without-pip "$@"; '
        f'echo "ensurepip is not available" >&2; exit 1; fi\nexec "{sys.executable}" "$@"\n'
    )
    debian.chmod(0o755)
    return folder


def make(folder: Path, *arguments: str, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    # "pip install --help" succeeds and installs nothing.
    command = ["make", *arguments, f"PYTHON={python}", "PIP_ARGS=--help"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def pips(folder: Path) -> bool:
    done = subprocess.run([folder / ".venv/bin/pip", "--version"], capture_output=True, text=True, check=False)
    return done.returncode == 0 and str(folder) in done.stdout


@pytest.mark.slow
def test_half_made_moved_and_broken_environments_are_made_again(checkout: Path) -> None:
    done = make(checkout, ".venv/.run", python="./debian-python")
    assert done.returncode == 2
    assert "sudo apt install python3-venv" in done.stderr
    assert (checkout / ".venv/bin/python").exists()
    assert not (checkout / ".venv/.run").exists()

    done = make(checkout, ".venv/.run")
    assert (done.returncode, done.stderr) == (0, "")
    assert pips(checkout)
    assert "pip install" in done.stdout
    assert "pip install" not in make(checkout, ".venv/.run").stdout, "nothing has changed"

    moved = checkout.rename(checkout.parent / "moved")
    done = make(moved, ".venv/.run")
    assert (done.returncode, done.stderr) == (0, "")
    assert "made again" in done.stdout
    assert "pip install" in done.stdout
    assert pips(moved)

    (moved / ".venv/bin/python").unlink()
    (moved / ".venv/bin/python").symlink_to("/nowhere/python3")
    done = make(moved, ".venv/.run", python="./debian-python")
    assert done.returncode == 2
    assert "python3-venv" in done.stderr


def test_what_is_in_the_way_is_left_alone_and_named(checkout: Path) -> None:
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / "thesis.txt").write_text("my own")
    done = make(checkout, ".venv/.run")
    assert done.returncode == 2
    assert ".venv is in the way" in done.stderr
    assert (checkout / ".venv" / "thesis.txt").read_text() == "my own"


def test_a_python_that_is_missing_or_too_old_is_named(checkout: Path) -> None:
    done = make(checkout, ".venv/.run", python="python9.99")
    assert (done.returncode, "there is no python9.99" in done.stderr) == (2, True)
    old = checkout / "old"
    old.write_text('#!/bin/sh\ncase "$1" in -c) exit 1 ;; *) echo "Python 3.9.2" ;; esac\n')
    old.chmod(0o755)
    done = make(checkout, ".venv/.run", python="./old")
    assert (done.returncode, "./old is Python 3.9.2" in done.stderr) == (2, True)
