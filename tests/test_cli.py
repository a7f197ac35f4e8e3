"""The frame of the command line: exit codes, one-line errors, help with examples for every command that exists."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from riffstream import __version__, cli
from riffstream.errors import ParameterError

EXISTING = [name for name, (module, _) in cli.COMMANDS.items() if importlib.util.find_spec(module) is not None]


def shell(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    try:
        code = cli.main(arguments)
    except SystemExit as error:
        code = int(error.code or 0)
    out = capsys.readouterr()
    return code, out.out, out.err


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A command called ``pretend`` whose ``run`` a test sets."""
    module = ModuleType("riffstream.commands.pretend")
    module.add_arguments = lambda parser: parser.add_argument("--number", type=int)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(cli.COMMANDS, "pretend", (module.__name__, "for a test"))
    return module


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = shell(capsys, "--help")
    assert (code, err) == (0, "")
    for name, (_, text) in cli.COMMANDS.items():
        assert name in out
        assert text in out


@pytest.mark.parametrize("name", EXISTING)
def test_every_command_explains_itself_with_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = importlib.import_module(cli.COMMANDS[name][0])
    code, out, err = shell(capsys, name, "--help")
    assert (code, err) == (0, "")
    assert "examples:" in out
    assert f"riffstream {name}" in module.EXAMPLES
    assert (module.__doc__ or "").split("\n")[0][:40] in out


@pytest.mark.parametrize("name", EXISTING)
def test_every_option_of_every_command_is_explained(name: str) -> None:
    parser = argparse.ArgumentParser()
    importlib.import_module(cli.COMMANDS[name][0]).add_arguments(parser)
    pending = [parser]
    assert len(parser._actions) > 1, "more than --help"
    while pending:
        for action in pending.pop()._actions:
            assert action.help, f"{action.option_strings or action.dest} has no help"
            if isinstance(action, argparse._SubParsersAction):
                pending += action.choices.values()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND"),
        (["sing"], "invalid choice: 'sing'"),
        (["audio-to-image"], "--audio"),
        (["audio-to-image", "--audio", "a", "--image", "b.png", "--loud"], "--loud"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = shell(capsys, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert "--help" in err


@pytest.mark.parametrize(("arguments", "word"), [([], "COMMAND"), (["bench"], "NAME"), (["train"], "STAGE")])
def test_only_what_is_missing_is_asked_for(arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = shell(capsys, *arguments)
    assert code == 2
    assert f"the following arguments are required: {word} (see" in err


def test_a_path_that_cannot_be_is_one_line_and_exit_code_2(
    pretend: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pretend.run = lambda args: (tmp_path / "missing" / "x").write_text("")  # type: ignore[attr-defined]
    expected = f"riffstream pretend: {tmp_path / 'missing' / 'x'}: No such file or directory\n"
    assert shell(capsys, "pretend") == (2, "", expected)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert shell(capsys, "--version") == (0, f"riffstream {__version__}\n", "")


def test_exit_codes_pass_through(pretend: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    pretend.run = lambda args: args.number  # type: ignore[attr-defined]
    assert shell(capsys, "pretend", "--number", "1") == (1, "", "")


def test_an_error_of_ours_is_one_line_and_exit_code_2(pretend: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    def run(args: argparse.Namespace) -> int:
        raise ParameterError("--number", args.number, "1 to 3")

    pretend.run = run  # type: ignore[attr-defined]
    expected = "riffstream pretend: --number is 9; allowed: 1 to 3\n"
    assert shell(capsys, "pretend", "--number", "9") == (2, "", expected)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("token", "--for", "8h", "dj"), "signing_keys"),  # its own complaint: the role was read
        (("seeds", "show", "--quiet", "no such seed"), "'no such seed'"),
        (("config", "--json", "no-such-preset"), "no-such-preset"),
    ],
)
def test_an_optional_word_may_stand_behind_options(
    words: tuple[str, ...], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = shell(capsys, *words)
    assert code == 2
    assert problem in err
    assert "unrecognized" not in err


def test_an_interrupt_is_130_and_a_bug_keeps_its_traceback(
    pretend: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(args: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    def buggy(args: argparse.Namespace) -> int:
        raise ZeroDivisionError

    pretend.run = interrupted  # type: ignore[attr-defined]
    assert shell(capsys, "pretend") == (130, "", "")
    pretend.run = buggy  # type: ignore[attr-defined]
    with pytest.raises(ZeroDivisionError):
        cli.main(["pretend"])


def test_the_module_runs_and_help_loads_neither_torch_nor_numpy() -> None:
    code = "import sys; from riffstream.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += "print(sorted({'torch', 'numpy', 'scipy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")
    done = subprocess.run([sys.executable, "-m", "riffstream", "sing"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_a_reader_that_leaves_early_is_no_error() -> None:
    command = f'{sys.executable} -c "from riffstream import cli; import sys, types\n'
    command += "m = types.ModuleType('flood'); m.add_arguments = lambda p: None\n"
    command += "m.run = lambda a: [print('x' * 1000) for _ in range(10000)] and 0\n"
    command += (
        "sys.modules['flood'] = m; cli.COMMANDS['flood'] = ('flood', ''); sys.exit(cli.main(['flood']))\" | head -1"
    )
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_audio_room_never_imports_torch() -> None:
    code = "import sys, pkgutil, importlib, riffstream.audio as room\n"
    code += "for m in pkgutil.iter_modules(room.__path__): importlib.import_module('riffstream.audio.' + m.name)\n"
    code += "print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
