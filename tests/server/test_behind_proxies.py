"""The recipes of docs/server.md in real nginx and Caddy, at the root and below a path, plain and with TLS."""

from __future__ import annotations

import asyncio
import io
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, TCPConnector

from tests import reverse_proxies
from tests.conftest import PATIENCE_S
from tests.server.conftest import running
from tests.server.test_sockets import HELLO

KINDS = [(program, prefix, tls) for program in ("nginx", "caddy") for prefix in (False, True) for tls in (False, True)]


@pytest.mark.parametrize(("program", "prefix", "tls"), KINDS)
async def test_the_documented_recipe_serves_steers_and_streams(
    program: str, prefix: bool, tls: bool, need_tool: Callable[[str], str], tmp_path: Path
) -> None:
    path = need_tool(program)
    if tls:
        need_tool("openssl")
    start = reverse_proxies.nginx if program == "nginx" else reverse_proxies.caddy
    server = {"trusted_proxies": ["127.0.0.1"]}
    async with running(server=server, speed=1.0) as served:
        backend = int(served.url.rpartition(":")[2])
        text = reverse_proxies.recipe(program, prefix=prefix, backend=backend)
        root = reverse_proxies.PREFIX if prefix else ""
        with start(path, tmp_path / program, text, prefix=root, tls=tls) as proxy:
            async with (
                ClientSession(connector=TCPConnector(ssl=reverse_proxies.insecure())) as session,
                asyncio.timeout(PATIENCE_S),
            ):
                await check(session, proxy.url, root)


async def check(session: ClientSession, url: str, root: str) -> None:
    """Everything that a listener and the owner's page need, at the proxy's address."""
    async with session.get(f"{url}/") as response:
        page = await response.text()
        assert response.status == 200
        assert f'"og:url" content="{url}/?station=main"' in page
    script = re.search(rf'src="{re.escape(root or ".")}(/static/[0-9a-f]{{16}}/src/ui/app.js)"', page)
    assert script is not None
    async with session.get(f"{url}{script[1]}") as response:
        assert (response.status, response.content_type) == (200, "text/javascript")
    if root:
        async with session.get(url) as response:  # without the slash at its end
            assert (response.status, str(response.url)) == (200, f"{url}/")
    async with session.get(f"{url}/listen/main.m3u") as response:
        assert f"{url}/stream/main.mp3" in await response.text()
    async with session.get(f"{url}/status-json.xsl") as response:
        assert (await response.json())["icestats"]["source"][0]["listenurl"] == f"{url}/stream/main.mp3"
    async with session.post(
        f"{url}/api/seeds", data=io.BytesIO(bytes(3_000_000)), headers={"Origin": origin_of(url)}
    ) as response:
        # 3 MB of nothing get through, and are no music.
        assert response.status == 415, await response.text()
    events: asyncio.Queue[str] = asyncio.Queue()
    listening = asyncio.create_task(listen(session, f"{url}/api/stations/main/events", events))
    assert '"now"' in await asyncio.wait_for(events.get(), PATIENCE_S)
    async with session.ws_connect(f"{url}/ws/main", origin=origin_of(url)) as socket:
        await socket.send_json(HELLO | {"codecs": []})
        welcome = await receive(socket, "welcome")
        assert (welcome["role"], welcome["reason"]) == ("owner", None)
        await socket.send_json({"type": "steer", "id": "a", "prompts": [{"text": "church bells"}]})
        await receive(socket, "applied")
    while "church bells" not in await asyncio.wait_for(events.get(), PATIENCE_S):
        pass
    listening.cancel()
    async with session.get(f"{url}/stream/main.mp3") as response:
        began, count, gap = time.monotonic(), 0, 0.0
        while count < 60_000:  # 24 kB at once, then 16 kB a second
            at = time.monotonic()
            count += len(await response.content.readany())
            gap = max(gap, time.monotonic() - at)
        assert gap < 1.5, "a stretch of sound was held back"
        assert time.monotonic() - began > 1.0, "the station plays in real time"


def origin_of(url: str) -> str:
    return "/".join(url.split("/")[:3])


async def receive(socket: Any, kind: str) -> dict[str, Any]:
    while True:
        message: dict[str, Any] = json.loads(await socket.receive_str(timeout=PATIENCE_S))
        if message["type"] == kind:
            return message


async def listen(session: ClientSession, url: str, events: asyncio.Queue[str]) -> None:
    async with session.get(url) as response:
        async for line in response.content:
            if line.startswith(b"data:"):
                events.put_nowait(line.decode())
