"""A worker of a server: a relay of its first process (``_workers.py``), which sends its orders on stdin."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from typing import Any

import msgspec

from riffstream._malloc import fix_thresholds
from riffstream.config import Config, UpstreamAddress
from riffstream.relay.hub import RelayHub
from riffstream.server import logs
from riffstream.server.app import Server, loop_factory
from riffstream.server.binding import joined_sockets

__all__ = ["main"]


def main() -> None:
    """Serve until the first process ends, or until a signal."""
    fix_thresholds(own_pages_kb=128, keep_kb=1024)
    orders = json.loads(sys.stdin.readline())
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_serve(orders))


def worker_config(given: dict[str, Any], token: str) -> Config:
    """The configuration of a worker: without what only the first process does."""
    config = Config.from_dict(given)
    replace = msgspec.structs.replace
    return replace(
        config,
        server=replace(config.server, state_dir=""),  # the first process holds it
        limits=replace(config.limits, uploads=0, inputs=0, clips=0),
        relay=replace(config.relay, token=token, backoff_s=0.1, backoff_max_s=1.0),
        archive=replace(config.archive, dir="", stations=()),
        push={},
        webhooks={},
    )


async def _serve(orders: dict[str, Any]) -> None:
    config = worker_config(orders["config"], orders["token"])
    logs.configure(config.log.level, json_lines=config.log.format == "json")
    hub = RelayHub(config, (UpstreamAddress("ws://localhost", unix=orders["feed"]),), inside=True)
    server = Server(config, hub)
    server.catch_signals()
    if orders["files"]:
        sockets = [socket.socket(fileno=number) for number in orders["files"]]
        for each in sockets:
            each.setblocking(False)
    else:
        sockets = joined_sockets([tuple(each) for each in orders["addresses"]])
    hub_started = asyncio.create_task(_when_fed(hub, server, sockets, orders["own"]), name="start")
    orphaned = asyncio.create_task(_first_process_ended(server), name="orphan")
    running = asyncio.create_task(server.run(), name="run")
    try:
        await asyncio.wait({orphaned, running, hub_started}, return_when=asyncio.FIRST_COMPLETED)
        if hub_started.done():
            hub_started.result()  # a worker that cannot listen ends, and is replaced
            await asyncio.wait({orphaned, running}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        hub_started.cancel()
        orphaned.cancel()
        await asyncio.gather(hub_started, return_exceptions=True)
        await server.stop()
        running.cancel()
        await asyncio.gather(running, orphaned, return_exceptions=True)


async def _when_fed(hub: RelayHub, server: Server, sockets: list[socket.socket], own: str) -> None:
    await server.start(sockets)
    await server.listen_locally(own)


async def _first_process_ended(server: Server) -> None:
    """Wait for the end of the pipe from the first process, or for its last order: a new server has taken over."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    with contextlib.suppress(OSError):
        if await reader.read(1):
            server.handed_over = True


if __name__ == "__main__":
    main()
