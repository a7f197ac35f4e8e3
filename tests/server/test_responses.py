"""Faults in handlers: what the client gets, and what the log says."""

from __future__ import annotations

import asyncio
import logging
import socket

import pytest
from aiohttp import ClientSession

from riffstream.server.metrics import ServerMetrics
from tests.server.conftest import running
from tests.server.test_registry import until


@pytest.mark.parametrize(
    "fault", [ConnectionError("the worker hung up"), BrokenPipeError(), TimeoutError(), KeyError("x")], ids=repr
)
async def test_a_fault_of_the_servers_own_is_json_and_in_the_log(
    fault: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(metrics: ServerMetrics) -> None:
        raise fault

    monkeypatch.setattr(logging.getLogger("riffstream"), "propagate", True)
    monkeypatch.setattr(ServerMetrics, "collect", broken)
    async with running() as served, ClientSession() as session, session.get(f"{served.url}/metrics") as response:
        assert response.status == 500
        assert response.content_type == "application/json"
        assert (await response.json())["code"] == "internal"
        assert served.server.context.counters["errors"] == 1
    assert [record.getMessage() for record in caplog.records].count("request failed") == 1


async def test_a_client_that_hangs_up_is_no_fault(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its handler meets the closed connection; neither the log nor the count of errors fills."""
    monkeypatch.setattr(logging.getLogger("riffstream"), "propagate", True)
    async with running(speed=2.0) as served:
        broadcast = served.server.context.broadcasts["main"]
        port = int(served.url.rsplit(":", 1)[1])
        for path in ("/stream/main.mp3", "/api/stations/main/events"):
            sock = await asyncio.to_thread(socket.create_connection, ("127.0.0.1", port))
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            await until(lambda: len(broadcast.members) == 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # leave by a reset
            sock.close()
            await until(lambda: not broadcast.members)
        assert served.server.context.counters["errors"] == 0
        assert served.server.context.connections.open == 0
    assert "request failed" not in caplog.text
