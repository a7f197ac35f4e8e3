"""A server that follows a script, for tests of the client."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from websockets.asyncio.server import Server as SocketServer
from websockets.asyncio.server import ServerConnection, serve

from riffstream import protocol


@contextlib.asynccontextmanager
async def scripted(*answers: str | bytes) -> AsyncIterator[tuple[str, list[Any]]]:
    """A server that says these things after hello, whatever comes."""
    heard: list[Any] = []

    async def handle(connection: ServerConnection) -> None:
        heard.append(json.loads(await connection.recv()))
        for answer in answers:
            await connection.send(answer)
        async for message in connection:
            heard.append(json.loads(message))

    server: SocketServer
    async with serve(handle, "127.0.0.1", 0, subprotocols=["riffstream.v1"]) as server:  # type: ignore[list-item]
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", heard


def welcome() -> str:
    state = protocol.State(prompts=(protocol.Prompt(text="x"),))
    return protocol.encode(
        protocol.Welcome(
            v=1, session="s", role="dj", station="main", sample_rate=48000, channels=2, codec="pcm_s16", frame_ms=20,
            sample_pos=0, rev=0, state=state, limits=protocol.Limits(), caps=protocol.Caps(),
        )
    )  # fmt: skip
