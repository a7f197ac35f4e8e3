"""Requests and votes over both ways in: rights, rules, rates, and what everybody is told."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

import riffstream
from riffstream.client import RadioError
from riffstream.config import Config
from riffstream.errors import ParameterError
from tests.conftest import PATIENCE_S
from tests.relay.conftest import relaying
from tests.server.conftest import Running, running
from tests.server.test_moderation import judging
from tests.server.test_restart import Restartable
from tests.server.test_sockets import joined

OFTEN = {"request_interval_s": 0, "steer_interval_s": 0}
PROXY = {"trusted_proxies": ["127.0.0.1"]}


async def post(served: Running, status: int, /, *, token: str = "", address: str = "", **body: Any) -> Any:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    headers |= {"X-Forwarded-For": address} if address else {}
    url = f"{served.url}/api/stations/main/requests"
    async with ClientSession() as session, session.post(url, json=body, headers=headers) as answer:
        assert answer.status == status, await answer.text()
        return await answer.json() | {"retry": answer.headers.get("Retry-After")}


async def test_a_station_takes_no_requests_unless_it_is_told_to() -> None:
    async with running() as served, joined(served, codecs=[]) as client:
        assert (await client.message("welcome"))["requests"] is None
        await client.send(type="request", id="a", op="suggest", text="rain")
        refused = await client.message("rejected", id="a")
        assert (refused["code"], refused["message"]) == ("forbidden", "this station takes no requests")
        assert "no requests" in (await post(served, 403, op="suggest", text="rain"))["message"]
        url = f"{served.url}/api/stations/main/requests"
        async with ClientSession() as session, session.get(url) as answer:
            assert answer.status == 403


async def test_listeners_ask_and_vote_and_a_dj_takes() -> None:
    async with (
        running(requests=True, speed=4.0, access={"dj_token": "dj"}, limits=OFTEN) as served,
        joined(served, codecs=[]) as fan,
        joined(served, codecs=[], token="dj") as dj,
    ):
        assert (await fan.message("welcome"))["requests"] == {
            "items": [],
            "reactions": {"heart": 0, "fire": 0, "wow": 0},
        }
        await fan.send(type="request", id="a", op="suggest", text="  church \u0007 bells ")
        (item,) = (await fan.message("requests", id="a"))["requests"]["items"]
        assert (item["text"], item["votes"]) == ("church bells", 1)
        await fan.send(type="request", id="b", op="react", reaction="fire")
        await fan.message("requests", id="b")
        told = await dj.message("requests", id="")
        assert told["requests"]["items"] == [item]
        for op in ("take", "dismiss"):
            await fan.send(type="request", id=op, op=op, item=item["id"])
            assert (await fan.message("rejected", id=op))["code"] == "forbidden"
        await dj.send(type="request", id="c", op="take", item=item["id"])
        answer = await dj.message("requests", id="c")
        assert answer["requests"]["items"] == []
        assert answer["requests"]["reactions"]["fire"] == 1
        url = f"{served.url}/api/stations/main/reactions"
        async with ClientSession() as session:
            async with session.get(url) as refused:  # a listener
                assert refused.status == 403
            async with session.get(url, headers={"Authorization": "Bearer dj"}) as given:
                curve = await given.json()
        assert (curve["bucket_s"], len(curve["heart"]), sum(curve["fire"]), sum(curve["wow"])) == (10, 60, 1, 0)
        assert served.station.queued().items[0].prompts[0].text == "church bells"
        while (await fan.message("requests", id=""))["requests"]["items"]:  # everybody is told
            pass

        await fan.send(type="request", id="d", op="suggest", text="deep house")
        (item,) = (await fan.message("requests", id="d"))["requests"]["items"]
        await dj.send(type="request", id="e", op="take", item=item["id"], play="now")
        await dj.message("scheduled", id="e")
        await dj.message("applied", id="e")
        assert served.station.state.prompts[0].text == "deep house"
        await fan.send(type="request", id="k", op="suggest", text="wind")
        (item,) = (await fan.message("requests", id="k"))["requests"]["items"]
        await dj.send(type="request", id="l", op="take", item=item["id"], play="now")
        await dj.message("scheduled", id="l")
        await dj.send(type="steer", id="m", bpm=99)
        assert (await dj.message("superseded", id="l"))["by"] == "other"
        await fan.send(type="request", id="f", op="suggest", text="noise")
        (item,) = (await fan.message("requests", id="f"))["requests"]["items"]
        await dj.send(type="request", id="g", op="dismiss", item=item["id"])
        assert (await dj.message("requests", id="g"))["requests"]["items"] == []
        await dj.send(type="request", id="h", op="dismiss", item=item["id"])
        assert (await dj.message("rejected", id="h"))["field"] == "item"


async def test_one_suggestion_a_minute_from_each_address_and_one_vote_from_each_client() -> None:
    async with running(requests=True, server=dict(PROXY)) as served:
        made = await post(served, 200, address="198.51.100.7", op="suggest", text="rain")
        item = made["items"][0]["id"]
        refused = await post(served, 429, address="198.51.100.7", op="suggest", text="wind")
        assert refused["code"] == "rate_limited"
        assert 55 <= int(refused["retry"]) <= 60
        await post(served, 200, address="198.51.100.8", op="suggest", text="wind")
        for address, votes in (("198.51.100.7", 1), ("198.51.100.8", 2), ("198.51.100.8", 2), ("198.51.100.9", 3)):
            made = await post(served, 200, address=address, op="vote", item=item)
            assert made["items"][0]["votes"] == votes
        for _ in range(10):
            await post(served, 200, address="198.51.100.10", op="react", reaction="wow")
        assert (await post(served, 429, address="198.51.100.10", op="react", reaction="wow"))["code"] == "rate_limited"


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"op": "suggest"}, 400, "text is empty; allowed: 1 to 80 characters"),
        ({"op": "suggest", "text": " \u0007 "}, 400, "text is empty"),
        ({"op": "suggest", "text": "x" * 81}, 400, "text has 81 characters; allowed: up to 80"),
        ({"op": "suggest", "text": 5}, 400, "text"),
        ({"op": "suggest", "text": "\ud800"}, 400, "JSON is malformed"),
        ({"op": "suggest", "text": "rain", "item": 10**30}, 400, "item"),
        ({"op": "react"}, 400, "reaction is missing; allowed: heart, fire or wow"),
        ({"op": "react", "reaction": "tomato"}, 400, "heart, fire or wow"),
        ({"op": "vote"}, 400, "item is missing"),
        ({"op": "vote", "item": "r99"}, 400, "taken or dismissed"),
        ({"op": "sing"}, 400, "suggest, vote, take, dismiss or react"),
        ({"op": "vote", "itme": "r1"}, 400, "key 'itme'"),
        ({}, 400, "op"),
    ],
)
async def test_bad_messages_name_the_field_and_cost_nothing(body: dict[str, Any], status: int, words: str) -> None:
    async with running(requests=True) as served:
        assert words in (await post(served, status, **body))["message"]
        await post(served, 200, op="suggest", text="rain")  # the minute has not begun


async def test_the_rules_for_prompts_hold_before_anybody_sees_it() -> None:
    async with (
        judging() as judge,
        running(requests=True, limits=OFTEN, prompts={"blocked": ["vile"], "hook": judge.url}) as served,
    ):
        assert "not allowed here" in (await post(served, 400, op="suggest", text="a vile thing"))["message"]
        assert not judge.questions
        judge.answers["loud"] = {"action": "deny", "reason": "too loud"}
        judge.answers["raine"] = {"action": "rewrite", "prompts": ["rain"]}
        assert "too loud" in (await post(served, 400, op="suggest", text="loud"))["message"]
        made = await post(served, 200, op="suggest", text="raine")
        assert [item["text"] for item in made["items"]] == ["rain"]
        async with joined(served, codecs=[]) as client:
            welcome = await client.message("welcome")
            assert [item["text"] for item in welcome["requests"]["items"]] == ["rain"]
            await client.send(type="request", id="a", op="suggest", text="loud")
            assert (await client.message("rejected", id="a"))["code"] == "prompt_rejected"


async def test_what_cannot_be_played_stays_on_the_list() -> None:
    async with running(requests=True, limits=OFTEN) as served:
        item = (await post(served, 200, op="suggest", text="rain"))["items"][0]["id"]
        served.station.steerable = False
        assert (await post(served, 403, op="take", item=item))["code"] == "forbidden"
        served.station.steerable = True
        served.station.queue._most = 0
        assert "no queue" in (await post(served, 403, op="take", item=item))["message"]
        assert served.station.requested().items[0].text == "rain"  # type: ignore[union-attr]
        made = await post(served, 200, op="take", item=item, play="now")
        assert made["items"] == []
        assert served.station.state.prompts[0].text == "rain"


async def test_many_changes_are_told_once_a_second_and_reactions_fade(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("riffstream.server.broadcast.REACTIONS_EVERY_S", 0.2)
    monkeypatch.setattr("riffstream.station.requests.REACTION_S", 1.5)
    async with running(requests=True, limits=OFTEN) as served, joined(served, codecs=[]) as client:
        await client.message("welcome")
        for _ in range(8):
            await post(served, 200, op="react", reaction="heart")
        assert (await client.message("requests"))["requests"]["reactions"]["heart"] == 8
        while (await client.message("requests"))["requests"]["reactions"]["heart"]:
            pass
        assert len([each for each in client.messages if each["type"] == "requests"]) <= 10


async def test_nobody_floods_all_listeners_with_a_long_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("riffstream.server.broadcast.REQUESTS_EVERY_S", 0.02)
    monkeypatch.setattr("riffstream.server.broadcast.REQUESTS_BYTES_S", 150)  # one message a second
    async with running(requests=True, limits=OFTEN) as served, joined(served, codecs=[]) as client:
        await client.message("welcome")
        await post(served, 200, op="suggest", text="x" * 50)
        assert (await client.message("requests"))["requests"]["items"]
        begin = asyncio.get_running_loop().time()
        for _ in range(10):
            await post(served, 200, op="react", reaction="heart")
            await asyncio.sleep(0.05)
        while (await client.message("requests"))["requests"]["reactions"]["heart"] < 10:
            pass
        passed_s = asyncio.get_running_loop().time() - begin
        assert len([each for each in client.messages if each["type"] == "requests"]) <= 2 + passed_s / 0.9


async def test_a_suggestion_is_told_soon_while_reactions_wait_to_fade(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("riffstream.server.broadcast.REQUESTS_EVERY_S", 0.02)
    monkeypatch.setattr("riffstream.server.broadcast.REACTIONS_EVERY_S", 60.0)
    async with running(requests=True, limits=OFTEN) as served, joined(served, codecs=[]) as client:
        await client.message("welcome")
        await post(served, 200, op="react", reaction="heart")
        await client.message("requests")
        await post(served, 200, op="suggest", text="rain")
        assert (await client.message("requests"))["requests"]["items"]


async def test_server_sent_events_have_them() -> None:
    async with running(requests=True) as served, ClientSession() as session:
        async with session.get(f"{served.url}/api/stations/main/events") as events, asyncio.timeout(PATIENCE_S):
            await post(served, 200, op="suggest", text="rain")
            async for line in events.content:
                if line.startswith(b"event: requests"):
                    data = json.loads((await events.content.readline()).removeprefix(b"data: "))
                    break
        assert data["requests"]["items"][0]["text"] == "rain"


async def test_a_relay_passes_them_on() -> None:
    async with running(requests=True, speed=4.0, limits=OFTEN) as origin, relaying(origin.url) as relay:
        async with joined(relay, codecs=[]) as fan, joined(origin, codecs=[]) as dj:
            assert (await fan.message("welcome"))["requests"]["items"] == []
            await fan.send(type="request", id="a", op="suggest", text="rain")
            (item,) = (await fan.message("requests", id="a"))["requests"]["items"]
            assert (await dj.message("requests", id=""))["requests"]["items"] == [item]
            await post(relay, 200, op="react", reaction="wow")
            while not (await fan.message("requests", id=""))["requests"]["reactions"]["wow"]:
                pass
            await fan.send(type="request", id="b", op="take", item=item["id"], play="now")  # everybody steers here
            await fan.message("requests", id="b")
            assert origin.station.state.prompts[0].text == "rain"
            while (await fan.message("requests", id=""))["requests"]["items"]:
                pass
        async with joined(relay, codecs=[]) as late:
            assert (await late.message("welcome"))["requests"]["items"] == []


async def test_the_python_client_asks_votes_and_takes() -> None:
    async with (
        running(requests=True, speed=4.0, limits=OFTEN) as served,
        riffstream.connect(served.url, codec="none") as radio,
    ):
        assert radio.requests is not None
        made = await radio.change_requests("suggest", "rain")
        item = made.items[0].id
        assert (await radio.change_requests("vote", item=item)).items[0].votes == 1
        assert (await radio.change_requests("take", item=item, play="now")).items == ()
        await radio.steer(bpm=99)
        with pytest.raises(RadioError, match="taken or dismissed") as refused:
            await radio.change_requests("vote", item=item)
        assert refused.value.field == "item"
        with pytest.raises(ParameterError, match="itme"):
            await radio.change_requests("vote", itme=item)
        with pytest.raises(RadioError, match="heart, fire or wow"):
            await radio.change_requests("react", reaction="tomato")


@pytest.fixture
def restartable(tmp_path: Path) -> Iterator[Restartable]:
    made = Restartable(tmp_path)
    yield made
    if made.popen is not None:
        made.end(signal.SIGKILL)


async def test_requests_survive_a_restart(restartable: Restartable, monkeypatch: pytest.MonkeyPatch) -> None:
    config = restartable.folder / "config.toml"
    config.write_text("[stations.main]\nrequests = true\n")
    monkeypatch.setenv("RIFFSTREAM_CONFIG", str(config))
    await asyncio.to_thread(restartable.start)
    async with riffstream.connect(restartable.url, codec="none") as radio:
        await radio.change_requests("suggest", "church bells")
    await asyncio.to_thread(restartable.wait_ready)
    await asyncio.sleep(1)
    await asyncio.to_thread(restartable.end, signal.SIGTERM)
    await asyncio.to_thread(restartable.start)
    async with riffstream.connect(restartable.url, codec="none") as radio:
        assert radio.requests is not None
        assert [(item.text, item.votes) for item in radio.requests.items] == [("church bells", 1)]


def test_limits_have_ranges() -> None:
    assert not Config().stations["main"].requests
    for key, value in (("requests", 0), ("request_chars", 301), ("request_interval_s", -1)):
        with pytest.raises(ParameterError, match=f"limits.{key} is {value}; allowed"):
            Config.from_dict({"limits": {key: value}})
