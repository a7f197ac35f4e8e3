"""This machine's benchmarks in one run, written as one page with machine, versions and commit (docs/figures.md)."""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from riffstream.bench.common import environment, environment_lines
from riffstream.errors import ParameterError
from riffstream.threads import usable_cores

__all__ = ["EXAMPLES", "PARTS", "Part", "Result", "add_arguments", "page", "run"]

EXAMPLES = """Each benchmark runs in a process of its own. One that fails or takes too long does not cost the others,
and the page says so.

examples:
  riffstream bench all --out docs/figures.md
  riffstream bench all --only model --only icecast
  riffstream bench all --quick              (a test of the benchmarks: seconds each, no useful figures)"""
COLUMNS: Final = 120
LONGEST_S: Final = 1800.0  # for one benchmark
END_S: Final = 60.0  # for its end after SIGTERM: a server that it started has 15 s


@dataclass(frozen=True, slots=True)
class Part:
    """One benchmark of the run.

    Attributes:
        name: for ``--only``.
        arguments: of ``riffstream bench``.
        quick: the same for ``--quick``.
    """

    name: str
    arguments: tuple[str, ...]
    quick: tuple[str, ...]


def _stream(name: str, *arguments: str) -> Part:
    least: tuple[str, ...] = ("--model", "tone", "--listeners", "20", "--seconds", "2", "--steers", "1", "--soak", "10")
    if name in ("fanout", "outlets", "icecast", "relay"):
        least = ("--listeners", "20", "--seconds", "2")
    return Part(name, ("stream", "--only", name, *arguments), ("stream", "--only", name, *least))


PARTS: Final = (
    Part("model", ("model",), ("model", "--runs", "1", "--stations", "1")),
    Part(
        "batch",
        ("batch", "--sets", "8", "--seconds", "40"),
        ("batch", "--model", "mini", "--sets", "1", "--seconds", "5"),
    ),
    _stream("start"),
    _stream("steer"),
    _stream("fields", "--steers", "10"),
    _stream("trace", "--steers", "10"),
    _stream("soak", "--soak", "480"),
    _stream("fanout"),
    _stream("outlets", "--seconds", "15"),
    _stream("icecast", "--seconds", "15"),
    _stream("relay", "--listeners", "1000", "--seconds", "10"),
    _stream("load"),
    Part("joins", ("joins",), ("joins", "--listeners", "50")),
    Part("bus", ("bus",), ("bus", "--relays", "2", "--seconds", "2")),
    Part("cluster", ("cluster",), ("cluster", "--clips", "5")),
    Part("crowd", ("crowd",), ("crowd", "--listeners", "20", "--seconds", "1", "--relays", "1")),
    Part("dsp", ("dsp",), ("dsp", "--quick", "--runs", "1")),
    Part("seams", ("seams",), ("seams", "--clips", "24", "--prompt", "solo piano")),
    Part("threads", ("threads",), ("threads", "--jobs", "image", "--busy", "0", "--seconds", "0.1")),
)


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one benchmark.

    Attributes:
        part: the benchmark.
        seconds: time that it took.
        load: load average of the machine when it began; None if unknown.
        text: its page in Markdown; "" if it failed.
        failure: reason; "" if it succeeded.
    """

    part: Part
    seconds: float
    load: float | None
    text: str
    failure: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``riffstream bench all``."""
    names = [part.name for part in PARTS]
    parser.add_argument("--only", action="append", choices=names, help="one benchmark (may be repeated; default: all)")
    parser.add_argument("--quick", action="store_true", help="the smallest sizes: a test of the benchmarks")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the page here, also after each benchmark")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")


def run(args: argparse.Namespace) -> int:
    """Measure, and write the page; 1 if a benchmark failed."""
    if args.out is not None and not args.out.resolve().parent.is_dir():
        raise ParameterError("--out", str(args.out), "a file in a folder that exists")
    facts = environment(("torch", "numpy", "aiohttp", "uvloop", "av"))
    chosen = [part for part in PARTS if not args.only or part.name in args.only]
    results: list[Result] = []
    for number, part in enumerate(chosen, 1):
        if not args.quiet:
            print(f"all: {part.name} ({number} of {len(chosen)}) ...", file=sys.stderr, flush=True)
        results.append(_measure(part, part.quick if args.quick else part.arguments))
        if args.out is not None:
            _replace(args.out, page(results, facts, quick=args.quick))
        if results[-1].failure and not args.quiet:
            print(f"all: {part.name}: {results[-1].failure}", file=sys.stderr, flush=True)
    if args.out is None:
        print(page(results, facts, quick=args.quick), end="")
    return 1 if any(result.failure for result in results) else 0


def _measure(part: Part, arguments: Sequence[str]) -> Result:
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    began = time.monotonic()
    text, failure = _output([sys.executable, "-m", "riffstream", "bench", *arguments])
    return Result(part, time.monotonic() - began, load, text, failure)


def _output(command: Sequence[str]) -> tuple[str, str]:
    """Output of a program, and the reason of its failure or "".

    A program that takes too long, or is running when this process is interrupted, ends with all that it started.
    """
    # In a session of its own, so that only SIGTERM ends it: subprocess.run kills, which leaves its servers behind.
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        text, said = process.communicate(timeout=LONGEST_S)
    except subprocess.TimeoutExpired:
        _end(process)
        return "", f"it took more than {LONGEST_S:g} s"
    except BaseException:
        _end(process)
        raise
    if process.returncode:
        last = said.strip().splitlines()[-1:] or [f"exit code {process.returncode}"]
        return text, last[0][:300]
    return text, ""


def _end(process: subprocess.Popen[str]) -> None:
    """Tell a program to end, and kill it and all that it started if something remains."""
    process.terminate()
    try:
        process.communicate(timeout=END_S)
    except subprocess.TimeoutExpired:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.communicate()


def _replace(path: Path, text: str) -> None:
    new = path.with_name(f"{path.name}.new")
    new.write_text(text)
    new.replace(path)


def page(results: Sequence[Result], facts: dict[str, object], *, quick: bool = False) -> str:
    """The page in Markdown, from the benchmarks' own pages."""
    arguments = " --quick" if quick else ""
    lines = [
        "# Figures",
        "",
        f"`riffstream bench all{arguments} --out docs/figures.md` writes this page, so it is not edited by hand.",
        "It has one machine and one commit. [performance.md](performance.md) explains the figures and has those of",
        "other machines.",
        "",
        environment_lines({key: value for key, value in facts.items() if key != "load"}),
    ]
    if quick:
        lines += ["", "**A test of the benchmarks with the smallest sizes. The figures mean nothing.**"]
    if out := [part.name for part in PARTS if part.name not in {result.part.name for result in results}]:
        lines += ["", f"**Not measured in this run:** {', '.join(out)}."]
    for result in results:
        title, body = _section(result)
        command = " ".join(result.part.quick if quick else result.part.arguments)
        lines += [
            "",
            f"## {title}",
            "",
            f"`riffstream bench {command}`, {result.seconds:.0f} s.{_load(result.load)}",
            "",
        ]
        lines += [body] if body else []
        if result.failure:
            lines += [f"**Failed:** {result.failure}"]
    return "\n".join(_wrapped(line) for line in "\n".join(lines).rstrip("\n").splitlines()) + "\n"


def _wrapped(line: str) -> str:
    """A line of prose in lines of ``COLUMNS``; tables stay as they are."""
    if line.startswith("|"):
        return line
    return "\n".join(textwrap.wrap(line, COLUMNS, break_long_words=False, break_on_hyphens=False)) if line else ""


def _load(load: float | None) -> str:
    if load is None:
        return ""
    cores = usable_cores()
    if load <= 0.5 * cores:
        return f" Load at its start {load:.1f}."
    return f" Load at its start {load:.1f} on {cores} cores: other programs ran, so times are upper limits."


def _section(result: Result) -> tuple[str, str]:
    """Title and body of a benchmark's page, with headings one level down and without its environment."""
    name = result.part.name.capitalize()
    lines = result.text.strip().splitlines()
    if not lines or not lines[0].startswith("# "):
        return name, result.text.strip()
    body = lines[1:]
    if len(body) > 1 and re.match(r"\d{4}-\d\d-\d\d, ", body[1]):  # environment_lines
        body = body[2:]
    demoted = [f"#{line}" if line.startswith("#") else line for line in body]
    return f"{name}: {lines[0].removeprefix('# ')}", "\n".join(demoted).strip()
