"""A server without what Windows lacks: modules and calls of POSIX are taken out of every process before it starts.

This is no Windows: paths, consoles and pipes stay those of this system.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import soundfile

# What the standard library itself needs here is imported first, and keeps its own references.
WITHOUT = """
import asyncio, concurrent.futures.process, ctypes, importlib.resources, logging.handlers, multiprocessing.context
import errno, os, select, shutil, signal, socket, subprocess, sys, tempfile, zipfile
for name in ("fcntl", "resource", "uvloop", "pwd", "grp", "termios", "tty", "pty"):
    sys.modules[name] = None
for owner, names in (
    (os, "geteuid getuid getgid getegid killpg getpgid setsid fork nice sysconf sched_getaffinity O_NOFOLLOW "
         "O_DIRECTORY O_NONBLOCK"),
    (signal, "SIGHUP SIGUSR1 SIGUSR2 SIGPIPE SIGALRM pthread_sigmask sigwait setitimer"),
    (select, "poll epoll"),
    (socket, "SO_REUSEPORT"),
    (errno, "EDQUOT"),
):
    for name in names.split():
        if hasattr(owner, name):
            delattr(owner, name)
def refuse(*_, **__):
    raise NotImplementedError
asyncio.SelectorEventLoop.add_signal_handler = asyncio.SelectorEventLoop.remove_signal_handler = refuse
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Of a process without POSIX; its children are like it."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(WITHOUT)
    (tmp_path / "tmp" / "riffstream-seeds-of-a-killed-server").mkdir(parents=True)
    path = os.pathsep.join([str(tmp_path / "site"), str(Path(__file__).parent.parent)])
    return {**os.environ, "PYTHONPATH": path, "TMPDIR": str(tmp_path / "tmp")}


@pytest.mark.skipif(sys.platform == "win32", reason="takes things away that Windows does not have")
def test_a_server_starts_plays_decodes_uploads_and_stops(environment: dict[str, str], tmp_path: Path) -> None:
    song = io.BytesIO()
    soundfile.write(song, np.random.default_rng(0).uniform(-0.3, 0.3, (48_000 * 8, 2)), 48_000, format="WAV")
    command = [sys.executable, "-m", "riffstream", "serve", "--model", "tone", "--port", "0", "--json"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        timer = threading.Timer(90, process.kill)
        timer.start()
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, process.stderr.read().decode() if process.stderr else ""
            url = json.loads(line)["url"].rstrip("/")
            with urllib.request.urlopen(f"{url}/stream/main.mp3", timeout=30) as stream:
                assert len(stream.read(20_000)) == 20_000
            request = urllib.request.Request(f"{url}/api/seeds", song.getvalue(), {"Content-Type": "audio/wav"})
            with urllib.request.urlopen(request, timeout=60) as answer:
                assert answer.status == 201
            for page in ("/", "/healthz", "/metrics", "/api/stations"):
                with urllib.request.urlopen(f"{url}{page}", timeout=30) as answer:
                    assert answer.status == 200, page
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=30)
        finally:
            timer.cancel()
            process.kill()
    assert process.returncode in (0, 130), err.decode()
    assert b"Traceback" not in err, err.decode()
    assert (tmp_path / "tmp" / "riffstream-seeds-of-a-killed-server").is_dir(), "nothing shows that its server is dead"


@pytest.mark.skipif(sys.platform == "win32", reason="takes things away that Windows does not have")
def test_the_command_line_and_the_client_start(environment: dict[str, str], tmp_path: Path) -> None:
    code = """if True:
        import os, sys
        assert not hasattr(os, "geteuid")
        from riffstream.cli import main
        assert main(["config", "--quiet"]) == 0
        assert main(["render", "--model", "tone", "--prompt", "x", "--seconds", "0.2", "-o", "x.wav", "--quiet"]) == 0
        assert main(["listen", "http://127.0.0.1:9", "-o", "y.wav"]) == 2
        from riffstream.server.uploads.locked_folder import LockedFolder
        LockedFolder.temporary("riffstream-seeds-"), LockedFolder.temporary("riffstream-seeds-")
        LockedFolder.lasting(__import__("pathlib").Path("kept")).close()
    """
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == 1
    assert soundfile.info(tmp_path / "x.wav").frames == 9600
