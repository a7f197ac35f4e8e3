"""Private stations of programs, with a real server."""

from __future__ import annotations

import pytest
from aiohttp import web

import riffstream
from riffstream.client import RadioError
from riffstream.errors import ParameterError
from tests.server.conftest import running


async def test_a_private_station_is_the_callers_own_and_ends_with_the_connection() -> None:
    async with running(speed=4.0, access={"dj_token": "dj"}) as served:
        music = {"prompts": ["calm piano"], "bpm": 72}
        async with riffstream.connect(served.url, station="new", codec="none", music=music) as radio:
            assert radio.welcome.role == "dj"
            name = radio.welcome.station
            assert radio.url.endswith(f"/ws/{name}")
            await radio.steer("rain")
            assert served.hub.stations[name].steers
            assert not served.station.steers
        assert name not in served.hub.stations


async def test_a_refusal_says_what_and_when() -> None:
    async with running(sessions={"per_address": 1}) as served:
        with pytest.raises(RadioError, match="bpm is 9000") as refused:
            await riffstream.connect(served.url, station="new", music={"bpm": 9000}).__aenter__()
        assert refused.value.code == "bad_request"
        async with riffstream.connect(served.url, station="new", codec="none"):
            with pytest.raises(RadioError, match="allowed: 1") as refused:
                await riffstream.connect(f"{served.url}/ws/new").__aenter__()
            assert refused.value.code == "rate_limited"
            assert refused.value.retry_after_ms == 30_000
    with pytest.raises(ParameterError, match="music"):
        riffstream.connect("localhost:1", music={"bpm": 90})
    with pytest.raises(RadioError) as lost:
        await riffstream.connect("http://127.0.0.1:1", station="new").__aenter__()
    assert lost.value.code == "unreachable"


async def test_a_connection_that_fails_leaves_no_station() -> None:
    async with running(limits={"connections": 1}) as served:
        async with riffstream.connect(served.url, codec="none"):
            with pytest.raises(RadioError):
                await riffstream.connect(served.url, station="new").__aenter__()
        assert set(served.hub.stations) == {"main"}


async def test_an_answer_without_a_station_is_an_error_of_the_radio() -> None:
    async def make(request: web.Request) -> web.Response:
        return web.json_response({"station": 5}, status=201)

    app = web.Application()
    app.router.add_post("/api/sessions", make)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        with pytest.raises(RadioError, match="does not say which private station") as odd:
            await riffstream.connect(f"http://127.0.0.1:{port}", station="new").__aenter__()
        assert odd.value.code == "internal"
    finally:
        await runner.cleanup()
