"""Starting of bridges, in the server. This module does not import Ray.

Threading model
  Event loop   makes every call. Nothing waits.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from riffstream.config import GeneratorSettings

__all__ = ["Cluster"]


class Cluster:
    """A Ray cluster, as the server uses it.

    Args:
        backend: ``ray:auto``, ``ray:local`` or ``ray://HOST:PORT``. The cluster of ``ray:local`` starts with the first
            bridge, and again with a later one if it has ended.
    """

    def __init__(self, backend: str) -> None:
        self._backend = backend
        self._environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self._head: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        if backend == "ray:local":
            if not any(name in os.environ for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")):
                self._environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
            self._folder = tempfile.TemporaryDirectory(prefix="riffstream-ray-")

    def launcher(self, settings: GeneratorSettings) -> Callable[[], subprocess.Popen[bytes]]:
        """Function that starts a bridge to a new worker with these settings."""
        gpus = settings.gpus if settings.gpus is not None else float(settings.device == "cuda")
        return lambda: self._start(settings.cpus, gpus)

    def _start(self, cpus: float, gpus: float) -> subprocess.Popen[bytes]:
        options = [self._backend, "--cpus", str(cpus), "--gpus", str(gpus)]
        if self._folder is not None:
            options += ["--address-file", str(self._head_address(self._folder.name))]
        return subprocess.Popen(
            [sys.executable, "-m", "riffstream.generator.cluster.bridge", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self._environment,
            bufsize=2**18,
        )

    def _head_address(self, folder: str) -> Path:
        """File with the address of this machine's cluster, which is started if it does not run."""
        file = Path(folder) / "address"
        if self._head is None or self._head.poll() is not None:
            file.unlink(missing_ok=True)
            self._close_head()
            self._head = subprocess.Popen(
                [sys.executable, "-m", "riffstream.generator.cluster.head", str(file)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                env=self._environment,
            )
        return file

    def _close_head(self) -> None:
        if self._head is not None and self._head.stdin is not None:
            with contextlib.suppress(OSError):
                self._head.stdin.close()

    def close(self) -> None:
        """End the cluster of ``ray:local``. Idempotent."""
        self._close_head()
        head, self._head = self._head, None
        if head is not None:
            try:
                head.wait(5)
            except subprocess.TimeoutExpired:
                head.kill()
                head.wait()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
