"""Containers as strict as operators make them: nothing to write to, no home, no standard input, process 1."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from riffstream.commands import serve
from riffstream.config import Config
from riffstream.errors import ParameterError
from riffstream.server.uploads.intake import Uploads
from tests.conftest import ROOT
from tests.server.conftest import running

# Every folder that a temporary file could be put into, read-only; the kernel's own ones are not for files.
READ_ONLY = """
for folder in /tmp /var/tmp /usr/tmp /dev/shm; do
    [ ! -d "$folder" ] || { mount --bind "$folder" "$folder" && mount -o remount,bind,ro "$folder"; } || exit 77
done
exec "$@" 0<&-
"""


@pytest.fixture
def strict(need_tool: Callable[[str], str]) -> Iterator[subprocess.Popen[str]]:
    """A server that may write nowhere, has no home, no standard input and a terminal without abilities."""
    unshare = [need_tool("unshare"), "--mount", "--pid", "--fork", "--kill-child"]
    if os.geteuid() != 0:
        unshare.append("--map-root-user")
    if subprocess.run([*unshare, "sh", "-c", READ_ONLY, "sh", "true"], capture_output=True).returncode != 0:
        pytest.skip("this machine allows no mount namespaces")
    command = [sys.executable, "-m", "riffstream", "serve", "--port", "0", "--model", "tone", "--json"]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TERM": "dumb", "TMPDIR": "/nonexistent"}
    process = subprocess.Popen(
        [*unshare, "sh", "-c", READ_ONLY, "sh", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd="/proc",
    )
    yield process
    process.kill()  # and with it, the whole of its namespace
    process.communicate()


def test_a_server_that_may_write_nowhere_plays_without_uploads(strict: subprocess.Popen[str]) -> None:
    assert strict.stdout is not None
    line = strict.stdout.readline()
    assert line, strict.communicate()[1]
    url = json.loads(line)["url"]
    with urllib.request.urlopen(f"{url}/stream/main.mp3", timeout=30) as stream:
        assert len(stream.read(20_000)) == 20_000
    with urllib.request.urlopen(f"{url}/api/seeds", timeout=10) as answer:
        assert json.load(answer)["uploads"] is False
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{url}/api/seeds", b"sound", timeout=10)
    assert "server.state_dir" in json.load(refused.value)["message"]


async def test_without_a_temporary_folder_the_seed_library_still_serves(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def nowhere(*_: Any, **__: Any) -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.gettempdir", nowhere)
    async with running() as served:
        uploads = served.server.uploads
        assert (uploads.open, uploads.folder) == (False, None)
    assert [record.levelname for record in caplog.records if "TMPDIR" in record.getMessage()] == ["WARNING"]


def test_a_configured_folder_that_cannot_be_written_to_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ParameterError, match="a folder that can be written to"):
        Uploads(Config.from_dict({"server": {"state_dir": str(tmp_path / "file" / "state")}}))

    def homeless(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", homeless)
    with pytest.raises(ParameterError, match="home directory"):
        Uploads(Config.from_dict({"server": {"state_dir": "~/radio"}}))


def test_process_1_ends_when_asked_while_it_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        serve.end_when_asked_early()
        assert signal.getsignal(signal.SIGTERM) is before  # the system's own way does for others
        monkeypatch.setattr(os, "getpid", lambda: 1)
        serve.end_when_asked_early()
        handler = signal.getsignal(signal.SIGTERM)
        assert callable(handler)
        with pytest.raises(SystemExit) as ended:
            handler(signal.SIGTERM, None)
        assert ended.value.code == 143
    finally:
        signal.signal(signal.SIGTERM, before)
