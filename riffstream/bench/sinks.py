"""Thousands of lightweight listeners in one process. They send a hello, read, and count frames.

Raw sockets and epoll keep the clients' CPU time small, so a small machine can measure the server.
"""

from __future__ import annotations

import base64
import json
import os
import selectors
import socket
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["SinkReport", "client_frame", "masked", "run_sinks"]


@dataclass(slots=True)
class SinkReport:
    """Counts from the listeners' side.

    Attributes:
        joined: connections with a welcome message.
        lost: connections that the server closed.
        frames: received frames.
        bytes: received bytes.
        gaps: frames missing in the sequence.
        flagged: frames with the discontinuity flag.
    """

    joined: int = 0
    lost: int = 0
    frames: int = 0
    bytes: int = 0
    gaps: int = 0
    flagged: int = 0


def client_frame(text: str) -> bytes:
    """A masked WebSocket text frame of a client; up to 65,535 bytes."""
    return masked(0x81, text.encode())


def masked(first: int, data: bytes) -> bytes:
    """A masked WebSocket frame with this first byte; up to 65,535 bytes."""
    mask = os.urandom(4)
    masked = bytes(byte ^ mask[n % 4] for n, byte in enumerate(data))
    size = len(data)
    head = struct.pack("!BB", first, 0x80 | size) if size < 126 else struct.pack("!BBH", first, 0xFE, size)
    return head + mask + masked


class _Sink:
    """One listener with a minimal parser, for sequence numbers only."""

    __slots__ = ("buffer", "report", "seq", "shaken", "sock")

    def __init__(self, sock: socket.socket, report: SinkReport) -> None:
        self.sock = sock
        self.report = report
        self.buffer = b""
        self.shaken = False
        self.seq = -1

    def feed(self, data: bytes) -> None:
        report = self.report
        report.bytes += len(data)
        buffer = self.buffer + data if self.buffer else data
        at = 0
        if not self.shaken:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                self.buffer = buffer
                return
            if not buffer.startswith(b"HTTP/1.1 101"):
                raise ConnectionError(buffer[:80].decode("latin-1"))
            self.shaken = True
            report.joined += 1
            at = end + 4
        while len(buffer) - at >= 4:
            size, head = buffer[at + 1] & 127, 2
            if size == 126:
                size, head = int.from_bytes(buffer[at + 2 : at + 4], "big"), 4
            elif size == 127:
                size, head = int.from_bytes(buffer[at + 2 : at + 10], "big"), 10
            if len(buffer) - at < head + size:
                break
            if buffer[at] == 0x82:
                seq = int.from_bytes(buffer[at + head + 4 : at + head + 8], "little")
                if self.seq >= 0:
                    report.gaps += seq - self.seq - 1
                self.seq = seq
                report.frames += 1
                report.flagged += buffer[at + head + 3] & 1
            elif buffer[at] == 0x89:
                self.sock.send(masked(0x8A, buffer[at + head : at + head + size]))
            at += head + size
        self.buffer = buffer[at:]


def run_sinks(
    host: str,
    port: int | Sequence[int],
    count: int,
    seconds: float,
    joined: Callable[[], None] | None = None,
    path: str = "/ws/main",
    stop: Callable[[], bool] | None = None,
    report: SinkReport | None = None,
) -> SinkReport:
    """Join ``count`` passive Opus listeners and read for ``seconds`` after the last one has joined.

    Args:
        port: port, or ports that take the listeners in turn.
        joined: called after all have joined.
        stop: called ten times a second; True ends the measurement early.
        report: counts to add to, which may be read in ``stop``.
    """
    report = SinkReport() if report is None else report
    selector = selectors.DefaultSelector()
    sinks = []
    key = base64.b64encode(b"riffstream-bench").decode()
    ports = [port] if isinstance(port, int) else list(port)
    request = (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: riffstream.v1\r\n\r\n"
    ).encode()
    hello = client_frame(json.dumps({"type": "hello", "v": 1, "codecs": ["opus"], "steer": False}))

    def pump(timeout: float) -> None:
        for event, _ in selector.select(timeout):
            sink: _Sink = event.data
            try:
                data = sink.sock.recv(262_144)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if data:
                sink.feed(data)
            else:
                report.lost += 1
                selector.unregister(sink.sock)

    try:
        for number in range(count):
            sock = socket.create_connection((host, ports[number % len(ports)]))
            sock.sendall(request + hello)
            sock.setblocking(False)
            sink = _Sink(sock, report)
            sinks.append(sink)
            selector.register(sock, selectors.EVENT_READ, sink)
            pump(0.0)
        give_up = time.monotonic() + 60
        while report.joined < count and time.monotonic() < give_up:
            pump(0.05)
        if joined is not None:
            joined()
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not (stop is not None and stop()):
            pump(min(left, 0.1))
    finally:
        for sink in sinks:
            sink.sock.close()
        selector.close()
    return report
