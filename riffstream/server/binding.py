"""The listening sockets of the server: one for each address of its host name."""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Sequence
from typing import Any

from riffstream.errors import RiffstreamError
from riffstream.server import logs

__all__ = ["BACKLOG", "inherited_sockets", "joined_sockets", "listening_sockets", "shown_address"]

BACKLOG = 1024
_FIRST_INHERITED = 3  # after standard input, output and error (sd_listen_fds(3))
_EVERYWHERE = ("", "*", "::")
_FREE_PORT_TRIES = 20
_Answer = tuple[int, int, int, tuple[Any, ...]]  # family, type, protocol, address


def inherited_sockets() -> list[socket.socket]:
    """Listening sockets that systemd has opened for this process (socket activation); [] without any.

    They stay open while one server replaces another, so no connection is refused meanwhile. The variables
    ``LISTEN_PID`` and ``LISTEN_FDS`` are removed, so that child processes do not take them for theirs.

    Raises:
        RiffstreamError: one of them is not a listening TCP socket.
    """
    asked = {name: os.environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")}
    if asked["LISTEN_PID"] != str(os.getpid()) or not asked["LISTEN_FDS"].isdecimal():
        return []
    sockets = []
    for number in range(_FIRST_INHERITED, _FIRST_INHERITED + int(asked["LISTEN_FDS"])):
        try:
            sock = socket.socket(fileno=number)
            listens = bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
        except OSError as error:
            raise RiffstreamError(f"LISTEN_FDS: file {number} is no socket ({error.strerror})") from None
        if not listens or sock.family not in (socket.AF_INET, socket.AF_INET6):
            raise RiffstreamError(f"LISTEN_FDS: socket {number} is no listening TCP socket; use ListenStream=PORT")
        sock.setblocking(False)
        sock.set_inheritable(False)
        sockets.append(sock)
    return sockets


def listening_sockets(host: str, port: int, *, share: bool = False) -> list[socket.socket]:
    """Bind every address of ``host`` on one port.

    Args:
        host: an address, or a name with all of its addresses. ``localhost`` is 127.0.0.1 and ::1 on any system. ``""``,
            ``*`` and ``::`` are all interfaces, IPv4 and IPv6.
        port: 0 selects a port that is free on every address.
        share: True lets processes of the same user bind the port too (SO_REUSEPORT), once it was free.

    Returns:
        One socket or more. Further addresses that cannot be bound are logged.

    Raises:
        RiffstreamError: the first address is in use or not one of this machine.
    """
    answers = _answers(host, port)
    for _ in range(_FREE_PORT_TRIES):
        sockets: list[socket.socket] = []
        failures: list[tuple[str, OSError]] = []
        chosen = port
        for family, kind, number, address in answers:
            try:
                target = (address[0], chosen, *address[2:])
                if share:  # another server of this user would share the port without an error
                    _bound(family, kind, number, target).close()
                sockets.append(_bound(family, kind, number, target, share=share))
                chosen = sockets[0].getsockname()[1]
            except OSError as error:
                failures.append((str(address[0]), error))
                if error.errno == errno.EADDRINUSE and not sockets:
                    break  # clients would reach the other program first
        in_use = any(failure.errno == errno.EADDRINUSE for _, failure in failures)
        if sockets and not (in_use and port == 0):
            for name, failure in failures:
                _report(name, chosen, failure)
            return sockets
        for sock in sockets:
            sock.close()
        if not sockets:
            break
    raise RiffstreamError(_explained(*failures[0], chosen))


def joined_sockets(addresses: Sequence[tuple[Any, ...]]) -> list[socket.socket]:
    """Bind addresses that another process of this user shares (SO_REUSEPORT).

    Args:
        addresses: addresses as of ``getsockname``. Raises RiffstreamError.
    """
    sockets = []
    for address in addresses:
        family = socket.AF_INET6 if ":" in str(address[0]) else socket.AF_INET
        try:
            sockets.append(_bound(family, socket.SOCK_STREAM, 0, tuple(address), share=True))
        except OSError as error:
            raise RiffstreamError(_explained(str(address[0]), error, int(address[1]))) from None
    return sockets


def _answers(host: str, port: int) -> list[_Answer]:
    """Addresses to bind, without duplicates; IPv4 first, because every client supports it."""
    if host in _EVERYWHERE:  # equivalent without IPv6
        host = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise RiffstreamError(f"host is {host!r}; allowed: an address of this machine ({error.strerror})") from None
    answers: dict[Any, _Answer] = {each[4][0]: (each[0], each[1], each[2], each[4]) for each in found}
    if host.lower() == "localhost":
        loopback = (socket.AF_INET, "127.0.0.1", ("127.0.0.1", port)), (socket.AF_INET6, "::1", ("::1", port, 0, 0))
        for family, name, address in loopback:
            answers.setdefault(name, (family, socket.SOCK_STREAM, socket.IPPROTO_TCP, address))
    return sorted(answers.values(), key=lambda each: each[0] != socket.AF_INET)


def _bound(family: int, kind: int, number: int, address: tuple[Any, ...], *, share: bool = False) -> socket.socket:
    sock = socket.socket(family, kind, number)
    try:
        if share:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if os.name == "posix":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        elif hasattr(socket, "SO_EXCLUSIVEADDRUSE"):  # there SO_REUSEADDR would let two servers share a port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address[0] != "::")
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def _explained(address: str, error: OSError, port: int) -> str:
    shown = "every interface" if address in ("::", "0.0.0.0") else address
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} on {shown} is in use, perhaps by another riffstream; "
            f"stop it, or choose another with --port (0 picks a free one)"
        )
    if error.errno == errno.EACCES:
        return f"port {port} needs more rights; ports from 1024 up do not"
    return f"cannot listen on {shown} port {port}: {error.strerror}"


def _report(address: str, port: int, error: OSError) -> None:
    if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
        logs.event(f"this machine has no address {address}; the server listens without it")
        return
    why = "another program uses it" if error.errno == errno.EADDRINUSE else error.strerror
    logs.event(f"port {port} of {address} cannot be listened on: {why}", level=logging.WARNING)


def shown_address(sock: socket.socket) -> str:
    """Host and port of a socket as in a URL; ``localhost`` for a socket on all interfaces."""
    host, port = sock.getsockname()[:2]
    name = {"0.0.0.0": "localhost", "::": "localhost"}.get(host, f"[{host}]" if ":" in host else host)
    return f"{name}:{port}"
