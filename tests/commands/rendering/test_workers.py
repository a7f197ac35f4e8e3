"""Batches in several processes: the same files as in one, and the death of a process loses nothing."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from riffstream.cli import main
from riffstream.commands.rendering import workers
from riffstream.generator.messages import Info
from tests.conftest import PATIENCE_S, ROOT

SETS = [
    {"name": "one", "prompt": "a", "seconds": 3},
    {"name": "two", "prompts": ["a", "b"], "seconds": 7.5, "bpm": 133, "key": 2},
    {"name": "three", "prompt": "c", "seconds": 5, "seed": 4, "lufs": -20},
    {"name": "four", "prompt": "d", "seconds": 2},
]


def command(folder: Path, sets: Any, *options: object) -> list[str]:
    path = folder / "sets.json"
    path.write_text(json.dumps(sets))
    return ["render", "--model", "tone", "--batch", str(path), "-o", str(folder / "out"), *map(str, options)]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "out").iterdir())}


def test_the_files_do_not_depend_on_the_number_of_processes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        assert main(command(tmp_path / str(number), SETS, "--json", "--image", "--processes", number)) == 0
        assert json.loads(capsys.readouterr().out)["rendered"] == 4
    one, two = files(tmp_path / "1"), files(tmp_path / "2")
    assert one.keys() == two.keys()
    assert [name for name in one if one[name] != two[name]] == []
    # A third run has nothing to do.
    assert main(command(tmp_path / "2", SETS, "--json", "--image", "--processes", 2)) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["rendered"], report["kept"]) == (0, 4)
    assert files(tmp_path / "2") == two


def test_a_set_that_the_model_does_not_support_fails_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sets = [{"name": "chords", "prompt": "a", "chords": "Am F", "seconds": 1}, *SETS[2:]]
    assert main(command(tmp_path, sets, "--json", "--processes", 2)) == 1
    report = json.loads(capsys.readouterr().out)
    assert "takes words alone" in report["failed"]["chords"]
    assert report["rendered"] == 2


def test_one_at_a_time_has_the_samples_of_single_renderings(tmp_path: Path) -> None:
    """With the model: a clip that shares its batch with others would differ by rounding."""
    sets = [{"name": name, "prompt": name, "seconds": 5} for name in ("jazz", "techno")]
    arguments = [
        word for word in command(tmp_path, sets, "--quiet", "--at-once", 1, "--processes", 2) if word != "tone"
    ]
    arguments.remove("--model")
    assert main(arguments) == 0
    for name in ("jazz", "techno"):
        single = tmp_path / f"{name}.flac"
        assert main(["render", "--quiet", "--prompt", name, "--seconds", "5", "-o", str(single)]) == 0
        one, other = (soundfile.read(path)[0] for path in (single, tmp_path / "out" / f"{name}.flac"))
        assert np.array_equal(one, other), name


@pytest.fixture
def deadly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """``deadly("EXPRESSION")``: in a worker, a submitted job for which it is true kills the process."""

    def install(expression: str) -> None:
        (tmp_path / "sitecustomize.py").write_text(
            "import os, signal, pathlib\n"
            "from riffstream.generator import renderer\n"
            "submit = renderer.ToneRenderer.submit\n"
            f"once = pathlib.Path({str(tmp_path / 'once')!r})\n"
            "def deadly(self, job):\n"
            f"    if {expression}:\n"
            "        once.touch()\n"
            "        os.kill(os.getpid(), signal.SIGKILL)\n"
            "    submit(self, job)\n"
            "renderer.ToneRenderer.submit = deadly\n"
        )
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")

    return install


def test_the_death_of_a_process_loses_nothing(
    tmp_path: Path, deadly: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    deadly("job.station == 'two' and job.number == 1 and not once.exists()")
    assert main(command(tmp_path, SETS, "--json", "--processes", 2)) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["rendered"], report["failed"]) == (4, {})
    killed = files(tmp_path)
    assert not [name for name in killed if name.endswith(".part")]
    (tmp_path / "again").mkdir()
    assert main(command(tmp_path / "again", SETS, "--quiet")) == 0
    assert {name: data for name, data in killed.items() if name.endswith(".flac")} == {
        name: data for name, data in files(tmp_path / "again").items() if name.endswith(".flac")
    }


def test_a_set_that_kills_its_process_twice_has_failed(
    tmp_path: Path, deadly: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    deadly("job.station == 'two' and job.number == 1")
    assert main(command(tmp_path, SETS, "--json", "--processes", 2)) == 1
    report = json.loads(capsys.readouterr().out)
    assert list(report["failed"]) == ["two"]
    assert "ended 2 times: signal SIGKILL" in report["failed"]["two"]
    assert report["rendered"] == 3
    assert not [name for name in files(tmp_path) if name.startswith(("two", "."))]


def test_a_model_that_cannot_be_loaded_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = command(tmp_path, SETS, "--processes", 2)
    arguments[arguments.index("tone")] = str(tmp_path / "nowhere")
    assert main(arguments) == 2
    assert "nowhere" in capsys.readouterr().err


@pytest.mark.parametrize("processes", [1, 2])
def test_a_file_that_cannot_be_written_ends_the_batch_in_one_line(
    processes: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is no death of a process: a second try would fail too, and so would the other files of a full disk."""
    (tmp_path / "out" / "four.flac").mkdir(parents=True)
    assert main(command(tmp_path, SETS, "--processes", processes)) == 2
    said = capsys.readouterr().err
    assert re.search(r"^riffstream render: cannot write \S+four.flac: it is a folder$", said, re.MULTILINE), said
    assert "ended" not in said
    (tmp_path / "out" / "four.flac").rmdir()
    assert main(command(tmp_path, SETS, "--processes", processes)) == 0
    assert not [name for name in files(tmp_path) if name.endswith(".part")]


def stubborn(pipe: Connection) -> None:
    """A process that does not end when it is told to."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pipe.send("ready")
    time.sleep(60)


def test_processes_that_do_not_end_are_killed_at_one_time_and_count_as_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the batch removes their unfinished files."""
    monkeypatch.setattr(workers, "LEAVE_S", 4.0)
    made = workers.Workers(argparse.Namespace(quiet=True), 3)
    context = multiprocessing.get_context("spawn")
    for _ in range(3):
        ours, theirs = context.Pipe()
        process = context.Process(target=stubborn, args=(theirs,), daemon=True)
        process.start()
        theirs.close()
        made._live.append(workers._Worker(process, ours, careful=False))
    for each in made._live:
        assert each.pipe.recv() == "ready"
    began = time.monotonic()
    made.close()
    assert time.monotonic() - began < 11
    assert made.lost == 3
    made.close()
    assert made.lost == 3


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="process groups are POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_the_end_of_the_command_ends_all_processes(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C reaches the whole group; a kill reaches only the command."""
    arguments = command(tmp_path, [{"name": each, "prompt": "a", "seconds": 3000} for each in "abcd"], "--processes", 2)
    with subprocess.Popen(
        [sys.executable, "-m", "riffstream", *arguments],
        cwd=ROOT,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        deadline = time.monotonic() + PATIENCE_S
        while len(list((tmp_path / "out").glob(".*.part"))) < 4 and process.poll() is None:
            if time.monotonic() > deadline:
                os.killpg(process.pid, signal.SIGKILL)
                pytest.fail("the renderings did not begin")
            time.sleep(0.1)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        said, _ = process.communicate(timeout=60)  # until all have closed the pipe: all have ended
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    assert "Traceback" not in said
    if number == signal.SIGINT:
        assert "the same command continues" in said
    assert not list((tmp_path / "out").glob("*.flac"))
    assert not list((tmp_path / "out").glob(".*.part"))


def test_memory_bounds_the_number_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    ready = workers._Ready(Info(model="x"), 500_000_000)
    for free, allowed in ((0, 1), (600_000_000, 1), (700_000_000, 2), (8_000_000_000, 13)):
        monkeypatch.setattr(workers, "_free_memory", lambda free=free: free)
        assert workers._fitting(ready) == allowed
    assert workers._fitting(workers._Ready(Info(model="x", device="cuda"), 1)) == 1
    monkeypatch.setattr(workers, "_free_memory", lambda: None)
    assert workers._fitting(ready) > 1000


@pytest.mark.parametrize("number", [0, 2000])
def test_a_wrong_number_of_processes_is_refused(
    number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(tmp_path, SETS, "--processes", number)) == 2
    assert f"--processes is {number}; allowed: 1 to 1024" in capsys.readouterr().err
