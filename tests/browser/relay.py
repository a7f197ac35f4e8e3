"""A relay on the way to a server, whose connections a test cuts or lets hang."""

from __future__ import annotations

import contextlib
import socket
import threading


class Relay:
    """Passes bytes on, both ways, between its clients and a port of this machine.

    Args:
        port: where the server listens.

    Threading model
      Accepting thread   one; starts two threads for each connection, one a direction.
      Any thread         cut(), hang(), close().
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.requests: list[str] = []  # the first line of each connection's first request
        self._lines: list[_Line] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listening.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self.port), 10)
                except OSError:
                    client.close()  # as a proxy does whose server is gone
                    continue
                self._lines.append(_Line(self, client, server))

    def cut(self, path: str) -> int:
        """End the connections that asked for a path with these words; how many there were."""
        lines = [line for line in self._lines if path in line.request and not line.over]
        for line in lines:
            line.close()
        return len(lines)

    def hang(self, path: str) -> int:
        """Pass nothing on any more on the connections that asked for a path with these words; how many there were."""
        lines = [line for line in self._lines if path in line.request and not line.over]
        for line in lines:
            line.hangs = True
        return len(lines)

    def close(self) -> None:
        """End everything."""
        self._listening.close()
        for line in self._lines:
            line.close()


class _Line:
    """One connection and its other half."""

    def __init__(self, relay: Relay, client: socket.socket, server: socket.socket) -> None:
        self.relay, self.client, self.server = relay, client, server
        self.request = ""
        self.hangs = self.over = False
        for source, target in ((client, server), (server, client)):
            threading.Thread(target=self._pass, args=(source, target), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if source is self.client and data.startswith((b"GET ", b"HEAD ")):  # connections are used again
                    self.request = data.split(b"\r\n", 1)[0].decode("latin-1")
                    self.relay.requests.append(self.request)
                if not self.hangs:
                    target.sendall(data)
        self.close()

    def close(self) -> None:
        self.over = True
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
