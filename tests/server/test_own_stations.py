"""Private stations of visitors: rights, quotas, times, and the rules that hold for every other station."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from riffstream.config import Config, SessionSettings
from riffstream.errors import ParameterError
from riffstream.server.own_stations import OwnStations, QuotaError
from riffstream.server.roles import Role
from riffstream.server.state_file import SavedServer, read_state, write_state
from tests.server.conftest import Running, running
from tests.server.test_registry import until
from tests.server.test_sockets import joined

SITE = "https://shop.example"
OFTEN = {"interval_s": 0}


async def make(served: Running, status: int = 201, /, *, token: str = "", origin: str = "", **music: Any) -> Any:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    headers |= {"Origin": origin} if origin else {}
    async with (
        ClientSession() as session,
        session.post(f"{served.url}/api/sessions", json=music, headers=headers) as answer,
    ):
        assert answer.status == status, await answer.text()
        made = await answer.json()
        made["headers"] = dict(answer.headers)
        return made


async def end(served: Running, station: str, token: str = "") -> int:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        ClientSession() as session,
        session.delete(f"{served.url}/api/sessions/{station}", headers=headers) as answer,
    ):
        return answer.status


@pytest.mark.parametrize("access", [{}, {"dj_token": "dj"}, {"signing_keys": ["k" * 32]}], ids=["open", "dj", "signed"])
async def test_its_token_steers_this_station_and_nothing_else(access: dict[str, Any]) -> None:
    async with running(speed=4.0, access=access) as served, ClientSession() as session:
        made = await make(served, prompts=["calm piano"], bpm=72)
        name, token = made["station"], made["token"]
        assert made["headers"]["Location"] == f"stations/{name}"
        assert made["links"]["socket"] == f"../ws/{name}"
        assert made["seconds"] == 14_400
        async with joined(served, name, token=token, codecs=[]) as own:
            assert (await own.message("welcome"))["role"] == "dj"
            await own.send(type="steer", id="a", prompts=[{"text": "rain"}])
            await own.message("applied", id="a")
        # Who only knows the name listens.
        async with joined(served, name) as other:
            welcome = await other.message("welcome")
            assert welcome["role"] == "listener"
            assert welcome["reason"]
            await other.send(type="steer", id="b", bpm=99)
            assert (await other.message("rejected", id="b"))["code"] == "forbidden"
        bearer = {"Authorization": f"Bearer {token}"}
        if access:
            async with joined(served, "main", token=token) as elsewhere:
                assert (await elsewhere.message("welcome"))["role"] == "listener"
            async with session.post(f"{served.url}/api/seeds", data=b"x", headers=bearer) as answer:
                assert answer.status == 403
            async with session.post(f"{served.url}/run_inference/", json={}, headers=bearer) as answer:
                assert answer.status == 403
        async with session.delete(f"{served.url}/api/stations/{name}", headers=bearer) as answer:
            assert answer.status == 403
        async with session.get(f"{served.url}/api/stations") as answer:
            assert name not in await answer.text()


async def test_the_servers_own_tokens_steer_and_end_it_too() -> None:
    async with running(access={"dj_token": "dj", "owner_token": "boss"}) as served:
        made = await make(served)
        async with joined(served, made["station"], token="dj", codecs=[]) as dj:
            assert (await dj.message("welcome"))["role"] == "dj"
        assert await end(served, made["station"], "dj") == 403
        assert await end(served, made["station"], "boss") == 204


async def test_visitors_do_not_take_the_owners_places() -> None:
    access, bearer = {"dj_token": "dj", "owner_token": "boss"}, {"Authorization": "Bearer boss"}
    async with running(access=access, limits={"stations": 3}, sessions=OFTEN) as served, ClientSession() as session:
        old, new = await make(served), await make(served)
        url = f"{served.url}/api/stations"
        async with joined(served, old["station"]) as listener:
            await listener.message("welcome")
            async with session.post(url, json={"id": "jazz", "bpm": 9000}, headers=bearer) as answer:
                assert answer.status == 400  # nobody has to go for a mistake
            assert set(served.hub.stations) == {"main", old["station"], new["station"]}
            async with session.post(url, json={"id": "jazz"}, headers=bearer) as answer:
                assert answer.status == 201, await answer.text()
            assert (await listener.message("bye"))["reason"] == "the server needs the place of this private station"
        assert set(served.hub.stations) == {"main", "jazz", new["station"]}
        assert (await make(served, 503))["code"] == "busy"
        async with session.post(url, json={"id": "rock"}, headers=bearer) as answer:
            assert answer.status == 201
        async with session.post(url, json={"id": "folk"}, headers=bearer) as answer:
            assert answer.status == 503  # the owner's own stations stay


async def test_it_ends_by_its_token_and_its_place_is_free_again() -> None:
    async with running(sessions={"per_address": 1, **OFTEN}) as served:
        made = await make(served)
        refused = await make(served, 429)
        assert refused["code"] == "rate_limited"
        assert "127.0.0.1" not in refused["message"]
        assert "1 private stations already" in refused["message"]
        assert int(refused["headers"]["Retry-After"]) > 0
        assert await end(served, made["station"]) == 403
        async with joined(served, made["station"]) as listener:
            await listener.message("welcome")
            assert await end(served, made["station"], made["token"]) == 204
            assert (await listener.message("bye"))["reason"] == "this station has ended"
        assert await end(served, made["station"], made["token"]) in (401, 404)
        assert await end(served, "main") == 404
        await make(served)


async def test_the_total_the_site_and_the_rate_are_limited() -> None:
    origins = {"allowed_origins": [SITE, "https://other.example"]}
    sessions = {"most": 2, "per_address": 9, "per_origin": 1, **OFTEN}
    async with running(server=dict(origins), sessions=sessions) as served:
        await make(served, origin=SITE)
        refused = await make(served, 429, origin=SITE)
        assert SITE in refused["message"]
        await make(served, origin="https://other.example")
        assert (await make(served, 503))["code"] == "busy"
    async with running(sessions={"burst": 1, "interval_s": 60}) as served:
        await make(served)
        refused = await make(served, 429)
        assert 1 <= int(refused["headers"]["Retry-After"]) <= 60
    async with running("main", "two", "three", sessions=OFTEN) as served:  # the hub has three places
        assert (await make(served, 503))["code"] == "busy"
        assert len(served.server.context.own) == 0  # a refusal takes no place
    async with running(sessions={"most": 0}) as served:
        assert "sessions.most" in (await make(served, 403))["message"]


async def test_a_strangers_page_is_told_what_to_change() -> None:
    async with running() as served:
        refused = await make(served, 403, origin=SITE)
        assert f'add "{SITE}" to server.allowed_origins' in refused["message"]
        assert refused["headers"]["Access-Control-Allow-Origin"] == "*"  # so that the page can read it
        assert not len(served.server.context.own)
        await make(served, origin=served.url)
    async with running(server={"allowed_origins": [SITE]}) as served:
        made = await make(served, origin=SITE)
        assert made["headers"]["Access-Control-Allow-Origin"] == "*"
        # The token steers from that page.
        async with joined(served, made["station"], token=made["token"], codecs=[]) as own:
            assert (await own.message("welcome"))["role"] == "dj"
    async with running(access={"dj_token": "dj"}) as served:
        await make(served, origin=SITE, token="dj")  # a page with a token is no stranger's


async def test_no_origin_makes_the_saved_state_unreadable(tmp_path: Path) -> None:
    long = "a." * 190 + "local"  # an own name in its form, and longer than the state allows
    async with running(sessions=OFTEN) as served, ClientSession() as session:
        headers = {"Host": long, "Origin": f"http://{long}"}
        async with session.post(f"{served.url}/api/sessions", headers=headers) as answer:
            assert answer.status == 403
        await make(served, origin=served.url)
        own = served.server.context.own.save()
    path = tmp_path / "state"
    write_state(path, SavedServer(clean=True, stations={}, own=own))
    found = read_state(path)
    assert found is not None
    assert found.own == own


async def test_the_places_can_be_asked_for() -> None:
    async def places(served: Running, **headers: str) -> Any:
        async with ClientSession() as session, session.get(f"{served.url}/api/sessions", headers=headers) as answer:
            return await answer.json()

    async with running(limits={"stations": 3}) as served:
        assert await places(served) == {"most": 4, "free": 2, "invited": True}
        await make(served)
        assert await places(served, Origin=SITE) == {"most": 4, "free": 1, "invited": False}
    async with running(sessions={"most": 0}) as served:
        assert await places(served) == {"most": 0, "free": 0, "invited": False}


async def test_listening_that_needs_a_token_needs_it_here() -> None:
    async with running(access={"listen_token": "ears", "dj_token": "dj"}) as served:
        assert (await make(served, 401))["code"] == "unauthorised"
        made = await make(served, token="ears")
        async with joined(served, made["station"], token=made["token"], codecs=[]) as own:
            assert (await own.message("welcome"))["role"] == "dj"
        async with joined(served, "main", token=made["token"], codecs=[]) as elsewhere:
            assert (await elsewhere.message("rejected"))["code"] == "unauthorised"
        # Its page asks for seeds and places with it, and is not locked out for that.
        bearer = {"Authorization": f"Bearer {made['token']}"}
        async with ClientSession() as session:
            for _ in range(11):
                for path in ("api/seeds", "api/sessions"):
                    async with session.get(f"{served.url}/{path}", headers=bearer) as answer:
                        assert answer.status == 200
            async with session.get(f"{served.url}/api/stations/main", headers=bearer) as answer:
                assert answer.status == 401
            async with session.post(f"{served.url}/api/seeds", data=b"x", headers=bearer) as answer:
                assert answer.status == 403
        assert "no further ones" in (await make(served, 403, token=made["token"]))["message"]


@pytest.mark.parametrize(
    ("music", "words"),
    [
        ({"bpm": 9000}, "session.bpm is 9000"),
        ({"prompts": ["x" * 301]}, "session.prompts[0]"),
        ({"prompts": "piano"}, "session.prompts"),
        ({"title": "mine"}, "key 'title'"),
        ({"journey": "/etc/passwd"}, "key 'journey'"),
        ({"steer": False}, "key 'steer'"),
        ({"id": "main"}, "key 'id'"),
    ],
)
async def test_bad_music_is_refused_by_field_and_takes_no_place(music: dict[str, Any], words: str) -> None:
    async with running(sessions=OFTEN) as served:
        assert words in (await make(served, 400, **music))["message"]
        assert not len(served.server.context.own)
        assert set(served.hub.stations) == {"main"}


async def test_bodies_that_are_no_music() -> None:
    async with running(sessions=OFTEN) as served, ClientSession() as session:
        for body, status in ((b"", 201), (b"{", 400), (b"[]", 400)):
            async with session.post(f"{served.url}/api/sessions", data=body) as answer:
                assert answer.status == status, await answer.text()


async def test_the_rules_for_prompts_hold() -> None:
    async with running(prompts={"blocked": ["badword"]}) as served:
        assert (await make(served, 400, prompts=["a badword"]))["code"] == "bad_request"
        assert not len(served.server.context.own)


async def test_it_ends_when_nobody_listens_or_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(speed=4.0, sessions={"idle_s": 1, **OFTEN}) as served:
        made = await make(served)
        async with joined(served, made["station"]) as listener:
            await listener.message("welcome")
            unused = await make(served)  # not before: on a busy machine it takes longer than an unused station lasts
            await until(lambda: unused["station"] not in served.hub.stations)  # nobody ever came
            assert made["station"] in served.hub.stations
        await until(lambda: made["station"] not in served.hub.stations)
        assert len(served.server.context.own) == 0
        again = await make(served)
        async with joined(served, again["station"]) as listener:
            await listener.message("welcome")
            own = served.server.context.own
            monkeypatch.setattr(own, "_clock", lambda: time.time() + 14_401)
            bye = await listener.message("bye")
        assert bye["reason"] == "the time of this private station is over"
        assert bye.get("reconnect_ms") is None
        assert own.read(again["token"]) is None


async def test_a_client_that_leaves_while_its_station_starts_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as served:
        begun, gate = asyncio.Event(), asyncio.Event()

        async def slow(*_: Any) -> None:
            begun.set()
            await gate.wait()

        monkeypatch.setattr(served.hub, "create", slow)
        task = asyncio.create_task(make(served))
        await begun.wait()
        assert len(served.server.context.own) == 1  # its place is taken meanwhile
        task.cancel()
        await until(lambda: not len(served.server.context.own))


def test_a_table_holds_hashes_and_goes_on_in_a_later_process() -> None:
    now = [1_000_000.0]
    settings = SessionSettings(most=3, per_address=3, interval_s=0)
    table = OwnStations(settings, clock=lambda: now[0])
    one, two = table.open("1.1.1.1", ""), table.open("1.1.1.1", SITE)
    saved = table.save()
    assert not any(each.token in repr(saved) for each in (one, two))
    later = OwnStations(settings, clock=lambda: now[0])
    later.restore(saved, {"main", one.name})  # the other one did not go on
    found = later.read(one.token)
    assert found is not None
    assert (found.role, found.station, found.expires_at) == (Role.DJ, one.name, now[0] + settings.ttl_s)
    assert later.read(two.token) is None
    assert later.read("own_wrong") is None
    now[0] += settings.ttl_s
    assert later.read(one.token) is None
    assert later.is_over(one.name)
    assert not later.is_over("main")


def test_the_server_itself_and_programs_have_no_shared_quota() -> None:
    table = OwnStations(SessionSettings(most=5, per_address=1, per_origin=1, interval_s=60, burst=1))
    for _ in range(2):
        table.open("inside", "")
    table.open("1.1.1.1", "")
    with pytest.raises(QuotaError, match="your address has 1 private stations already"):
        table.open("1.1.1.1", "")
    table.open("2.2.2.2", "")


def test_times_and_quotas_have_ranges() -> None:
    with pytest.raises(ParameterError, match=r"sessions\.idle_s is 0; allowed: 1 to 3600"):
        Config.from_dict({"sessions": {"idle_s": 0}})
