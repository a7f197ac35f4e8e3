"""A reader like an ESP32's, in a process of its own: ``python slow_reader.py URL SECONDS`` writes what it reads.

It has a small receive buffer and reads a little at a time, little faster than the stream plays. The pauses are taken
from a clock, so that a late wake-up is made up for.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from urllib.parse import urlsplit


def main(url: str, seconds: float) -> int:
    parts = urlsplit(url)
    size, pause = (2048, 0.002) if parts.path.endswith("wav") else (512, 0.005)
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 5744)
        sock.settimeout(30)
        sock.connect((parts.hostname, parts.port))
        sock.sendall(f"GET {parts.path} HTTP/1.1\r\nHost: {parts.hostname}\r\nConnection: close\r\n\r\n".encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += sock.recv(1)
        if b"transfer-encoding" in head.lower():
            print("chunk sizes between the sound", file=sys.stderr)
            return 1
        due = time.monotonic()
        deadline = due + seconds + 30
        with contextlib.suppress(BrokenPipeError):
            while time.monotonic() < deadline and (data := sock.recv(size)):
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
                due += pause
                time.sleep(max(0.0, due - time.monotonic()))
    return 0


if __name__ == "__main__":
    status = main(sys.argv[1], float(sys.argv[2]))
    sys.stdout = None  # the decoder may have left: nothing is flushed at the end
    sys.exit(status)
