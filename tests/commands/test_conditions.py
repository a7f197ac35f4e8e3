"""Parts and levels are the same options in each command that has them."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands.conftest import RunResult

Run = Callable[..., RunResult]

COMMANDS = {
    "render": ("--model", "tone", "--prompt", "a", "-o", "x.wav"),
    "seeds": ("search", "deep house"),
}


def options(command: str) -> dict[str, argparse.Action]:
    parser = argparse.ArgumentParser()
    importlib.import_module(f"riffstream.commands.{command}").add_arguments(parser)
    return {each.dest: each for each in parser._actions}


@pytest.mark.parametrize("name", ["parts", "energy", "density", "brightness"])
def test_both_commands_have_one_text(name: str) -> None:
    render, seeds = (options(command)[name] for command in ("render", "seeds"))
    assert render.help is not None
    assert seeds.help is not None
    assert "0 to 1" in render.help
    assert seeds.help.rpartition("search: ")[2] == render.help
    assert (seeds.nargs, seeds.metavar, seeds.default) == (render.nargs, render.metavar, render.default)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--energy", "1.5"), "energy is 1.5; allowed: 0 to 1"),
        (("--density", "-1"), "density is -1.0; allowed: 0 to 1"),
        (("--brightness", "nan"), "brightness is nan; allowed: 0 to 1"),
        (("--energy", "loud"), "energy is 'loud'; allowed: 0 to 1"),
        (("--parts", "drums=2"), "parts.drums is 2.0; allowed: 0 to 1"),
        (("--parts", "bass=soft"), "parts is 'bass=soft'; allowed: PART=LEVEL with a level of 0 to 1"),
        (("--parts", "drumz=0"), "did you mean 'drums'"),
        (("--parts", "drums=0", "--parts", "bass=7"), "parts.bass is 7.0"),
        (("--parts", "bass=7", "--parts", "drums=0"), "parts.bass is 7.0"),
    ],
)
def test_both_commands_refuse_the_same_with_field_and_range(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, given: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(command, *COMMANDS[command], *given)
    assert (code, out) == (2, "")
    assert said in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("list", "techno", "--energy", "0.2"), "--energy is 0.2; allowed: with search only, not with list"),
        (("show", "og_beat", "--parts", "drums=0"), "allowed: with list or search only, not with show"),
    ],
)
def test_seeds_take_no_condition_without_effect(run: Run, words: tuple[str, ...], said: str) -> None:
    code, out, err = run("seeds", *words)
    assert (code, out) == (2, "")
    assert said in err
