from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from riffstream.commands.relay import relay_config
from riffstream.config import Config
from riffstream.relay.hub import RelayHub
from riffstream.server.app import Server
from tests.conftest import PATIENCE_S
from tests.server.conftest import Running

__all__ = ["relaying", "until"]


async def until(true: Callable[[], object], seconds: float = PATIENCE_S) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def relaying(*upstreams: str, wait: bool = True, **sections: dict[str, Any]) -> AsyncIterator[Running]:
    """A relay in this process."""
    sections.setdefault("server", {}).setdefault("drain_s", 1.0)
    sections["server"].setdefault("port", 0)
    sections.setdefault("relay", {})["upstreams"] = upstreams
    sections["relay"].setdefault("backoff_s", 0.2)
    config = relay_config(Config.from_dict(sections))
    hub = RelayHub(config)
    server = Server(config, hub)
    await server.start()
    try:
        if wait:
            await hub.wait_ready(30)
        yield Running(server, hub)  # type: ignore[arg-type]
    finally:
        await server.stop()
