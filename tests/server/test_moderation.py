"""Rules for prompts: the block-list and the hook, on every way in which a prompt enters."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from riffstream.config import Config
from riffstream.errors import ParameterError
from riffstream.protocol import ProtocolError
from riffstream.server.hooks import ANSWER_BYTES
from riffstream.server.moderation import Moderation, Texts
from tests.conftest import PATIENCE_S
from tests.server.conftest import Running, open_socket, running
from tests.server.test_sockets import joined

FREE = {"steer_interval_s": 0.0, "steer_burst": 100, "clip_interval_s": 0.0}


class Judge:
    """A service that answers with what a test gives it."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}  # by the first prompt
        self.default: Any = {"action": "allow"}
        self.questions: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        question = await request.json()
        self.questions.append(question)
        self.headers.append(dict(request.headers))
        await self.gate.wait()
        answer = self.answers.get((question.get("prompts") or [question.get("token")])[0], self.default)
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if isinstance(answer, web.Response):
            return answer
        return web.json_response(answer)


@contextlib.asynccontextmanager
async def judging() -> AsyncIterator[Judge]:
    judge = Judge()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", judge.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    judge.url = f"http://{host}:{port}/judge"
    try:
        yield judge
    finally:
        await runner.cleanup()


async def post(served: Running, path: str, body: Any) -> tuple[int, dict[str, Any]]:
    async with aiohttp.ClientSession() as session, session.post(served.url + path, json=body) as answer:
        return answer.status, await answer.json()


def clip(prompt: str, negative: str = "") -> dict[str, Any]:
    part = {"prompt": prompt, "seed": 1, "negative_prompt": negative}
    return {"start": part, "end": {**part, "prompt": "piano"}, "alpha": 0.5, "seed_image_id": "og_beat"}


async def test_a_blocked_word_is_refused_on_every_way_in() -> None:
    async with running(prompts={"blocked": ["vile", "rude phrase"]}, limits=FREE) as served:
        async with joined(served) as client:
            await client.message("welcome")
            for number, fields in enumerate(
                ({"prompts": [{"text": "VILE noise"}]}, {"prompts": [{"text": "a"}], "negative": "rude  phrase"})
            ):
                await client.send(type="steer", id=str(number), **fields)
                refused = await client.message("rejected")
                assert (refused["id"], refused["code"]) == (str(number), "prompt_rejected")
                assert refused["field"] == ("prompts", "negative")[number]
                assert "vile" not in refused["message"].lower()
            await client.send(type="steer", id="ok", prompts=[{"text": "vileness"}])
            await client.message("scheduled", id="ok")
        async with open_socket(served.ws("main/plain")) as plain:
            await plain.send("so vile")
            async with asyncio.timeout(PATIENCE_S):
                while not (isinstance(line := await plain.recv(), str) and line.startswith("error")):
                    pass
            assert line.startswith("error prompt_rejected")
        for body in (
            {"id": "new", "prompts": ["nice", "vile"]},
            {"id": "new", "prompts": ["nice"], "negative": "vile"},
            {"id": "new", "title": "Vile FM"},
            {"id": "new", "description": "a rude phrase"},
        ):
            assert (await post(served, "/api/stations", body))[0] == 400
        assert "new" not in served.hub.stations
        for body in (clip("vile"), clip("nice", "vile")):
            status, answer = await post(served, "/run_inference/", body)
            assert status == 400
            assert "not allowed" in answer["message"]
        assert [each.prompts[0].text for each in served.station.steers] == ["vileness"]  # type: ignore[union-attr,index]


async def test_the_hook_allows_denies_rewrites_and_holds() -> None:
    async with judging() as judge, running(prompts={"hook": judge.url, "hook_secret": "s" * 20}, limits=FREE) as served:
        judge.answers = {
            "no": {"action": "deny", "reason": "not\nhere"},
            "change": {"action": "rewrite", "prompts": ["changed"], "negative": "less"},
            "later": [{"action": "hold", "retry_s": 0.2}, {"action": "allow"}],
        }
        async with joined(served) as client:
            await client.message("welcome")
            for ident in ("yes", "no", "change", "later"):
                await client.send(type="steer", id=ident, prompts=[{"text": ident, "weight": 2.0}], negative="n")
            refused = await client.message("rejected")
            assert (refused["id"], refused["code"]) == ("no", "prompt_rejected")
            assert refused["message"].endswith(": not here")
            await client.message("scheduled", id="later")
            await client.send(type="steer", id="desk", mix={"low": -3})
            await client.message("scheduled", id="desk")
        steers: list[Any] = served.station.steers[:3]
        assert [(each.prompts[0].text, each.negative) for each in steers] == [
            ("yes", "n"),
            ("changed", "less"),
            ("later", "n"),
        ]
        assert steers[1].prompts[0].weight == 2.0
        assert judge.questions[0] == {"prompts": ["yes"], "negative": "n", "station": "main", "way": "socket"}
        assert all("webhook-signature" in {name.lower() for name in headers} for headers in judge.headers)
        judge.answers["vile"] = {"action": "rewrite", "prompts": ["nice"]}
        status, _ = await post(served, "/api/stations", {"id": "new", "prompts": ["vile"]})
        assert status == 201
        assert judge.questions[-1]["way"] == "station"
        await post(served, "/run_inference/", clip("x"))
        assert [each["way"] for each in judge.questions[-2:]] == ["clip", "clip"]


async def test_steers_keep_their_order_while_the_hook_thinks() -> None:
    async with (
        judging() as judge,
        running(prompts={"hook": judge.url}, limits=FREE) as served,
        joined(served) as client,
    ):
        await client.message("welcome")
        judge.gate.clear()
        await client.send(type="steer", id="a", prompts=[{"text": "first"}])
        await client.send(type="steer", id="b", key=2)
        await client.send(type="steer", id="c", mix={"low": -3})
        await client.message("scheduled", id="c")
        for number in range(12):
            await client.send(type="steer", id=f"more{number}", prompts=[{"text": f"more {number}"}])
        refused = await client.message("rejected")
        assert refused["code"] == "rate_limited"
        judge.gate.set()
        await client.message("scheduled", id="b")
        ids = [each.id.split(":")[1] for each in served.station.steers]
        assert ids[:3] == ["c", "a", "b"]


async def test_changes_of_the_queue_wait_in_order_and_end_with_their_connection() -> None:
    async with judging() as judge, running(prompts={"hook": judge.url}, limits=FREE) as served:
        async with joined(served) as client:
            await client.message("welcome")
            judge.gate.clear()
            for number in range(20):
                await client.send(type="queue", id=f"q{number}", op="add", prompts=[{"text": f"p{number}"}])
            refused = await client.message("rejected")
            # Eight wait, beside the one that the hook is asked about.
            assert (refused["code"], refused["id"]) in {("rate_limited", "q8"), ("rate_limited", "q9")}
            async with asyncio.timeout(PATIENCE_S):
                while not judge.questions:
                    await asyncio.sleep(0.01)
        judge.gate.set()
        await asyncio.sleep(0.3)
        assert served.station.queued().items == ()
        assert len(judge.questions) == 1
        async with joined(served) as client:
            for number in range(3):
                await client.send(type="queue", id=f"q{number}", op="add", prompts=[{"text": f"p{number}"}])
            answer = await client.message("queue", id="q2")
        assert [each["prompts"][0]["text"] for each in answer["queue"]["items"]] == ["p0", "p1", "p2"]


@pytest.mark.parametrize(
    "answer",
    [
        web.Response(status=500),
        web.Response(status=302, headers={"Location": "http://127.0.0.1:9/"}),
        web.Response(text="no JSON"),
        web.Response(text="[" * 5000),
        web.Response(text='"' + "x" * (2 * ANSWER_BYTES) + '"'),
        {"action": "explode"},
        {"action": "rewrite", "prompts": ["one", "too many"]},
        {"action": "rewrite", "prompts": [7]},
        {"action": "rewrite", "prompts": [""]},
        {"action": "rewrite", "prompts": ["x" * 301]},
    ],
)
@pytest.mark.parametrize("down", ["deny", "allow"])
async def test_a_hook_that_fails_decides_as_configured(answer: Any, down: str) -> None:
    async with judging() as judge:
        judge.default = answer
        rules = Moderation(Config.from_dict({"prompts": {"hook": judge.url, "hook_down": down}}))
        texts = Texts(("a prompt",))
        try:
            if down == "allow":
                assert await rules.decide(texts, station="main", way="socket") == texts
            else:
                with pytest.raises(ProtocolError, match="cannot be checked"):
                    await rules.decide(texts, station="main", way="socket")
            assert len(judge.questions) == 1, "redirects are not followed, and nothing is asked twice"
        finally:
            await rules.close()


async def test_a_busy_hook_is_no_mistake_of_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("riffstream.server.moderation.WAITING", 0)
    async with judging() as judge, running(prompts={"hook": judge.url}, limits=FREE) as served:
        for path, body in (
            ("/api/stations", {"id": "new", "prompts": ["nice"]}),
            ("/run_inference/", clip("nice")),
            ("/api/stations/main/queue", {"op": "add", "prompts": [{"text": "nice"}]}),
        ):
            status, answer = await post(served, path, body)
            assert (status, answer["code"]) == (503, "busy"), path
        assert not judge.questions


async def test_the_rate_of_clips_limits_the_questions_to_the_hook() -> None:
    limits = {**FREE, "clip_burst": 1, "clip_interval_s": 60.0}
    async with judging() as judge, running(prompts={"hook": judge.url}, limits=limits) as served:
        judge.default = {"action": "deny"}
        assert (await post(served, "/run_inference/", clip("nice")))[0] == 400
        asked = len(judge.questions)
        assert asked
        assert (await post(served, "/run_inference/", clip("nicer")))[0] == 429
        assert len(judge.questions) == asked


async def test_time_limits_of_the_hook_and_of_holding() -> None:
    async with judging() as judge:
        settings = {"hook": judge.url, "hook_timeout_s": 0.2, "hold_s": 0.5}
        rules = Moderation(Config.from_dict({"prompts": settings}))
        try:
            judge.default = {"action": "hold", "retry_s": 0.2}
            with pytest.raises(ProtocolError, match="nobody has decided"):
                await rules.decide(Texts(("x",)), station="", way="clip")
            assert 2 <= len(judge.questions) <= 4
            judge.gate.clear()
            with pytest.raises(ProtocolError, match="cannot be checked"):
                await rules.decide(Texts(("x",)), station="", way="clip")
        finally:
            judge.gate.set()
            await rules.close()


async def test_a_rewritten_prompt_is_checked_too() -> None:
    async with judging() as judge:
        judge.default = {"action": "rewrite", "prompts": ["vile"]}
        rules = Moderation(Config.from_dict({"prompts": {"hook": judge.url, "blocked": ["vile"]}}))
        try:
            with pytest.raises(ProtocolError, match="word"):
                await rules.decide(Texts(("x",)), station="", way="clip")
        finally:
            await rules.close()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("blocked", ["!!"]),
        ("blocked", ["x" * 101]),
        ("hook", "file:///etc/passwd"),
        ("hook", "http://user:secret@host/"),
        ("hook_secret", "short"),
        ("hook_down", "maybe"),
    ],
)
def test_wrong_settings_are_refused(key: str, value: Any) -> None:
    with pytest.raises(ParameterError) as refused:
        Config.from_dict({"prompts": {key: value}})
    assert refused.value.field == f"prompts.{key}"
    assert "secret@" not in str(refused.value)


def test_secrets_are_hidden_when_printed() -> None:
    hidden = json.dumps(
        Config.from_dict(
            {
                "prompts": {"hook": "https://h/x?key=topsecret", "hook_secret": "topsecret"},
                "tokens": {"hook": "https://h/x", "hook_secret": "topsecret"},
            }
        ).public_dict()
    )
    assert "topsecret" not in hidden


# -- tokens -----------------------------------------------------------------------------------------------------


async def status(served: Running, method: str, path: str, token: str | None) -> int:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, served.url + path, headers=headers) as answer,
    ):
        return answer.status


async def test_the_operator_s_service_knows_tokens() -> None:
    async with judging() as judge:
        judge.default = {"role": None}
        judge.answers = {
            "singer": {"role": "dj", "seconds": 60},
            "boss": {"role": "owner"},
            "guest": {"role": "dj", "station": "other"},
            "odd": {"role": "emperor"},
        }
        settings = {"hook": judge.url, "hook_cache_s": 60.0}
        async with running(tokens=settings, access={"owner_token": "own"}) as served:
            for token, role in (("singer", "dj"), ("boss", "owner"), ("guest", "listener"), ("own", "owner")):
                async with joined(served, token=token, codecs=[]) as client:
                    assert (await client.message("welcome"))["role"] == role
            async with joined(served, codecs=[]) as client:
                assert (await client.message("welcome"))["role"] == "listener", "steering needs a token"
            for token in ("nobody", "odd"):
                async with joined(served, token=token) as client:
                    assert (await client.message("rejected"))["code"] == "unauthorised"
            asked = len(judge.questions)
            assert all(each == {"token": each["token"]} for each in judge.questions)
            assert "own" not in {each["token"] for each in judge.questions}, "known tokens stay here"
            for _ in range(3):
                assert await status(served, "DELETE", "/api/stations/main", "boss") == 409
                assert await status(served, "DELETE", "/api/stations/main", "singer") == 403
            assert len(judge.questions) == asked, "answers are kept"


async def test_a_service_that_is_down_gives_no_rights() -> None:
    settings = {"hook": "http://127.0.0.1:9/", "hook_timeout_s": 0.5}
    async with running(tokens=settings, access={"dj_token": "known"}) as served:
        async with joined(served, token="x") as client:
            assert (await client.message("rejected"))["code"] == "unauthorised"
        async with joined(served, token="known", codecs=[]) as client:
            assert (await client.message("welcome"))["role"] == "dj"


async def test_guesses_do_not_reach_the_service_after_the_lock_out() -> None:
    async with judging() as judge:
        judge.default = {"role": None}
        async with running(tokens={"hook": judge.url}) as served:
            for number in range(30):
                path = "/api/stations/main" if number % 2 else "/healthz"  # which asks for no rights
                await status(served, "DELETE" if number % 2 else "GET", path, f"guess-{number}")
            assert len(judge.questions) == 20
