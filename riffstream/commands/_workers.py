"""Further processes of one server, which take a share of its listeners.

The first process has the stations. It feeds each worker over a Unix socket in a private folder; workers are relays
(``riffstream/relay``). All listen on one port (SO_REUSEPORT), or on the sockets that systemd has opened.

Threading model: everything runs on the event loop of the first process.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import signal
import socket
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from riffstream.config import Config
from riffstream.server import logs

__all__ = ["Workers"]

BACKOFF_S, BACKOFF_MAX_S = 0.25, 10.0
STEADY_S = 30.0  # running time after which the delay of restarts begins anew
KILL_S = 5.0  # after the drain time
UPGRADED = b"upgraded\n"  # the last order of a first process whose server has been taken over


class Workers:
    """The workers of a server: started, replaced when they end, and stopped.

    Args:
        config: the server's configuration.
        sockets: its listening sockets.
        inherited: whether systemd or an earlier server has opened the sockets; workers then share them.

    Attributes:
        folder: private folder with the Unix sockets.
        token: secret with which workers listen at the first process.
    """

    def __init__(self, config: Config, sockets: Sequence[socket.socket], *, inherited: bool) -> None:
        self.config = config
        self.token = secrets.token_urlsafe(24)
        self._folder = tempfile.TemporaryDirectory(prefix="riffstream-")
        self.folder = Path(self._folder.name)
        self._sockets, self._inherited = sockets, inherited
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._restarts: dict[int, int] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

    @property
    def feed_path(self) -> Path:
        """Unix socket of the first process."""
        return self.folder / "feed.sock"

    def path(self, number: int) -> Path:
        """Unix socket of a worker."""
        return self.folder / f"worker-{number}.sock"

    def paths(self) -> dict[str, Path]:
        """Unix socket of each worker, by its name in metrics."""
        return {str(number): self.path(number) for number in self._restarts}

    def figures(self) -> dict[str, dict[str, Any]]:
        """Process number, state and restarts of each worker."""
        return {
            str(number): {
                "pid": process.pid if (process := self._processes.get(number)) is not None else None,
                "state": "starting" if process is None else "running",
                "restarts": restarts,
            }
            for number, restarts in self._restarts.items()
        }

    def start(self) -> None:
        """Start the workers in the background."""
        for number in range(1, self.config.server.workers):
            self._restarts[number] = 0
            self._tasks.append(asyncio.create_task(self._keep(number), name=f"worker-{number}"))

    async def stop(self, *, upgraded: bool = False) -> None:
        """End the workers; their listeners get ``bye``. Idempotent.

        Args:
            upgraded: whether a new server serves already, so that the listeners may come back at once.
        """
        self._stopping = True
        for process in self._processes.values():
            if upgraded and process.stdin is not None:
                process.stdin.write(UPGRADED)
                continue
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        ending = [asyncio.ensure_future(process.wait()) for process in self._processes.values()]
        if ending:
            await asyncio.wait(ending, timeout=self.config.server.drain_s + KILL_S)
        for process in self._processes.values():
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, *ending, return_exceptions=True)
        self._folder.cleanup()

    async def _keep(self, number: int) -> None:
        """Run a worker, and start another one when it ends."""
        pause_s = BACKOFF_S
        loop = asyncio.get_running_loop()
        while not self._stopping:
            began = loop.time()
            try:
                code: int | str = await self._run(number)
            except OSError as error:  # a limit of processes or memory
                code = error.strerror or str(error)
            if self._stopping:
                return
            self._restarts[number] += 1
            pause_s = BACKOFF_S if loop.time() - began > STEADY_S else min(BACKOFF_MAX_S, 2 * pause_s)
            logs.event("worker ended; another one starts", level=logging.WARNING, worker=number, code=code)
            await asyncio.sleep(pause_s)

    async def _run(self, number: int) -> int:
        """Run one worker until it ends; return its exit code."""
        files = [sock.fileno() for sock in self._sockets] if self._inherited else []
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "riffstream.commands._worker", stdin=asyncio.subprocess.PIPE, pass_fds=files
        )
        self._processes[number] = process
        about = {
            "config": self.config.to_dict(),
            "feed": str(self.feed_path),
            "own": str(self.path(number)),
            "token": self.token,
            "files": files,
            "addresses": [sock.getsockname()[:2] for sock in self._sockets],
        }
        assert process.stdin is not None
        try:
            with contextlib.suppress(ConnectionError):  # it has ended already
                process.stdin.write(json.dumps(about).encode() + b"\n")
                await process.stdin.drain()
            return await process.wait()  # the open pipe tells the worker that this process lives
        finally:
            self._processes.pop(number, None)
