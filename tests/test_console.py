"""Printing that cannot fail: narrow consoles, names that are no text, outputs that are closed or full."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import mutagen
import numpy as np
import pytest
import soundfile

from riffstream.audio.writing import write_audio
from riffstream.station.steering_log import read_log

STRICT = {"PYTHONIOENCODING": "utf-8:strict"}  # what a locale such as en_US.UTF-8 gives
BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
TITLE = '[stations.main]\ntitle = "Café ♫ 🎷"\n'

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")


def shell(command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """A command line in bash; ``R`` stands for the program."""
    program = f'R() {{ {sys.executable} -m riffstream "$@"; }}\n'
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", program + command],
        cwd=folder, env={**BUFFERED, **environment}, capture_output=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8:strict", "ascii:strict", "latin-1"])
def test_a_narrow_console_shows_escapes(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(TITLE, encoding="utf-8")
    done = shell("R config c.toml && R config c.toml --json", tmp_path, PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    wide = encoding.startswith("utf-8")
    assert ("🎷".encode() if wide else b"\\U0001f3b7") in done.stdout
    assert json.loads(done.stdout[done.stdout.index(b"{") :])["stations"]["main"]["title"] == "Café ♫ 🎷"


def test_names_that_are_no_text_are_written_and_said(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).uniform(-0.5, 0.5, 44_100), 44_100)
    command = "mv a.wav $'caf\\xe9.wav' && R audio-to-image --audio $'caf\\xe9.wav' --image $'caf\\xe9.png'"
    done = shell(command, tmp_path, **STRICT)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"Wrote caf\\udce9.png\n", b"")
    assert {os.fsencode(path.name) for path in tmp_path.iterdir()} == {b"caf\xe9.wav", b"caf\xe9.png"}


@pytest.mark.parametrize("environment", [STRICT, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}])
def test_prompts_that_are_no_text_become_text(environment: dict[str, str], tmp_path: Path) -> None:
    command = "R render --model tone --seconds 0.2 --prompt $'caf\\xe9' --save-log $'l\\xe9' -o $'r\\xe9.mp3' --json"
    done = shell(command, tmp_path, **environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert os.fsencode(json.loads(done.stdout)["file"]) == b"r\xe9.mp3"
    with (tmp_path / os.fsdecode(b"r\xe9.mp3")).open("rb") as file:
        assert str(mutagen.File(file).tags["TIT2"]) == "café"
    assert read_log(tmp_path / os.fsdecode(b"l\xe9"))


def test_tags_take_any_text(tmp_path: Path) -> None:
    for kind in ("wav", "flac", "ogg", "mp3"):
        file = tmp_path / f"a.{kind}"
        write_audio(file, np.zeros((4800, 2)), 48_000, {"title": os.fsdecode(b"caf\xe9"), "mood": "\ud83d"})
        assert any("café" in str(value) for value in mutagen.File(file).tags.values()), kind


def test_an_error_about_such_a_name_is_one_line(tmp_path: Path) -> None:
    done = shell("R audio-to-image --audio $'n\\xe9.wav' --image x.png", tmp_path, **STRICT)
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
    assert b"n\\udce9.wav" in done.stderr


@pytest.mark.parametrize(
    ("command", "code", "err"),
    [
        ("R seeds list | head -n 1 > /dev/null", 0, b""),
        ("R config | true", 0, b""),
        ("R --help | true", 0, b""),
        ("R serve --help | true", 0, b""),
        ("R config >&-", 0, b""),
        ("R config 2>&- >/dev/null", 0, b""),
        ("R config <&- >&- 2>&-", 0, b""),
        ("R config nowhere 2>&- >/dev/null", 2, b""),
        ("R config nowhere 2>&1 >/dev/null | true", 2, b""),
        ("R config > /dev/full", 1, b"riffstream: standard output: No space left on device\n"),
        ("R --help > /dev/full", 1, b"riffstream: standard output: No space left on device\n"),
        ("PYTHONUNBUFFERED=1 R config > /dev/full", 1, b"riffstream config: No space left on device\n"),
    ],
)
def test_closed_and_full_outputs_end_in_good_order(command: str, code: int, err: bytes, tmp_path: Path) -> None:
    if "/dev/full" in command and not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    done = shell(command, tmp_path)
    assert (done.returncode, done.stderr) == (code, err)


def test_work_goes_on_when_nobody_reads_the_messages(tmp_path: Path) -> None:
    for streams in ("2>&-", ">&- 2>&-", "2> >(true)"):
        (tmp_path / "a.wav").unlink(missing_ok=True)
        done = shell(f"R render --model tone --seconds 0.5 --prompt x -o a.wav {streams}", tmp_path)
        assert done.returncode == 0
        data, rate = soundfile.read(tmp_path / "a.wav")
        assert len(data) == rate // 2
