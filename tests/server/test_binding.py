"""Where the server listens: both loopback addresses, every address of a name, machines without IPv6."""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import ClientSession

from riffstream.errors import RiffstreamError
from riffstream.server import binding
from riffstream.server.binding import listening_sockets, shown_address
from tests.server.conftest import running


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


@pytest.fixture
def bound(request: pytest.FixtureRequest) -> Iterator[list[socket.socket]]:
    sockets: list[socket.socket] = []
    yield sockets
    for sock in sockets:
        sock.close()


def addresses(sockets: list[socket.socket]) -> list[str]:
    return [sock.getsockname()[0] for sock in sockets]


@needs_ipv6
async def test_both_loopbacks_are_served_by_default() -> None:
    async with running() as served, ClientSession() as session:
        port = served.url.rpartition(":")[2]
        for host in ("127.0.0.1", "[::1]", "localhost"):
            async with session.get(f"http://{host}:{port}/healthz") as response:
                assert response.status == 200


@needs_ipv6
@pytest.mark.parametrize(
    ("host", "found", "shown"),
    [
        ("localhost", ["127.0.0.1", "::1"], "127.0.0.1"),
        ("127.0.0.1", ["127.0.0.1"], "127.0.0.1"),
        ("::1", ["::1"], "[::1]"),
        ("0.0.0.0", ["0.0.0.0"], "localhost"),
        ("::", ["::"], "localhost"),
        ("", ["::"], "localhost"),
        ("*", ["::"], "localhost"),
    ],
)
def test_a_host_is_all_of_its_addresses_on_one_port(
    host: str, found: list[str], shown: str, bound: list[socket.socket]
) -> None:
    bound += listening_sockets(host, 0)
    assert addresses(bound) == found
    assert len({sock.getsockname()[1] for sock in bound}) == 1
    assert shown_address(bound[0]) == f"{shown}:{bound[0].getsockname()[1]}"
    if found == ["::"]:
        with socket.create_connection(("127.0.0.1", bound[0].getsockname()[1]), 5):
            pass


def fake_name(monkeypatch: pytest.MonkeyPatch, *found: str) -> None:
    """A name with these addresses."""
    answers = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (each, 0, 0, 0))
        if ":" in each
        else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, 0))
        for each in found
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers)


def test_every_address_of_a_name_that_is_ours_is_served(
    monkeypatch: pytest.MonkeyPatch, bound: list[socket.socket], caplog: pytest.LogCaptureFixture
) -> None:
    fake_name(monkeypatch, "203.0.113.7", "127.0.0.2", "127.0.0.1", "127.0.0.2")
    with caplog.at_level(logging.INFO, "riffstream"):
        bound += listening_sockets("mypc", 0)
    assert addresses(bound) == ["127.0.0.2", "127.0.0.1"]
    assert [record.getMessage() for record in caplog.records] == [
        "this machine has no address 203.0.113.7; the server listens without it"
    ]


def test_a_machine_without_ipv6_starts(
    monkeypatch: pytest.MonkeyPatch, bound: list[socket.socket], caplog: pytest.LogCaptureFixture
) -> None:
    real = socket.socket

    def without(family: int = socket.AF_INET, *rest: Any, **options: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, *rest, **options)

    monkeypatch.setattr(binding.socket, "socket", without)
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    with caplog.at_level(logging.INFO, "riffstream"):
        bound += listening_sockets("localhost", 0)
    assert addresses(bound) == ["127.0.0.1"]
    assert len(caplog.records) == 1
    bound += listening_sockets("::", 0)
    assert addresses(bound)[1:] == ["0.0.0.0"]


@needs_ipv6
def test_a_second_address_in_use_is_said_in_one_line(
    bound: list[socket.socket], caplog: pytest.LogCaptureFixture
) -> None:
    bound += listening_sockets("::1", 0)
    port = bound[0].getsockname()[1]
    bound += listening_sockets("localhost", port)
    assert addresses(bound) == ["::1", "127.0.0.1"]
    said = [record.getMessage() for record in caplog.records]
    assert said == [f"port {port} of ::1 cannot be listened on: another program uses it"]


def test_the_first_address_in_use_ends_the_start(bound: list[socket.socket]) -> None:
    bound += listening_sockets("127.0.0.1", 0)
    port = bound[0].getsockname()[1]
    with pytest.raises(RiffstreamError, match=f"port {port} on 127.0.0.1 is in use"):
        listening_sockets("localhost", port)


def test_a_free_port_is_free_on_every_address(monkeypatch: pytest.MonkeyPatch, bound: list[socket.socket]) -> None:
    fake_name(monkeypatch, "127.0.0.1", "127.0.0.2")
    real, failed = binding._bound, []

    def unlucky(family: int, kind: int, number: int, address: tuple[Any, ...], *, share: bool = False) -> socket.socket:
        if address[0] == "127.0.0.2" and len(failed) < 3:
            failed.append(address[1])
            raise OSError(errno.EADDRINUSE, "in use")
        return real(family, kind, number, address)

    monkeypatch.setattr(binding, "_bound", unlucky)
    bound += listening_sockets("mypc", 0)
    assert len({sock.getsockname()[1] for sock in bound}) == 1
    assert addresses(bound) == ["127.0.0.1", "127.0.0.2"]
    assert len(failed) == 3


def test_windows_never_shares_a_port(monkeypatch: pytest.MonkeyPatch) -> None:
    options: list[int] = []

    class Recorded(socket.socket):
        def setsockopt(self, level: int, option: int, *rest: Any) -> None:  # type: ignore[override]
            options.append(option)

    monkeypatch.setattr(binding.os, "name", "nt")
    monkeypatch.setattr(socket, "SO_EXCLUSIVEADDRUSE", -5, raising=False)
    monkeypatch.setattr(binding.socket, "socket", Recorded)
    binding._bound(socket.AF_INET, socket.SOCK_STREAM, 6, ("127.0.0.1", 0)).close()
    assert options == [-5]
