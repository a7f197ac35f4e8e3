"""nginx and Caddy as normal processes on free ports of loopback, with the recipes of docs/server.md."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import PATIENCE_S, ROOT

PREFIX = "/radio"


def recipe(language: str, *, prefix: bool, backend: int) -> str:
    """The documented recipe of a proxy (``nginx``, ``caddy``), in front of the server on port ``backend``."""
    page = (ROOT / "docs" / "server.md").read_text(encoding="utf-8")
    found = [text for text in re.findall(rf"```{language}\n(.*?)```", page, re.S) if (PREFIX in text) is prefix]
    assert len(found) == 1, f"docs/server.md has {len(found)} such recipes"
    assert found[0].count("127.0.0.1:8080") == 1
    return found[0].replace("127.0.0.1:8080", f"127.0.0.1:{backend}")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def insecure() -> ssl.SSLContext:
    """Accepts the certificates that proxies made for a test."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


class Proxy:
    """A running proxy: its address with the path prefix, and the requests that it has seen."""

    def __init__(self, url: str, log: Path) -> None:
        self.url = url
        self.port = int(url.split("/")[2].rpartition(":")[2])
        self._log = log

    @property
    def paths(self) -> list[str]:
        """The path of each finished request."""
        return [line.split()[1] for line in self._log.read_text().splitlines()]


@contextlib.contextmanager
def nginx(program: str, folder: Path, locations: str, *, prefix: str = "", tls: bool = False) -> Iterator[Proxy]:
    """nginx with these ``location`` blocks."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    secure = ""
    if tls:
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
        files = ["-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem", "-addext", "subjectAltName=IP:127.0.0.1"]
        subprocess.run([*command, *files], check=True, capture_output=True)
        secure = f"ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem;"
    config = folder / "nginx.conf"
    config.write_text(f"""
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{ }}
http {{
log_format paths '$request_method $request_uri $status';
access_log {folder}/paths.log paths;
{places}
server {{ listen 127.0.0.1:{port}{" ssl" if tls else ""}; {secure}
{locations}
}} }}
""")
    command = [program, "-p", str(folder), "-e", f"{folder}/error.log", "-c", str(config)]
    url = f"{'https' if tls else 'http'}://127.0.0.1:{port}{prefix}"
    with _running(command, port, folder, tls=tls):
        yield Proxy(url, folder / "paths.log")


@contextlib.contextmanager
def caddy(program: str, folder: Path, site: str, *, prefix: str = "", tls: bool = False) -> Iterator[Proxy]:
    """Caddy with this site, which is called ``radio.example`` in the recipe."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    address = f"https://127.0.0.1:{port}" if tls else f"http://127.0.0.1:{port}"
    opening = f"{address} {{\n    tls internal\n" if tls else f"{address} {{\n"
    assert site.count("radio.example {\n") == 1
    config = folder / "Caddyfile"
    options = "{\n    admin off\n    auto_https disable_redirects\n    skip_install_trust\n}\n"
    config.write_text(options + site.replace("radio.example {\n", opening))
    command = [program, "run", "--config", str(config), "--adapter", "caddyfile"]
    homes = {"XDG_DATA_HOME": f"{folder}/data", "XDG_CONFIG_HOME": f"{folder}/config"}
    with _running(command, port, folder, tls=tls, **homes):
        yield Proxy(f"{address}{prefix}", folder / "output.log")


@contextlib.contextmanager
def _running(command: list[str], port: int, folder: Path, *, tls: bool, **environment: str) -> Iterator[None]:
    with (folder / "output.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **environment})
    try:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            # Caddy makes its certificate after it has begun to listen.
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as connection:
                if tls:
                    insecure().wrap_socket(connection).close()
                break
            logs = [file.read_text() for file in folder.glob("*.log")]
            assert process.poll() is None, logs
            assert time.monotonic() < deadline, logs
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:  # an endless stream holds nginx's graceful end
            process.kill()
            process.wait()
