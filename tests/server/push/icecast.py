"""A real Icecast server on loopback, for as long as a ``with`` block."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PATIENCE_S

PASSWORD = "p@ss word/1"
ESCAPED = "p%40ss%20word%2F1"
_SETTINGS = """<icecast>
  <limits><clients>20</clients><sources>4</sources><source-timeout>10</source-timeout>
    <burst-size>65535</burst-size><header-timeout>5</header-timeout></limits>
  <authentication><source-password>{password}</source-password><admin-user>admin</admin-user>
    <admin-password>admin</admin-password></authentication>
  <hostname>localhost</hostname>
  <listen-socket><port>{port}</port><bind-address>127.0.0.1</bind-address></listen-socket>
  {secure}
  <paths><basedir>{folder}</basedir><logdir>{folder}</logdir>{certificate}<webroot>{share}/web</webroot>
    <adminroot>{share}/admin</adminroot></paths>
  <logging><accesslog>access.log</accesslog><errorlog>error.log</errorlog><loglevel>3</loglevel></logging>
  <security><chroot>0</chroot></security>
</icecast>
"""
SHARE = Path("/usr/share/icecast2")

needs_icecast = pytest.mark.skipif(
    shutil.which("icecast2") is None or not SHARE.is_dir(),
    reason="icecast2 is not installed (see .ci/system-packages)",
)


class Icecast:
    """A running server.

    Args:
        folder: for its files.
        port: its port on 127.0.0.1.
        certificate: PEM text of a certificate and its key, for a second port with TLS.

    Attributes:
        port, tls_port: its ports on 127.0.0.1.
    """

    def __init__(self, folder: Path, port: int, certificate: str = "") -> None:
        self.port, self.tls_port, self._certificate = port, free_port() if certificate else 0, certificate
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        share = SHARE
        secure = certificate = ""
        if self._certificate:
            (self._folder / "icecast.pem").write_text(self._certificate)
            certificate = f"<ssl-certificate>{self._folder}/icecast.pem</ssl-certificate>"
            address = f"<port>{self.tls_port}</port><bind-address>127.0.0.1</bind-address>"
            secure = f"<listen-socket>{address}<ssl>1</ssl></listen-socket>"
        text = _SETTINGS.format(
            password=PASSWORD,
            port=self.port,
            folder=self._folder,
            share=share,
            secure=secure,
            certificate=certificate,
        )
        (self._folder / "icecast.xml").write_text(text)
        command = ["icecast2", "-c", str(self._folder / "icecast.xml")]
        if os.geteuid() == 0:  # Icecast refuses to run as root
            os.chown(self._folder, 65534, 65534)
            command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            assert time.monotonic() < deadline, (self._folder / "error.log").read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def source(self, mount: str) -> dict[str, Any]:
        """What Icecast says of a mount point; {} without a source."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/status-json.xsl", timeout=5) as answer:
            text = answer.read().decode()
        try:
            found = json.loads(text)["icestats"].get("source", [])
        except ValueError:  # Icecast 2.4 writes half an object of a source that has just connected
            return {}
        sources = found if isinstance(found, list) else [found]
        return next((each for each in sources if each["listenurl"].endswith(mount)), {})

    def push(self, mount: str, password: str = ESCAPED) -> str:
        return f"icecast://source:{password}@127.0.0.1:{self.port}{mount}"

    def push_tls(self, mount: str) -> str:
        return f"icecasts://source:{ESCAPED}@127.0.0.1:{self.tls_port}{mount}"

    def listen(self, mount: str) -> str:
        return f"http://127.0.0.1:{self.port}{mount}"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextlib.contextmanager
def icecast(certificate: str = "") -> Iterator[Icecast]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        server = Icecast(folder, free_port(), certificate)
        server.start()
        try:
            yield server
        finally:
            server.stop()
