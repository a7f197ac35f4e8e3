"""The confinement of decoders, in real processes: what the kernel refuses and what still works."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from riffstream.server.sandbox import FILES, NETWORK
from tests.conftest import ROOT

TRY = """
import json, os, sys
tries = {}
def attempt(name, action):
    try:
        action()
        tries[name] = "done"
    except OSError as error:
        tries[name] = type(error).__name__
def attack(own, parent, outside):
    import resource, signal, socket, subprocess, threading
    attempt("tcp", lambda: socket.create_connection(("127.0.0.1", 9), 1))
    attempt("udp", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    attempt("pair", socket.socketpair)
    attempt("read", lambda: open(outside).read())
    attempt("list", lambda: os.listdir(os.path.dirname(outside)))
    attempt("write", lambda: open(outside, "a"))
    attempt("overwrite the code", lambda: open(json.__file__, "a"))
    attempt("link", lambda: os.symlink("/", own + "/link") or open(own + "/link" + outside).read())
    attempt("program", lambda: subprocess.run(["true"]))
    attempt("signal", lambda: os.kill(parent, 0))
    attempt("limits of others", lambda: resource.prlimit(parent, resource.RLIMIT_NOFILE))
    attempt("environment of others", lambda: open(f"/proc/{parent}/environ").read())
    attempt("own file", lambda: open(own + "/made", "w").write("x"))
    attempt("own limits", lambda: resource.getrlimit(resource.RLIMIT_NOFILE))
    attempt("thread", lambda: threading.Thread(target=int).start())
    attempt("code", lambda: __import__("av") and __import__("wave"))
    return tries
"""
ALLOWED = {"own file", "own limits", "thread", "code"}


@pytest.fixture(scope="module")
def enforced() -> set[str]:
    """What this system enforces."""
    command = [sys.executable, "-m", "riffstream.server.sandbox"]
    found = set(
        subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, timeout=60).stdout.split()
    )
    if found != {FILES, NETWORK}:
        pytest.skip("this system has no Landlock or no seccomp")
    return found


def python(program: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", TRY + program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=60)


def test_a_confined_process_has_only_what_it_was_given(enforced: set[str], tmp_path: Path) -> None:
    own, outside = tmp_path / "own", tmp_path / "outside" / "secret"
    for folder in (own, outside.parent):
        folder.mkdir()
    outside.write_text("a secret")
    program = """
from pathlib import Path
from riffstream.server.sandbox import code_folders, confine
confine(code_folders(), [Path(sys.argv[1])])
print(json.dumps(attack(sys.argv[1], os.getppid(), sys.argv[2])))
"""
    ran = python(program, str(own), str(outside), cwd=ROOT)
    assert ran.returncode == 0, ran.stderr
    tries: dict[str, Any] = json.loads(ran.stdout)
    assert {name for name, result in tries.items() if result == "done"} == ALLOWED
    assert set(tries.values()) == {"done", "PermissionError"}


def test_the_decoder_of_uploads_is_confined(enforced: set[str], tmp_path: Path) -> None:
    made, source, outside = tmp_path / "made", tmp_path / "file", tmp_path / "secret"
    made.mkdir()
    source.write_bytes(b"anything")
    outside.write_text("a secret")
    program = """
import riffstream.server.uploads.worker as worker
def prepare(source, folder, rules):
    source.read_bytes()
    return worker.Result(message=json.dumps(attack(str(folder), os.getppid(), sys.argv[4])))
worker.prepare = prepare
worker.main()
"""
    ran = python(program, str(source), str(made), "{}", str(outside), cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    tries = json.loads(json.loads((made / "result.json").read_text())["message"])
    assert {name for name, result in tries.items() if result == "done"} == ALLOWED


def test_an_abort_of_a_library_still_ends_the_process(enforced: set[str], tmp_path: Path) -> None:
    program = """
from riffstream.server.sandbox import code_folders, confine
confine(code_folders())
os.abort()
"""
    assert python(program, cwd=tmp_path).returncode == -6


@pytest.mark.parametrize("program", ["uploads.worker", "live_input.opus_worker"])
def test_libraries_are_loaded_before_the_confinement(program: str, tmp_path: Path) -> None:
    """They may lie in folders that no confined process can read, as with other package managers."""
    source = tmp_path / "file"
    source.write_bytes(b"anything")
    told = tmp_path / "told"
    code = f"""
import sys
import riffstream.server.sandbox as sandbox
def confine(*paths):
    open({str(told)!r}, "w").write(" ".join(sys.modules))
    return ()
sandbox.confine = confine
import riffstream.server.{program} as worker
worker.main()
"""
    words = [str(source), str(tmp_path), "{}"] if "uploads" in program else ["2"]
    ran = subprocess.run([sys.executable, "-c", code, *words], input=b"", capture_output=True, cwd=ROOT, timeout=60)
    assert ran.returncode == 0, ran.stderr
    wanted = {"av", "soundfile", "PIL.WebPImagePlugin", "riffstream.audio.tempo"} if "uploads" in program else {"av"}
    assert wanted <= set(told.read_text().split())
