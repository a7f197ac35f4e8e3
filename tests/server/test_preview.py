"""``POST /api/stations/{station}/preview``: the clip of a change, for one listener."""

from __future__ import annotations

import asyncio
import base64
import io
import os
import signal
from typing import Any

import av
import pytest
from aiohttp import ClientSession

from riffstream.server.app import Server
from tests.server.test_riffusion import serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

BELLS = {"prompts": [{"text": "church bells"}]}


async def ask(server: Server, body: Any, token: str = "", station: str = "main") -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    url = f"{server.url}/api/stations/{station}/preview"
    async with ClientSession() as session, session.post(url, json=body, headers=headers) as answer:
        return answer.status, await answer.json()


async def test_the_clip_has_the_stations_tempo_and_level_and_nobody_else_hears_it() -> None:
    async with serving(stations={"main": {"prompts": ["a test tone"], "bpm": 100.0}}) as server:
        status, clip = await ask(server, BELLS)
        assert status == 200
        assert (clip["bpm"], clip["duration_s"]) == (100.0, pytest.approx(8 * 0.6, abs=0.05))
        with av.open(io.BytesIO(base64.b64decode(clip["audio"].partition(",")[2]))) as file:
            seconds = sum(frame.samples for frame in file.decode(audio=0)) / 48_000
        assert seconds == pytest.approx(clip["duration_s"], abs=0.1)
        assert (await ask(server, BELLS | {"seed": clip["seed"]}))[1] == clip
        station = server.context.hub.stations["main"]
        assert (station.rev, station.state.prompts[0].text) == (0, "a test tone")
        for body, field in (
            ({"bpm": 20}, "bpm"),
            ({"prompts": [{"text": ""}]}, "prompts[0].text"),
            ({"prompt": "rain"}, "prompt"),
            ({"energy": 0.5}, "energy"),
            ([], "the body"),
        ):
            status, answer = await ask(server, body)
            assert (status, field in answer["message"]) == (400, True), answer
        assert (await ask(server, BELLS, station="nope"))[0] == 404


async def test_a_station_of_another_model_has_previews_of_that_model() -> None:
    tone = {"model": "tone", "backoff_s": 30.0}  # a process that has ended does not come back meanwhile
    stations = {"main": {"prompts": ["one"]}, "other": {"prompts": ["two"], "model": "second", "bpm": 100.0}}
    async with serving(generator=tone, models={"second": tone}, stations=stations) as server:
        pool = server.context.hub.pool  # type: ignore[attr-defined]
        assert (await ask(server, BELLS))[0] == 200
        status, clip = await ask(server, BELLS, station="other")
        assert (status, clip["bpm"]) == (200, 100.0)
        os.kill(pool.first.pid, signal.SIGKILL)
        async with asyncio.timeout(20):
            while pool.ready():
                await asyncio.sleep(0.02)
            assert (await ask(server, BELLS, station="other"))[0] == 200
        assert pool.ready("second")


async def test_it_needs_the_right_to_steer_and_keeps_to_the_rate_of_clips() -> None:
    limits = {"clip_interval_s": 60.0, "clip_burst": 1}
    async with serving(limits=limits, access={"dj_token": "dj-secret"}) as server:
        assert (await ask(server, BELLS))[0] == 403
        assert (await ask(server, BELLS, "dj-secret"))[0] == 200
        assert (await ask(server, BELLS, "dj-secret"))[0] == 429
    async with serving(limits={"clips": 0}) as server:
        status, answer = await ask(server, BELLS)
        assert (status, "limits.clips" in answer["message"]) == (403, True)
