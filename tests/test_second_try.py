"""A second try for tests that failed beside others, on samples."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

START = """
import os, pathlib, pytest

def once(name):
    here = pathlib.Path(name)
    first = not here.exists()
    here.touch()
    return first

def test_good(): pass
"""
TEST = "test_sample.py::test_shaky[a b::c]"
SHAKY = """
@pytest.mark.parametrize("x", ["a b::c"])
def test_shaky(x):
    assert not once("shaky")
"""
BAD = "def test_bad(): assert False\n"
SKIPPED = """
def test_bad():
    assert not once("bad")
    pytest.skip("not now")
"""
DIRTY = """
@pytest.fixture
def dirty():
    yield
    assert False

def test_bad(dirty): pass
"""
CRASH = """
def test_crash():
    if once("crash"):
        os._exit(3)
"""


def tried(folder: Path, sample: str, *words: str) -> tuple[int, str]:
    """Exit status and output for a sample."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_sample.py").write_text(START + sample)
    command = [sys.executable, "-m", "tests.second_try", "-q", "-p", "no:cacheprovider", *words]
    # Without the plugins that these samples do not use, a process starts in a tenth of the time.
    plugins = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "xdist.plugin" if words else ""}
    environment = {**os.environ, **plugins, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120
    )
    return done.returncode, done.stdout


def test_what_passes_is_not_tried_again(tmp_path: Path) -> None:
    status, said = tried(tmp_path, "")
    assert (status, "again" in said) == (0, False), said


@pytest.mark.parametrize("words", [(), ("-n", "2")])
def test_what_fails_once_passes_and_is_named(tmp_path: Path, words: tuple[str, ...]) -> None:
    status, said = tried(tmp_path, SHAKY, *words)
    assert (status, said.splitlines()[-1]) == (0, f"passed alone: {TEST}"), said


@pytest.mark.parametrize("sample", [BAD, SKIPPED, DIRTY], ids=["fails", "skips", "fails at its end"])
def test_what_does_not_pass_alone_fails_the_run(tmp_path: Path, sample: str) -> None:
    status, said = tried(tmp_path, SHAKY + sample)
    assert status == 1, said
    assert said.splitlines()[-2:] == [f"passed alone: {TEST}", "failed twice: test_sample.py::test_bad"]


@pytest.mark.parametrize(
    ("sample", "words"),
    [
        ("@pytest.mark.parametrize('x', range(21))\ndef test_many(x): assert not once(f'many{x}')\n", ()),
        (SHAKY + CRASH, ("-n", "1")),
    ],
    ids=["many", "crash"],
)
def test_many_failures_and_crashes_fail_at_once(tmp_path: Path, sample: str, words: tuple[str, ...]) -> None:
    status, said = tried(tmp_path, sample, *words)
    assert (status, "alone" in said) == (1, False), said


@pytest.mark.parametrize("words", [(), ("-n", "1")])
def test_an_error_while_tests_are_collected_fails_the_run(tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "test_other.py").write_text("import nothing_of_this_name\n")
    status, said = tried(tmp_path, SHAKY, *words)
    assert (status != 0, "alone" in said) == (True, False), said
