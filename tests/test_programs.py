"""The programs of ``examples/`` and of the README run as they stand, against a real server with the test tone."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import pytest
import soundfile

from tests.conftest import ROOT
from tests.server.test_process import Process

LIMIT_S = 90


@pytest.fixture(scope="module")
def served() -> Iterator[Process]:
    process = Process()
    yield process
    assert process.end()[0] == 0


def program(text: str, url: str, folder: Path, *, seconds: int = 2) -> list[str]:
    """The command that runs a program on this server, for ``seconds`` where the program has a length."""
    changed, count = re.subn(r"http://(?:localhost|127\.0\.0\.1):8080", url, text)
    assert count, "the program names the server"
    (folder / "program.py").write_text(re.sub(r"seconds=\d+", f"seconds={seconds}", changed), encoding="utf-8")
    return [sys.executable, "-u", "program.py"]


def example(name: str) -> str:
    return (ROOT / "examples" / name).read_text(encoding="utf-8")


def first_lines(command: list[str], folder: Path, count: int) -> list[str]:
    """Some lines of an endless program."""
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        lines = [process.stdout.readline() for _ in range(count)]
        process.kill()
        assert all(lines), process.stderr.read()
    return lines


@pytest.mark.timeout(LIMIT_S)
def test_record_writes_a_file(served: Process, tmp_path: Path) -> None:
    subprocess.run(program(example("record.py"), served.url, tmp_path), cwd=tmp_path, check=True)
    info = soundfile.info(tmp_path / "station.flac")
    assert (info.samplerate, info.channels) == (48_000, 2)
    assert info.duration == pytest.approx(2, abs=0.5)


@pytest.mark.timeout(LIMIT_S)
def test_pipe_to_ffmpeg_writes_a_file(served: Process, tmp_path: Path) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed")
    command = program(example("pipe_to_ffmpeg.py"), served.url, tmp_path)
    subprocess.run([*command, "station.m4a"], cwd=tmp_path, check=True)
    with av.open(tmp_path / "station.m4a") as container:
        assert container.duration is not None
        assert container.duration / 1e6 == pytest.approx(2, abs=0.5)


@pytest.mark.timeout(LIMIT_S)
def test_react_to_beats_prints_each_beat(served: Process, tmp_path: Path) -> None:
    lines = first_lines(program(example("react_to_beats.py"), served.url, tmp_path), tmp_path, 5)
    beats = [int(re.search(r"beat (\d+)", line)[1]) for line in lines]  # type: ignore[index]
    assert beats == list(range(beats[0], beats[0] + 5))
    assert [line.startswith("ONE") for line in lines] == [beat % 4 == 0 for beat in beats]


@pytest.mark.timeout(LIMIT_S)
def test_the_steering_bot_steers(served: Process, tmp_path: Path) -> None:
    (line,) = first_lines(program(example("steering_bot.py"), served.url, tmp_path), tmp_path, 1)
    assert re.fullmatch(r"revision \d+ is audible from sample \d+\n", line)


@pytest.mark.timeout(LIMIT_S)
def test_the_program_in_the_readme_steers_and_listens(served: Process, tmp_path: Path) -> None:
    (text,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    (line,) = first_lines(program(text, served.url, tmp_path), tmp_path, 1)
    position, loudest = line.split()
    assert int(position) > 0
    assert 0 <= float(loudest) <= 1


def test_every_example_is_run() -> None:
    tested = set(re.findall(r'example\("(\w+\.py)"\)', Path(__file__).read_text(encoding="utf-8")))
    assert tested == {path.name for path in (ROOT / "examples").glob("*.py")}
