"""The queue over the socket and over HTTP: rights, errors, rates, and what the others are told."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiohttp import ClientSession

import riffstream
from riffstream.client import RadioError
from riffstream.server.limits import AddressBuckets
from tests.conftest import PATIENCE_S
from tests.server.conftest import Running, open_socket, running
from tests.server.test_sockets import HELLO, Client

BELLS = {"op": "add", "prompts": [{"text": "church bells"}], "bars": 16}


async def post(url: str, body: Any, *, token: str | None = None, raw: bytes | None = None) -> tuple[int, Any]:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    data = raw if raw is not None else json.dumps(body).encode()
    async with ClientSession() as session, session.post(url, data=data, headers=headers) as response:
        return response.status, await response.json()


async def test_a_change_is_answered_and_everybody_is_told(live: Running) -> None:
    async with open_socket(live.ws()) as one, open_socket(live.ws()) as two:
        dj, other = Client(one), Client(two)
        for client in (dj, other):
            await client.send(**{**HELLO, "codecs": []})
            assert (await client.message("welcome"))["queue"]["items"] == []
        await dj.send(type="queue", id="7", **BELLS)
        answer = await dj.message("queue", id="7")
        told = await other.message("queue", id="")
        assert answer["queue"] == told["queue"]
        (item,) = told["queue"]["items"]
        assert (item["prompts"][0]["text"], item["bars"], item["ramp_bars"]) == ("church bells", 16, 0)
        await dj.send(type="queue", id="8", op="remove", item="nope")
        refused = await dj.message("rejected", id="8")
        assert (refused["code"], refused["field"]) == ("bad_request", "item")
        await dj.send(type="queue", id="9", op="add", prompts=[{"text": "x"}], bars=0)
        refused = await dj.message("rejected", id="9")
        assert refused["field"] == "bars"
        assert "1 to 1024" in refused["message"]
    async with open_socket(live.ws()) as late:  # it stays without its sender
        client = Client(late)
        await client.send(**{**HELLO, "codecs": []})
        welcome = await client.message("welcome")
        assert welcome["queue"]["items"] == [item]
        assert welcome["limits"]["queue"] == 32


async def test_a_listener_sees_the_queue_and_may_not_change_it() -> None:
    async with running(access={"dj_token": "dj"}) as served, open_socket(served.ws()) as socket:
        client = Client(socket)
        await client.send(**{**HELLO, "codecs": []})
        await client.message("welcome")
        await client.send(type="queue", id="1", **BELLS)
        assert (await client.message("rejected", id="1"))["code"] == "forbidden"
        url = f"{served.url}/api/stations/main/queue"
        assert (await post(url, BELLS))[0] == 403
        assert (await post(url, BELLS, token="wrong"))[0] == 401
        status, queue = await post(url, BELLS, token="dj")
        assert (status, len(queue["items"])) == (200, 1)
        assert (await client.message("queue"))["queue"] == queue
        async with ClientSession() as session, session.get(url) as response:
            assert await response.json() == queue


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"op": "add"}, 400, "prompts is missing"),
        ({"op": "dance"}, 400, "op"),
        ({"op": "add", "prompts": [{"text": "x"}], "bars": 9999}, 400, "1 to 1024 bars"),
        ({"op": "add", "prompts": [{"text": "x"}], "bpm": 20}, 400, "40 to 240"),
        ({"op": "add", "prompts": [{"text": "\u0007"}]}, 400, "empty"),
        ({"op": "move", "item": "q9", "to": 0}, 400, "not in the queue"),
        ({**BELLS, "colour": "red"}, 400, "'colour'; allowed: op"),
        ([], 400, "the body is []; allowed: a JSON object"),
    ],
)
async def test_a_bad_change_over_http_names_the_field(live: Running, body: Any, status: int, words: str) -> None:
    found, answer = await post(f"{live.url}/api/stations/main/queue", body)
    assert (found, words in answer["message"]) == (status, True), answer


async def test_a_full_queue_a_flood_and_no_json(live: Running) -> None:
    url = f"{live.url}/api/stations/main/queue"
    live.server.context.queue_buckets = AddressBuckets(3600, 40)  # none comes back while a slow machine asks
    assert (await post(url, None, raw=b"\xff{"))[0] == 400
    for _ in range(32):
        assert (await post(url, BELLS))[0] == 200
    status, answer = await post(url, BELLS)
    assert (status, answer["code"]) == (503, "busy")
    assert "up to 32" in answer["message"]
    statuses = [(await post(url, {"op": "loop", "loop": True}))[0] for _ in range(30)]
    assert statuses[-1] == 429


async def test_events_and_the_python_client_follow_the_queue(live: Running) -> None:
    async with (
        ClientSession() as session,
        session.get(f"{live.url}/api/stations/main/events") as events,
        riffstream.connect(live.url, codec="none") as radio,
        riffstream.connect(live.url, codec="none") as other,
    ):
        assert radio.queue.items == ()
        queue = await radio.change_queue("add", ["rain", ("piano", 0.5)], bars=4, bpm=90)
        assert [part.text for part in queue.items[0].prompts] == ["rain", "piano"]
        assert radio.queue == queue
        async with asyncio.timeout(PATIENCE_S):
            while other.queue != queue:
                await asyncio.sleep(0.02)
            async for line in events.content:
                if line == b"event: queue\n":
                    break
        with pytest.raises(RadioError, match="not in the queue") as refused:
            await radio.change_queue("remove", item="nope")
        assert refused.value.field == "item"
        with pytest.raises(RadioError, match="1 to 1024") as refused:
            await radio.change_queue("edit", item="q0", bars=0)
        with pytest.raises(riffstream.errors.ParameterError, match="colour"):
            await radio.change_queue("add", "x", colour="red")
        assert (await radio.change_queue("clear")).items == ()


async def test_a_blocked_prompt_does_not_enter_the_queue() -> None:
    async with running(prompts={"blocked": ["fnord"]}) as served:
        status, answer = await post(
            f"{served.url}/api/stations/main/queue", {"op": "add", "prompts": [{"text": "a Fnord waltz"}]}
        )
        assert status == 400, answer
        async with open_socket(served.ws()) as socket:
            client = Client(socket)
            await client.send(**{**HELLO, "codecs": []})
            await client.message("welcome")
            await client.send(type="queue", id="1", op="add", prompts=[{"text": "a Fnord waltz"}])
            assert (await client.message("rejected", id="1"))["code"] == "prompt_rejected"
            await client.send(type="queue", id="2", **BELLS)
            assert len((await client.message("queue", id="2"))["queue"]["items"]) == 1
