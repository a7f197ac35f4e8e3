"""Certificates of a test, made by openssl."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="openssl is not installed (see .ci/system-packages)"
)
_NEW = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]


@dataclass(frozen=True)
class Certificate:
    """Paths of a certificate and its key, PEM."""

    cert: Path
    key: Path

    @property
    def both(self) -> str:
        return self.cert.read_text() + self.key.read_text()


def authority(folder: Path) -> Certificate:
    """The certificate of an authority that no system knows."""
    made = Certificate(folder / "ca.pem", folder / "ca.key")
    _run([*_NEW, "-subj", "/CN=test authority"], made)
    return made


def certificate(folder: Path, name: str, *, by: Certificate | None) -> Certificate:
    """A server's certificate for ``name`` (``IP:127.0.0.1``, ``DNS:localhost``); ``by`` None: signed by itself."""
    made = Certificate(folder / f"{name[:3]}-{by is None}.pem", folder / f"{name[:3]}-{by is None}.key")
    signed = [] if by is None else ["-CA", str(by.cert), "-CAkey", str(by.key)]
    extensions = ["-addext", f"subjectAltName={name}", "-addext", "basicConstraints=critical,CA:FALSE"]
    _run([*_NEW, "-subj", "/CN=a server", *extensions, *signed], made)
    return made


def _run(command: list[str], made: Certificate) -> None:
    subprocess.run([*command, "-keyout", str(made.key), "-out", str(made.cert)], check=True, capture_output=True)
