"""Every command line that the docs and ``--help`` show can be given as it stands."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from collections.abc import Iterator

import pytest

from riffstream.cli import COMMANDS
from riffstream.commands.bench import BENCHMARKS
from riffstream.commands.train import STAGES
from tests.conftest import ROOT

MODULES = {name: module for name, (module, _) in COMMANDS.items()}
INNER = {
    "train": {name: module for name, (module, _) in STAGES.items()},
    "bench": {name: f"riffstream.bench.{name}" for name in BENCHMARKS},
}


def shown() -> Iterator[tuple[str, str]]:
    """Where, and the line."""
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for block in re.findall(r"^```\w*\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M):
            for line in block.replace("\\\n", " ").splitlines():
                yield page.name, line.strip()
    for table in (MODULES, *INNER.values()):
        for name, module in table.items():
            for line in getattr(importlib.import_module(module), "EXAMPLES", "").replace("\\\n", " ").splitlines():
                yield f"{name} --help", line.strip()


LINES = sorted({(where, line) for where, line in shown() if re.match(r"riffstream [a-z]", line)})


def words(line: str) -> list[str]:
    """The arguments, up to where the shell goes on with something else."""
    found = shlex.split(re.split(r"\s{2,}(?!-|\s)", line)[0], comments=True)[1:]  # what follows a gap explains
    ends = [k for k, word in enumerate(found) if word in ("|", ">", "&", "&&", ";", "||")]
    return found[: ends[0]] if ends else found


def test_examples_were_found() -> None:
    assert len(LINES) > 60


@pytest.mark.parametrize(("where", "line"), LINES, ids=[f"{where}: {line}" for where, line in LINES])
def test_a_shown_command_line_is_understood(where: str, line: str) -> None:
    name, *rest = words(line)
    module = MODULES[name]
    if name in INNER:
        module, rest = INNER[name][rest[0]], rest[1:]
    parser = argparse.ArgumentParser(exit_on_error=False)
    importlib.import_module(module).add_arguments(parser)
    parser.parse_args([word for word in rest if word not in ("--help", "-h")])
