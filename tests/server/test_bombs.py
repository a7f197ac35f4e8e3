"""Bodies and messages that are larger than they look."""

from __future__ import annotations

import gzip
import json
import zlib

import pytest
from aiohttp import ClientSession, WSMsgType

from tests.server.conftest import running

ZEROS = b" " * 50_000_000


@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
@pytest.mark.parametrize("path", ["/api/stations", "/api/seeds", "/run_inference/"])
async def test_a_compressed_body_counts_as_what_it_expands_to(coding: str, pack: object, path: str) -> None:
    body = pack(b'{"id": "' + ZEROS)  # type: ignore[operator]
    assert len(body) < 100_000
    headers = {"Content-Encoding": coding, "Content-Type": "application/json"}
    async with running() as served, ClientSession() as http:
        async with http.post(f"{served.url}{path}", data=body, headers=headers) as answer:
            assert answer.status in (400, 413), await answer.text()
            assert len(await answer.read()) < 2000
        async with http.get(f"{served.url}/healthz") as answer:
            assert answer.status == 200


async def test_sockets_refuse_messages_above_the_limit() -> None:
    async with running(limits={"message_bytes": 36_864}) as served, ClientSession() as http:
        async with http.ws_connect(served.ws(), compress=15) as socket:
            assert not socket.compress  # nothing that expands is agreed on
            await socket.send_str(json.dumps({"type": "hello", "v": 1, "codecs": []}))
            await socket.send_str('{"type": "steer", "id": "' + "x" * 40_000 + '"}')
            while (message := await socket.receive(20)).type is WSMsgType.TEXT:
                if "rejected" in message.data:
                    assert "40" in message.data
                    break
            else:
                assert message.type in (WSMsgType.CLOSE, WSMsgType.CLOSED)
        async with http.get(f"{served.url}/healthz") as answer:
            assert answer.status == 200
