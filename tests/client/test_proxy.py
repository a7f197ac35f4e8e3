"""Connections through proxies, and past them, against a proxy that refuses what a real one refuses."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, serve

import riffstream
from riffstream.cli import main
from riffstream.client import RadioError
from riffstream.client.proxy import choose_proxy
from tests.scripted import scripted, welcome

VARIABLES = [f"{kind}_proxy" for kind in ("http", "https", "ws", "wss", "socks", "all", "no", "ftp")]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No proxies but those of the test."""
    for name in VARIABLES:
        for variable in (name, name.upper()):
            monkeypatch.delenv(variable, raising=False)
    return monkeypatch


@contextlib.asynccontextmanager
async def proxy(port: int, *, answer: str = "200 Connection established") -> AsyncIterator[tuple[str, list[str]]]:
    """A proxy that knows CONNECT alone; whatever the name asked for, it leads to ``port`` of this machine."""
    asked: list[str] = []
    tasks: set[asyncio.Task[None]] = set()
    writers: list[asyncio.StreamWriter] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        asked.append(head)
        if not head.startswith("CONNECT ") or not answer.startswith("200"):
            writer.write(f"HTTP/1.1 {'405 No' if answer.startswith('200') else answer}\r\n\r\n".encode())
            writer.close()
            return
        there = await asyncio.open_connection("127.0.0.1", port)
        writers.append(there[1])
        writer.write(f"HTTP/1.1 {answer}\r\n\r\n".encode())
        for pair in ((reader, there[1]), (there[0], writer)):
            tasks.add(asyncio.create_task(pump(*pair)))

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        for writer in writers:
            writer.close()
        await asyncio.gather(*tasks, *(writer.wait_closed() for writer in writers), return_exceptions=True)


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "radio.localhost", "studio.local", "127.0.0.1", "127.9.9.9", "[::1]", "10.0.0.7", "172.16.3.4",
        "192.168.1.5", "169.254.9.9", "100.101.102.103", "[fd00::1]", "[fe80::1]",
    ],
)  # fmt: skip
async def test_loopback_and_private_addresses_go_direct(host: str, environment: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTPS_PROXY", "socks_proxy", "ws_proxy", "wss_proxy"):
        environment.setenv(name, "http://127.0.0.1:9")
    for scheme in ("ws", "wss"):
        assert await choose_proxy(f"{scheme}://{host}:8080/ws/main") is None


async def test_names_that_stand_for_private_addresses_go_direct(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("http_proxy", "http://127.0.0.1:9")
    known = {"mypc.fritz.box": ["192.168.178.20", "fd00::20"], "radio.example": ["192.168.1.5", "93.184.216.34"]}

    async def getaddrinfo(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        return [(0, 0, 0, "", (address, 0)) for address in known[host]]

    environment.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    assert await choose_proxy("ws://mypc.fritz.box/ws/main") is None
    assert await choose_proxy("ws://radio.example/ws/main") == "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("variables", "url", "expected"),
    [
        ({}, "ws://93.184.216.34/", None),
        ({"http_proxy": "http://p:3128"}, "ws://93.184.216.34/", "http://p:3128"),
        ({"HTTP_PROXY": "p.corp:3128"}, "ws://93.184.216.34/", "http://p.corp:3128"),
        ({"http_proxy": "//p.corp:3128"}, "ws://93.184.216.34/", "http://p.corp:3128"),
        ({"http_proxy": " http://p:1 "}, "ws://93.184.216.34/", "http://p:1"),
        ({"http_proxy": ""}, "ws://93.184.216.34/", None),
        ({"http_proxy": "http://p:1"}, "wss://93.184.216.34/", None),
        ({"https_proxy": "http://p:1"}, "wss://93.184.216.34/", "http://p:1"),
        ({"https_proxy": "http://p:1", "http_proxy": "http://q:1"}, "ws://93.184.216.34/", "http://p:1"),
        ({"http_proxy": "http://me@p:1"}, "ws://93.184.216.34/", "http://me:@p:1"),
        ({"http_proxy": "http://p:1", "no_proxy": "93.184.216.34"}, "ws://93.184.216.34/", None),
        ({"http_proxy": "http://p:1", "NO_PROXY": "a.example, 93.184.216.34"}, "ws://93.184.216.34/", None),
        ({"http_proxy": "http://p:1", "no_proxy": "a.example, *"}, "ws://93.184.216.34/", None),
        ({"http_proxy": "http://p:1", "no_proxy": "93.184.0.0/16"}, "ws://93.184.216.34/", None),
        ({"http_proxy": "http://p:1", "no_proxy": "93.185.0.0/16"}, "ws://93.184.216.34/", "http://p:1"),
        ({"http_proxy": "http://p:1", "no_proxy": "2606::/16"}, "ws://[2606::9]:8080/", None),
        ({"http_proxy": "http://p:1"}, "ws://203.0.113.9/", "http://p:1"),
        ({"http_proxy": "http://p:1"}, "ws://[2001:db8::9]/", "http://p:1"),
        ({"socks_proxy": "http://p:1"}, "ws://93.184.216.34/", "socks5h://p:1"),
        ({"all_proxy": "socks5://p:1"}, "ws://93.184.216.34/", None),
    ],
)
async def test_the_environment_says_which_proxy(
    variables: dict[str, str], url: str, expected: str | None, environment: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)
    assert await choose_proxy(url) == expected


async def test_a_station_is_heard_through_a_proxy(environment: pytest.MonkeyPatch) -> None:
    async with scripted(welcome()) as (url, _):
        port = int(url.rpartition(":")[2])
        async with proxy(port) as (address, asked):
            environment.setenv("http_proxy", f"http://me:secret@{address}")
            async with riffstream.connect("http://radio.invalid:8080") as station:
                assert station.welcome.session == "s"
            async with riffstream.connect(url):  # on this machine
                pass
    assert len(asked) == 1
    assert asked[0].startswith("CONNECT radio.invalid:8080 HTTP/1.1\r\n")
    assert "Proxy-Authorization: Basic bWU6c2VjcmV0" in asked[0]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl, which makes the certificate, is not installed")
async def test_an_encrypted_station_is_heard_through_a_proxy(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=radio.invalid"
    names = ["-addext", "subjectAltName=DNS:radio.invalid", "-keyout", str(key), "-out", str(certificate)]
    await asyncio.to_thread(subprocess.run, [*command.split(), *names], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def handle(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.send(welcome())
        await connection.wait_closed()

    server = serve(handle, "127.0.0.1", 0, subprotocols=["riffstream.v1"], ssl=context)  # type: ignore[list-item]
    async with server as running, proxy(running.sockets[0].getsockname()[1]) as (address, asked):
        environment.setenv("HTTPS_PROXY", address)  # without a scheme
        with pytest.raises(RadioError, match=r"through the proxy http://127.*CERTIFICATE_VERIFY_FAILED"):
            await riffstream.connect("https://radio.invalid").__aenter__()
        environment.setenv("SSL_CERT_FILE", str(certificate))
        async with riffstream.connect("https://radio.invalid") as station:
            assert station.welcome.session == "s"
    assert asked[1].startswith("CONNECT radio.invalid:443 ")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (
            "http://me:secret@127.0.0.1:9",
            r"cannot reach ws://radio\.invalid.*the proxy http://127\.0\.0\.1:9: ",
        ),
        ("127.0.0.1:9", r"through the proxy http://127\.0\.0\.1:9: "),
        ("ftp://p:1", r"the proxy ftp://p:1 cannot be used: .*scheme ftp isn't supported"),
        ("http://", r"the proxy http:// cannot be used: .*hostname isn't provided"),
        ("http://p:port", r"the proxy http://p:port"),
        ("http://p/path", r"the proxy http://p/path cannot be used: .*path is meaningless"),
        ("http://me:secret@p/path", r"the proxy http://p/path cannot be used"),
        ("socks5://127.0.0.1:1080", r"the proxy socks5://127\.0\.0\.1:1080 cannot be used: SOCKS needs .*python-socks"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_one_line(
    value: str, words: str, environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    environment.setenv("http_proxy", value)
    arguments = ["listen", "http://radio.invalid:8080", "-o", str(tmp_path / "x.wav"), "--seconds", "1"]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("riffstream listen: ")
    assert error.endswith("to connect without it, set NO_PROXY=radio.invalid\n")
    assert "secret" not in error
    assert re.search(words, error)


async def test_a_proxy_that_refuses_or_is_silent_is_named(environment: pytest.MonkeyPatch) -> None:
    async with proxy(9, answer="407 Proxy Authentication Required") as (address, _):
        environment.setenv("http_proxy", address)
        with pytest.raises(RadioError, match=rf"the proxy http://{address} refuses: .*407") as refused:
            await riffstream.connect("radio.invalid").__aenter__()
        assert refused.value.code == "unreachable"

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        left.set()

    left = asyncio.Event()
    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        environment.setenv("http_proxy", address)
        with pytest.raises(RadioError, match=rf"no answer from .* through the proxy http://{address} within") as late:
            await riffstream.connect("radio.invalid", timeout_s=0.3).__aenter__()
        assert late.value.code == "timeout"
        await left.wait()


async def test_what_is_no_websocket_server_is_one_line() -> None:
    async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(web, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(RadioError, match="cannot reach ws://") as refused:
            await riffstream.connect(url).__aenter__()
    assert "\n" not in str(refused.value)
    for odd in ("http://" + "a" * 70 + ".example", "http://a..example"):
        with pytest.raises(RadioError, match="cannot reach"):
            await riffstream.connect(odd).__aenter__()
