"""Webhooks: signed, in order, retried, bounded, and to the configured host only."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from email.utils import formatdate

import aiohttp
import msgspec
import pytest
from aiohttp import web

from riffstream import protocol
from riffstream.server.webhooks import _pause_s, signature
from tests.conftest import PATIENCE_S
from tests.server.conftest import running
from tests.server.fakes import FakeStation

SECRET = "whsec_" + base64.b64encode(b"a secret of twenty-four").decode()


class Receiver:
    """An address that answers with the statuses given, then with 200."""

    def __init__(self, *statuses: int, headers: dict[str, str] | None = None) -> None:
        self.statuses = list(statuses)
        self.headers = headers or {}
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        self.requests.append((dict(request.headers), await request.read()))
        await self.gate.wait()
        return web.Response(status=self.statuses.pop(0) if self.statuses else 200, headers=self.headers)

    @property
    def titles(self) -> list[str]:
        bodies = [json.loads(body) for _, body in self.requests]
        return [body["data"]["state"]["prompts"][0]["text"] for body in bodies if body["type"] == "now"]


@contextlib.asynccontextmanager
async def receiving(*statuses: int, headers: dict[str, str] | None = None) -> AsyncIterator[Receiver]:
    receiver = Receiver(*statuses, headers=headers)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    receiver.url = f"http://{host}:{port}/hook"
    try:
        yield receiver
    finally:
        receiver.gate.set()
        await runner.cleanup()


async def until(true: Callable[[], bool], what: str, seconds: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.02)


def play(station: FakeStation, text: str) -> None:
    station.state = msgspec.structs.replace(station.state, prompts=(protocol.Prompt(text=text),))
    station.tell(station.now())


async def test_messages_arrive_signed_and_in_order() -> None:
    async with receiving() as receiver:
        hook = {"url": receiver.url, "secret": SECRET}
        async with running(webhooks={"home": hook}) as served:
            await until(lambda: len(receiver.requests) == 1, "the present music")
            for text in ("one", "two", "three"):
                play(served.station, text)
            served.station.tell(protocol.Event(kind="listeners", listeners=3))
            await until(lambda: len(receiver.requests) == 5, "delivered")
            assert receiver.titles == ["a test tone", "one", "two", "three"]
            last = json.loads(receiver.requests[-1][1])
            assert (last["type"], last["station"], last["data"]["listeners"]) == ("event", "main", 3)
            assert len({headers["webhook-id"] for headers, _ in receiver.requests}) == 5
            for headers, body in receiver.requests:
                # By the text of the specification, without our own function.
                signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
                right = base64.b64encode(hmac.new(b"a secret of twenty-four", signed, hashlib.sha256).digest()).decode()
                assert headers["webhook-signature"] == f"v1,{right}"
                assert abs(int(headers["webhook-timestamp"]) - time.time()) < 30
            assert served.server.context.webhooks["home"].figures()["delivered"] == 5


async def test_a_failed_message_comes_again_with_its_id_before_later_ones() -> None:
    async with receiving(500, 503, 404) as receiver:
        hook = {"url": receiver.url, "backoff_s": 0.05, "backoff_max_s": 0.1}
        async with running(webhooks={"home": hook}) as served:
            await until(lambda: bool(receiver.requests), "the first")
            play(served.station, "later")
            await until(lambda: served.server.context.webhooks["home"].delivered == 2, "delivered")
            ids = [headers["webhook-id"] for headers, _ in receiver.requests]
            assert ids[0] == ids[1] == ids[2] == ids[3] != ids[4]
            assert receiver.titles == ["a test tone"] * 4 + ["later"]
            assert "webhook-signature" not in receiver.requests[0][0]
            figures = served.server.context.webhooks["home"].figures()
            assert (figures["failures"], figures["dropped"], figures["problem"]) == (3, 0, "")


async def test_a_message_is_given_up_after_its_attempts_and_after_gone() -> None:
    async with receiving(500, 500, 410) as receiver:
        hook = {"url": receiver.url, "backoff_s": 0.05, "attempts": 2}
        async with running(webhooks={"home": hook}) as served:
            await until(lambda: bool(receiver.requests), "the first")
            play(served.station, "gone")
            play(served.station, "arrives")
            await until(lambda: served.server.context.webhooks["home"].delivered == 1, "the third")
            assert receiver.titles == ["a test tone", "a test tone", "gone", "arrives"]
            assert served.server.context.webhooks["home"].dropped == 2


@pytest.mark.parametrize("kind", ["seconds", "date"])
async def test_a_receiver_may_ask_for_a_pause(kind: str) -> None:
    asked = "1" if kind == "seconds" else formatdate(time.time() + 2.99, usegmt=True)  # dates have whole seconds
    async with receiving(429, headers={"Retry-After": asked}) as receiver:
        hook = {"url": receiver.url, "backoff_s": 0.05}
        async with running(webhooks={"home": hook}) as served:
            began = time.monotonic()
            await until(lambda: served.server.context.webhooks["home"].delivered >= 1, "delivered")
            assert time.monotonic() - began > 0.75


@pytest.mark.parametrize("given", ["", "soon", "999999abc", "-5", "1e9", "Wed, 99 Oct 2026", "\u0663"])
def test_a_pause_that_cannot_be_read_is_none(given: str) -> None:
    assert _pause_s(given) == 0.0


async def test_a_stalled_receiver_fills_a_bounded_queue_and_the_station_plays_on() -> None:
    async with receiving() as receiver:
        receiver.gate.clear()
        hook = {"url": receiver.url, "queue": 5, "timeout_s": 5.0}
        async with running(speed=1.0, webhooks={"home": hook}) as served, aiohttp.ClientSession() as session:
            await until(lambda: len(receiver.requests) == 1, "the first")
            for number in range(20):
                play(served.station, f"prompt {number}")
            async with session.get(f"{served.url}/healthz") as answer:
                about = (await answer.json())["webhooks"]["home"]
            assert (about["waiting"], about["dropped"]) == (5, 15)
            before = served.station.committed
            await until(lambda: served.station.committed > before, "it plays on")
            receiver.gate.set()
            await until(lambda: served.server.context.webhooks["home"].delivered == 6, "the newest")
            assert receiver.titles[1:] == [f"prompt {number}" for number in range(15, 20)]
            async with session.get(f"{served.url}/metrics") as answer:
                assert 'riffstream_webhook_dropped_total{webhook="home"} 15.0' in await answer.text()


async def test_a_redirect_is_not_followed_and_no_proxy_is_asked(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with receiving() as inner:
        monkeypatch.setenv("http_proxy", inner.url)
        async with receiving(302, 307, headers={"Location": inner.url}) as receiver:
            hook = {"url": receiver.url + "/secret-path", "backoff_s": 0.05}
            async with running(webhooks={"home": hook}) as served:
                await until(lambda: served.server.context.webhooks["home"].delivered == 1, "delivered")
            assert len(receiver.requests) == 3
            assert inner.requests == []
    failed = next(each for each in caplog.records if each.getMessage() == "webhook failed")
    assert failed.field_problem == "the answer is 302"  # type: ignore[attr-defined]
    assert "secret-path" not in failed.field_to  # type: ignore[attr-defined]


async def test_only_the_asked_messages_of_the_asked_station() -> None:
    async with receiving() as receiver:
        hook = {"url": receiver.url, "events": ["event"], "station": "two"}
        stations = {"main": {}, "two": {}}
        async with running("main", "two", webhooks={"home": hook}, stations=stations) as served:
            await asyncio.sleep(0.1)
            play(served.station, "not sent")
            served.station.tell(protocol.Event(kind="listeners", listeners=1))
            served.hub.stations["two"].tell(protocol.Event(kind="listeners", listeners=2))
            await until(lambda: len(receiver.requests) == 1, "one")
            assert json.loads(receiver.requests[0][1])["data"] == {"kind": "listeners", "listeners": 2}


def test_the_example_of_the_specification() -> None:
    """The vector of Standard Webhooks' own libraries."""
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    found = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
