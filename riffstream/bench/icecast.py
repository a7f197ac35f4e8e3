"""Fan-out of MP3 over HTTP in comparison with icecast2: the same number of listeners and the same bytes, in one run."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from riffstream.bench.fan_out import noise_server, started
from riffstream.bench.outlets import read_stream
from riffstream.errors import RiffstreamError

__all__ = ["IcecastError", "IcecastRun", "measure_icecast", "missing", "process_cpu_s"]

SHARE: Final = Path("/usr/share/icecast2")
PASSWORD: Final = "bench"
MOUNT: Final = "/live.mp3"
START_S: Final = 20.0
NOBODY: Final = 65534  # icecast2 refuses to run as root
SETTINGS: Final = """<icecast>
  <limits><clients>{clients}</clients><sources>2</sources><workers>1</workers><burst-size>65535</burst-size></limits>
  <authentication><source-password>{password}</source-password><admin-user>admin</admin-user>
    <admin-password>{password}</admin-password></authentication>
  <hostname>localhost</hostname>
  <listen-socket><port>{port}</port><bind-address>127.0.0.1</bind-address></listen-socket>
  <paths><basedir>{folder}</basedir><logdir>{folder}</logdir><webroot>{share}/web</webroot>
    <adminroot>{share}/admin</adminroot></paths>
  <logging><accesslog>access.log</accesslog><errorlog>error.log</errorlog><loglevel>2</loglevel></logging>
  <security><chroot>0</chroot></security>
</icecast>
"""


class IcecastError(RiffstreamError):
    """icecast2 does not run here."""


@dataclass(frozen=True, slots=True)
class IcecastRun:
    """One measurement. Times are without those of the same server with one listener.

    Attributes:
        listeners: number of listeners of each server.
        icecast_us_per_listener_s: CPU time of icecast2, in microseconds per listener and second.
        riffstream_us_per_listener_s: the same of riffstream.
        icecast_kbit_s: received by each listener of icecast2, kbit/s.
        riffstream_kbit_s: the same of riffstream.
        version: version of icecast2.
    """

    listeners: int
    icecast_us_per_listener_s: float
    riffstream_us_per_listener_s: float
    icecast_kbit_s: float
    riffstream_kbit_s: float
    version: str

    @property
    def ratio(self) -> float:
        """CPU of riffstream over that of icecast2, for as many bytes."""
        own = self.riffstream_us_per_listener_s / self.riffstream_kbit_s
        return own / (self.icecast_us_per_listener_s / self.icecast_kbit_s)


def missing() -> str:
    """What icecast2 lacks to run here; "" if it can."""
    if shutil.which("icecast2") is None or not SHARE.is_dir():
        return "icecast2 is not installed"
    if not Path("/proc/self/task").is_dir():
        return "the CPU time of other processes is read from /proc, which this system does not have"
    return ""


def measure_icecast(listeners: int, seconds: float, *, core: int | None = None) -> IcecastRun:
    """Measure riffstream with noise, and icecast2 with riffstream's stream as its source, alternately twice.

    Args:
        listeners: listeners of each server, 2 or more.
        seconds: duration of each measurement.
        core: core for both servers; None: any.

    Raises:
        IcecastError: icecast2 does not run here.
    """
    from riffstream.server.app import raise_file_limit

    if why := missing():
        raise IcecastError(why)
    raise_file_limit(2 * listeners + 512)
    with started(noise_server, core) as (pipe, port):

        def own_cpu() -> float:
            pipe.send("mark")
            return float(pipe.recv()["cpu"])

        with _icecast(listeners, core) as (icecast_port, pid), _source(port, icecast_port):
            own, rival = [], []
            for _ in range(2):
                own.append(_cost(own_cpu, port, "/stream/main.mp3", listeners, seconds))
                rival.append(_cost(lambda: process_cpu_s(pid), icecast_port, MOUNT, listeners, seconds))
        (own_us, own_kbit), (rival_us, rival_kbit) = min(own), min(rival)
        return IcecastRun(listeners, rival_us, own_us, rival_kbit, own_kbit, _version())


def _cost(cpu_s: Callable[[], float], port: int, path: str, listeners: int, seconds: float) -> tuple[float, float]:
    """Microseconds of CPU per listener and second, and kbit/s of a listener."""

    def spent(count: int) -> tuple[float, int]:
        marks: list[tuple[float, float]] = []

        def mark() -> None:
            marks.append((time.monotonic(), cpu_s()))

        received = read_stream(port, count, seconds, path, mark)
        mark()
        (began, before), (ended, after) = marks
        return (after - before) / (ended - began), received

    one, _ = spent(1)
    many, received = spent(listeners)
    return round(1e6 * (many - one) / max(1, listeners - 1), 2), round(8e-3 * received / listeners / seconds, 1)


def process_cpu_s(pid: int) -> float:
    """CPU time of all threads of a process, seconds."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # a thread that has just ended
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def _version() -> str:
    said = subprocess.run(["icecast2", "-v"], capture_output=True, text=True, timeout=10).stdout
    return said.strip().removeprefix("Icecast ") or "unknown"


@contextlib.contextmanager
def _icecast(listeners: int, core: int | None) -> Iterator[tuple[int, int]]:
    """A running icecast2: its port and process number. Raises IcecastError."""
    with tempfile.TemporaryDirectory(prefix="riffstream-icecast-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = int(free.getsockname()[1])
        text = SETTINGS.format(clients=listeners + 16, password=PASSWORD, port=port, folder=folder, share=SHARE)
        (folder / "icecast.xml").write_text(text)
        identity: dict[str, Any] = {}
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
            identity = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        process = subprocess.Popen(
            ["icecast2", "-c", str(folder / "icecast.xml")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **identity,
        )
        try:
            if core is not None and hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(process.pid, {core})
            deadline = time.monotonic() + START_S
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                if process.poll() is not None or time.monotonic() > deadline:
                    raise IcecastError("icecast2 does not start")
                time.sleep(0.05)
            yield port, process.pid
        finally:
            process.kill()
            process.wait()


@contextlib.contextmanager
def _source(port: int, icecast_port: int) -> Iterator[None]:
    """Feed icecast2 with riffstream's own MP3 stream, so that both send the same bytes. Raises IcecastError."""
    with contextlib.ExitStack() as sockets:
        stream = sockets.enter_context(socket.create_connection(("127.0.0.1", port), 10))
        stream.sendall(b"GET /stream/main.mp3 HTTP/1.0\r\nHost: localhost\r\n\r\n")
        head = b""
        while b"\r\n\r\n" not in head:
            if not (data := stream.recv(4096)):
                raise IcecastError("riffstream ends the stream before its header")
            head += data
        audio = head.partition(b"\r\n\r\n")[2]
        target = sockets.enter_context(socket.create_connection(("127.0.0.1", icecast_port), 10))
        secret = base64.b64encode(f"source:{PASSWORD}".encode()).decode()
        target.sendall(
            f"SOURCE {MOUNT} HTTP/1.0\r\nAuthorization: Basic {secret}\r\nContent-Type: audio/mpeg\r\n\r\n".encode()
        )
        if b" 200 " not in target.recv(4096):
            raise IcecastError("icecast2 refuses the source")

        def pump() -> None:
            with contextlib.suppress(OSError):
                target.sendall(audio)
                while data := stream.recv(65536):
                    target.sendall(data)

        thread = threading.Thread(target=pump, name="icecast-source", daemon=True)
        thread.start()
        try:
            time.sleep(2.0)  # its burst buffer fills
            yield
        finally:
            for each in (stream, target):
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
            thread.join(5)
