"""``riffstream bench all``: one page of all benchmarks, each in a process of its own."""

from __future__ import annotations

import argparse
import importlib
import re
import sys
import time
from pathlib import Path

import pytest

from riffstream.bench import all as bench_all
from riffstream.bench.all import PARTS, Part, Result, page
from riffstream.bench.common import environment, report
from riffstream.cli import main
from riffstream.commands.bench import BENCHMARKS
from tests.bench.test_bench_ending import alive

FACTS = {**environment(("torch",)), "commit": "abc123"}


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_the_arguments_of_every_part_are_allowed(part: Part) -> None:
    for arguments in (part.arguments, part.quick):
        assert arguments[0] in BENCHMARKS
        parser = argparse.ArgumentParser()
        importlib.import_module(f"riffstream.bench.{arguments[0]}").add_arguments(parser)
        parser.parse_args(arguments[1:])


def test_all_benchmarks_are_in_it() -> None:
    named = {part.arguments[0] for part in PARTS}
    assert named == set(BENCHMARKS) - {"all", "gpu", "scale"}  # another machine's, and sums without a measurement
    streamed = {part.name for part in PARTS if part.arguments[0] == "stream"}
    assert streamed == set(importlib.import_module("riffstream.bench.stream").PARTS)


def test_the_page_has_the_machine_once_and_the_tables_of_each_benchmark() -> None:
    text = report("Joins", [("With a burst", "| a | b |\n| - | - |\n| 1 | 2 |")], FACTS)
    made = page([Result(PARTS[0], 12.4, 0.1, text), Result(PARTS[1], 3.0, 99.0, "", "it broke")], FACTS)
    assert made.count("abc123") == 1
    assert "## Model: Joins\n" in made
    assert "### With a burst\n\n| a | b |" in made
    assert "`riffstream bench model`, 12 s. Load at its start 0.1.\n" in made
    assert "**Failed:** it broke" in made
    assert "Load at its start 99.0" in made
    assert "upper limits" in made
    assert "mean nothing" not in made
    assert f"**Not measured in this run:** {', '.join(part.name for part in PARTS[2:])}." in " ".join(made.split())
    assert "mean nothing" in page([], FACTS, quick=True)
    prose = page([Result(PARTS[0], 1.0, None, "# Model\n\n" + "word " * 60)], FACTS)
    assert max(len(line) for line in prose.splitlines()) <= 130


def test_the_page_in_the_documentation_is_one_of_the_command() -> None:
    made = (Path(__file__).parents[2] / "docs" / "figures.md").read_text()
    assert made.startswith(page([], FACTS).partition("\n\n")[0])
    assert "Failed" not in made
    assert re.search(r"\(\w{7}\), python", made), "a commit without changes"
    for name in ("Model", "Batch", "Fanout", "Icecast", "Relay", "Joins", "Bus"):
        assert f"## {name}: " in made
    measured = [name.lower() for name in re.findall(r"^## (\w+): ", made, re.MULTILINE)]
    missing = re.search(r"\*\*Not measured in this run:\*\* ([^.]*)\.", " ".join(made.split()))
    named = measured + (missing[1].split(", ") if missing is not None else [])
    assert sorted(named) == sorted(part.name for part in PARTS), "measured, or named as missing"


def test_a_benchmark_that_fails_costs_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = Part("broken", ("scale", "--cores", "0"), ("scale", "--cores", "0"))
    works = Part("works", ("scale", "--listeners", "7", "--stations", "3"), ("scale", "--listeners", "7"))
    monkeypatch.setattr(bench_all, "PARTS", (broken, works))
    assert main(["bench", "all", "--out", str(tmp_path / "figures.md"), "--quiet"]) == 1
    made = (tmp_path / "figures.md").read_text()
    assert "**Failed:** riffstream bench: --cores is 0" in made
    assert "## Works: Capacity" in made
    assert not (tmp_path / "figures.md.new").exists()
    monkeypatch.setattr(bench_all, "LONGEST_S", 0.01)
    assert main(["bench", "all", "--quiet"]) == 1
    assert "it took more than 0.01 s" in capsys.readouterr().out


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="reads /proc")
@pytest.mark.parametrize("obeys", [True, False])
def test_what_takes_too_long_ends_with_all_that_it_started(
    obeys: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server of the benchmark would disturb the next one. It also holds the benchmark's output."""
    program = f"""
import pathlib, signal, subprocess, sys, time
server = subprocess.Popen(["sleep", "60"])
def leave(*_):
    server.terminate()
    sys.exit(0)
signal.signal(signal.SIGTERM, leave if {obeys} else signal.SIG_IGN)
pathlib.Path({str(tmp_path / "pid")!r}).write_text(str(server.pid))
time.sleep(60)
"""
    monkeypatch.setattr(bench_all, "LONGEST_S", 10.0)
    monkeypatch.setattr(bench_all, "END_S", 10.0 if obeys else 0.5)
    began = time.monotonic()
    assert bench_all._output([sys.executable, "-c", program]) == ("", "it took more than 10 s")
    assert time.monotonic() - began < 50
    server, give_up = int((tmp_path / "pid").read_text()), time.monotonic() + 10
    while alive(server) and time.monotonic() < give_up:  # a signal takes a moment
        time.sleep(0.05)
    assert not alive(server)


def test_a_page_that_cannot_be_written_is_refused_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "all", "--out", str(tmp_path / "no" / "figures.md")]) == 2
    assert "--out" in capsys.readouterr().err


@pytest.mark.slow
def test_real_benchmarks_make_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "all", "--quick", "--only", "joins", "--only", "batch", "--quiet"]) == 0
    made = capsys.readouterr().out
    assert "## Batch: Batches" in made
    assert "## Joins: Joins" in made
    assert "Failed" not in made


@pytest.mark.parametrize("option", ["--sets=0", "--seconds=0", "--processes=0", "--processes=1,x"])
def test_impossible_batches_are_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "batch", option]) == 2
    assert option.split("=")[0] in capsys.readouterr().err
