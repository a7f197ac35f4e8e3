from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from websockets.asyncio.client import connect

from riffstream.config import Config
from riffstream.server.app import Server
from tests.server.fakes import FakeHub, FakeStation

Serve = Callable[..., contextlib.AbstractAsyncContextManager["Running"]]


def open_socket(url: str, **options: Any) -> connect:
    """A client's socket. Audio that the test has not read would hold up its closing, by ten seconds by default."""
    return connect(url, close_timeout=0.2, **options)


class Running:
    """A server on loopback, and the station that it plays."""

    def __init__(self, server: Server, hub: FakeHub) -> None:
        self.server = server
        self.hub = hub
        self.url = server.url

    @property
    def station(self) -> FakeStation:
        return self.hub.stations["main"]

    def ws(self, path: str = "main") -> str:
        return f"{self.url.replace('http', 'ws', 1)}/ws/{path}"


@contextlib.asynccontextmanager
async def running(
    *names: str, speed: float | None = None, preroll: int = 48_000, requests: bool = False, **sections: dict[str, Any]
) -> AsyncIterator[Running]:
    """``running(limits={"steer_burst": 100})``: a server with these settings.

    Args:
        names: stations.
        speed: they play by themselves, so many times as fast as real time.
        preroll: samples that they have committed.
        requests: they take requests.
        sections: of the configuration.
    """
    sections.setdefault("server", {}).setdefault("drain_s", 1.0)
    sections["server"].setdefault("port", 0)
    sections["limits"] = {"upload_s": 60.0, **sections.get("limits", {})}  # a busy machine decodes slowly
    hub = FakeHub(*names, speed=speed, preroll=preroll, requests=requests)
    server = Server(Config.from_dict(sections), hub)
    await server.start()
    try:
        yield Running(server, hub)
    finally:
        await server.stop()


@pytest.fixture
async def live() -> AsyncIterator[Running]:
    """A server whose station plays ten times as fast as real time."""
    async with running(speed=10.0) as served:
        yield served
