"""Private stations end when they are left, whatever else happens to them meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from riffstream.server import context as module
from tests.server.conftest import running
from tests.server.test_sockets import joined


async def test_private_stations_end_when_everyone_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PRIVATE_IDLE_S", 0.4)
    async with running("private-a", "private-b", "private-c") as served:
        stations = served.hub.stations
        async with joined(served, "private-b"):
            await asyncio.sleep(0.2)
            await served.hub.delete("private-c")  # by its owner
            async with asyncio.timeout(5):
                while "private-a" in stations:
                    await asyncio.sleep(0.02)
            await served.hub.create("private-c")
            await asyncio.sleep(0.1)
            assert set(stations) == {"private-b", "private-c"}
        async with asyncio.timeout(5):
            while stations:
                await asyncio.sleep(0.02)
        assert not served.server.context._empty_since
