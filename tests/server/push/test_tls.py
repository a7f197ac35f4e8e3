"""Pushes over TLS to programs of others: Icecast's own TLS, and socat's in front of ffmpeg."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import PATIENCE_S
from tests.server import players
from tests.server.conftest import running
from tests.server.fakes import pitch
from tests.server.push.certificates import Certificate, authority, certificate, needs_openssl
from tests.server.push.icecast import Icecast, free_port, icecast, needs_icecast

pytestmark = needs_openssl
SECONDS = 3.0
FAST = {"backoff_s": 0.1, "backoff_max_s": 0.3}
needs_socat = pytest.mark.skipif(
    shutil.which("socat") is None or shutil.which("ffmpeg") is None,
    reason="socat or ffmpeg is not installed (see .ci/system-packages)",
)


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def server(trust: Certificate) -> Iterator[Icecast]:
    """Icecast with a certificate of the authority."""
    with icecast(certificate(trust.cert.parent, "IP:127.0.0.1", by=trust).both) as started:
        yield started


@contextlib.contextmanager
def socat(made: Certificate, port: int) -> Iterator[int]:
    """TLS in front of a port; gives its own port."""
    own = free_port()
    listening = f"OPENSSL-LISTEN:{own},bind=127.0.0.1,reuseaddr,fork,verify=0,cert={made.cert},key={made.key}"
    with subprocess.Popen(["socat", listening, f"TCP:127.0.0.1:{port}"], stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", own), 1):
                break
            assert time.monotonic() < deadline
            time.sleep(0.05)
        try:
            yield own
        finally:
            process.terminate()


async def until(true: Callable[[], bool], what: str, seconds: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(true):
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.1)


@needs_icecast
@pytest.mark.parametrize("codec", ["mp3", "ogg"])
async def test_icecast_takes_audio_and_title_over_tls(codec: str, server: Icecast, trust: Certificate) -> None:
    push = {"home": {"url": server.push_tls(f"/safe.{codec}"), "ca": str(trust.cert), **FAST}}
    async with running(speed=1.0, push=push) as served:
        home = served.server.context.pushes["home"]
        await until(lambda: home.state == "connected", "connected")
        heard = await asyncio.to_thread(players.ffmpeg, server.listen(f"/safe.{codec}"), SECONDS)
        if codec == "mp3":
            await until(lambda: server.source("/safe.mp3").get("title") == "a test tone", "the title")
    assert heard.complaints == ""
    assert pitch(np.stack([heard.wave[-48_000:]] * 2, 1)) == pytest.approx(300, abs=2)


@needs_icecast
async def test_an_unknown_authority_is_refused(server: Icecast) -> None:
    push = {"home": {"url": server.push_tls("/unknown.mp3"), **FAST}}
    async with running(speed=1.0, push=push) as served:
        home = served.server.context.pushes["home"]
        await until(lambda: home.failures > 1, "two attempts")
        assert home.problem.startswith("the certificate is not valid: ")
        assert home.problem.endswith(" (see ca in docs/outlets.md)")
        assert (home.connects, home.bytes, server.source("/unknown.mp3")) == (0, 0, {})
        assert served.station.committed > 48_000


@needs_icecast
async def test_a_server_without_tls_is_named(server: Icecast) -> None:
    url = server.push_tls("/x.mp3").replace(f":{server.tls_port}/", f":{server.port}/")
    async with running(speed=1.0, push={"home": {"url": url, **FAST}}) as served:
        home = served.server.context.pushes["home"]
        await until(lambda: home.failures > 0, "refused")
        assert home.problem.startswith("no TLS with the server: ")


@needs_socat
@pytest.mark.parametrize("own", [False, True], ids=["authority", "its own certificate"])
async def test_ffmpeg_takes_the_stream_over_rtmps(own: bool, trust: Certificate, tmp_path: Path) -> None:
    made = certificate(tmp_path, "IP:127.0.0.1", by=None if own else trust)
    plain = free_port()
    url = f"rtmp://127.0.0.1:{plain}/live/secret-key"
    command = ["ffmpeg", "-v", "error", "-listen", "1", "-i", url, "-t", str(SECONDS), "-f", "f32le", "-ac", "1", "-"]
    with socat(made, plain) as port:
        push = {"home": {"url": f"rtmps://127.0.0.1:{port}/live/secret-key", "ca": str((made if own else trust).cert)}}
        async with running(speed=1.0, push={"home": {**push["home"], **FAST}}) as served:
            home = served.server.context.pushes["home"]
            done = await asyncio.to_thread(subprocess.run, command, capture_output=True, timeout=40)
            assert done.stderr == b""
            wave = np.frombuffer(done.stdout, np.float32)
            assert pitch(np.stack([wave[-48_000:]] * 2, 1)) == pytest.approx(300, abs=2)
            await until(lambda: home.state == "retrying", "ffmpeg has left")
            assert "secret" not in home.problem


@needs_socat
@pytest.mark.parametrize(
    ("name", "trusted", "words"),
    [
        ("IP:127.0.0.1", False, "(see ca in docs/outlets.md)"),
        ("DNS:other.example", True, "IP address mismatch, certificate is not valid for '127.0.0.1'"),
    ],
)
async def test_rtmps_refuses_a_wrong_certificate(
    name: str, trusted: bool, words: str, trust: Certificate, tmp_path: Path
) -> None:
    """libav itself would send the key to any server."""
    made = certificate(tmp_path, name, by=trust)
    with socket.create_server(("127.0.0.1", 0)) as behind, socat(made, behind.getsockname()[1]) as port:
        behind.settimeout(0.5)
        with contextlib.suppress(OSError):
            behind.accept()[0].close()  # socat's, for the look whether it listens
        ca = {"ca": str(trust.cert)} if trusted else {}
        push = {"home": {"url": f"rtmps://127.0.0.1:{port}/live/secret-key", **ca, **FAST}}
        async with running(speed=1.0, push=push) as served:
            home = served.server.context.pushes["home"]
            await until(lambda: home.failures > 1, "two attempts")
            assert words in home.problem
            assert (home.connects, home.bytes) == (0, 0)
        received = b""
        with contextlib.suppress(OSError):
            while True:
                connection, _ = behind.accept()
                connection.settimeout(0.5)
                with contextlib.suppress(OSError):
                    received += connection.recv(1000)
                connection.close()
        assert received == b""
