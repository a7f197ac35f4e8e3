"""``/run_inference/``, the interface of Riffusion's server: answers, errors, access and limits, with the test tone."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import copy
import io
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import pytest_asyncio
from aiohttp import ClientSession
from PIL import Image

from riffstream.config import Config
from riffstream.errors import ParameterError
from riffstream.generator.messages import Configure, Info
from riffstream.journey.inference_input import InferenceInput
from riffstream.server.app import Server
from riffstream.server.riffusion import clip_spec, sampler_steps
from riffstream.station.hub import Hub

pytestmark = pytest.mark.asyncio(loop_scope="module")

FREE = {"clip_interval_s": 0.0, "stations": 4}
LEAST = {"start": {"prompt": "a", "seed": 1}, "end": {"prompt": "b", "seed": 2}, "alpha": 0.5}
FULL = {
    "start": {"prompt": "funky jazz guitar solo", "seed": 42, "denoising": 0.75, "guidance": 7.0},
    "end": {"prompt": "church bells", "seed": 123, "denoising": 0.75, "guidance": 7.0},
    "alpha": 0.25,
    "num_inference_steps": 5,
    "seed_image_id": "og_beat",
    "mask_image_id": None,
}


@contextlib.asynccontextmanager
async def serving(configure: Configure | None = None, **sections: Any) -> AsyncIterator[Server]:
    sections = {
        "server": {"port": 0, "drain_s": 0.1},
        "generator": {"model": "tone", "backoff_s": 0.05},
        "stations": {"main": {"prompts": ["a test tone"]}},
        "limits": FREE,
        **sections,
    }
    config = Config.from_dict(sections)
    hub = Hub(config, configure=configure)
    server = Server(config, hub)
    await server.start()
    try:
        await hub.wait_ready(60)
        yield server
    finally:
        await server.stop()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def server() -> AsyncIterator[Server]:
    async with serving() as started:
        yield started


async def post(server: Server, body: Any, **headers: str) -> tuple[int, dict[str, Any], dict[str, str]]:
    data = body if isinstance(body, (str, bytes)) else json.dumps(body)
    async with (
        ClientSession() as session,
        session.post(f"{server.url}/run_inference/", data=data, headers=headers) as answer,
    ):
        return answer.status, await answer.json(), dict(answer.headers)


def opened(url: str, kind: str) -> io.BytesIO:
    head, _, data = url.partition(",")
    assert head == f"data:{kind};base64"
    return io.BytesIO(base64.b64decode(data, validate=True))


def decoded(audio: io.BytesIO) -> tuple[np.ndarray, int]:
    with av.open(audio) as container:
        assert container.format.name == "mp3"
        frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
        return np.concatenate(frames, axis=-1), container.streams.audio[0].rate


async def test_the_shortest_request_gives_a_picture_and_its_sound(server: Server) -> None:
    status, answer, headers = await post(server, LEAST)
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert list(answer) == ["image", "audio", "duration_s"]
    picture = Image.open(opened(answer["image"], "image/jpeg"))
    assert (picture.format, picture.size, picture.mode) == ("JPEG", (512, 512), "RGB")
    assert answer["duration_s"] == 5.12
    pcm, rate = decoded(opened(answer["audio"], "audio/mpeg"))
    assert pcm.shape[-1] / rate == pytest.approx(5.12, abs=0.06)  # MP3 pads to whole frames
    assert np.sqrt(np.square(pcm).mean()) > 0.05


async def test_every_clip_has_the_same_length_and_the_prompts_are_heard(server: Server) -> None:
    answers = [(await post(server, {**FULL, "alpha": alpha}))[1] for alpha in (0, 0.5, 1)]
    assert {answer["duration_s"] for answer in answers} == {5.12}
    assert len({answer["audio"] for answer in answers}) == len({answer["image"] for answer in answers}) == 3
    again = (await post(server, {**FULL, "alpha": 0}))[1]
    assert again == answers[0]


@pytest.mark.parametrize(
    "change",
    [
        {"alpha": 0},  # whole numbers where Riffusion has fractions
        {"start": {**FULL["start"], "guidance": 7}},
        {"foo": 1},
        {"mask_image_id": ""},
        {"start": {**FULL["start"], "negative_prompt": None}},
        {"start": {**FULL["start"], "seed": True}},
        {"alpha": 1.0009},  # Riffusion's web app adds up alpha
        {"start": {**FULL["start"], "prompt": ""}},
    ],
)
async def test_what_riffusion_accepts_is_accepted(server: Server, change: dict[str, Any]) -> None:
    assert (await post(server, FULL | change))[0] == 200


def without(path: str) -> dict[str, Any]:
    body = copy.deepcopy(FULL)
    *parents, last = path.split(".")
    part: Any = body
    for name in parents:
        part = part[name]
    del part[last]
    return body


def with_value(path: str, value: Any) -> dict[str, Any]:
    body = copy.deepcopy(FULL)
    *parents, last = path.split(".")
    part: Any = body
    for name in parents:
        part = part[name]
    part[last] = value
    return body


@pytest.mark.parametrize("field", ["alpha", "start", "end", "start.prompt", "end.seed"])
async def test_a_missing_field_is_named(server: Server, field: str) -> None:
    status, answer, _ = await post(server, without(field))
    assert (status, answer["code"]) == (400, "bad_request")
    assert f'"{field}"' in answer["message"]


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("alpha", "0.5", "float"),
        ("alpha", 1.5, "0 to 1"),
        ("alpha", float("nan"), "0 to 1"),
        ("start.seed", 1.5, "int"),
        ("start.seed", "1", "int"),
        ("end.seed", -1, "0 to 4294967295"),
        ("end.seed", 10**400, "0 to 4294967295"),
        ("start.denoising", 1.1, "0 to 1"),
        ("end.guidance", 31, "0 to 30"),
        ("start.prompt", "x" * 301, "300"),
        ("end.negative_prompt", "x" * 301, "300"),
        ("num_inference_steps", 0, "1 to 1000"),
        ("num_inference_steps", "50", "int"),
        ("seed_image_id", "x" * 201, "200 characters"),
        ("seed_image_id", 7, "str"),
        ("mask_image_id", "a\nb", "200 characters"),
        ("start", [1], "PromptInput"),
    ],
)
async def test_a_bad_value_is_400_with_its_field_and_range(
    server: Server, field: str, value: Any, allowed: str
) -> None:
    status, answer, _ = await post(server, with_value(field, value))
    assert (status, answer["code"]) == (400, "bad_request")
    assert field in answer["message"]
    assert allowed in answer["message"]
    assert len(answer["message"]) < 700


@pytest.mark.parametrize("body", ["{not json", "", "[" * 50_000, b"\xff\xfe\x00", "[1]", "null"])
async def test_a_body_that_is_no_payload_is_400_in_json(server: Server, body: str | bytes) -> None:
    status, answer, _ = await post(server, body)
    assert (status, answer["code"]) == (400, "bad_request")


async def test_other_methods_sizes_and_spellings_of_the_address(server: Server) -> None:
    async with ClientSession() as session:
        async with session.get(f"{server.url}/run_inference/") as answer:
            assert (answer.status, answer.headers["Allow"]) == (405, "POST")
            assert (await answer.json())["code"] == "bad_request"
        async with session.post(f"{server.url}/run_inference/", data=b" " * 70_000) as answer:
            assert answer.status == 413
        async with session.post(f"{server.url}/run_inference", json=LEAST) as answer:
            assert answer.status == 200


async def test_only_clients_that_may_steer_get_clips() -> None:
    async with serving(access={"dj_token": "x" * 20, "listen_token": "y" * 20}) as server:
        assert (await post(server, LEAST))[0] == 401
        assert (await post(server, LEAST, Authorization="Bearer " + "y" * 20))[0] == 403
        assert (await post(server, LEAST, Authorization="Bearer " + "x" * 20))[0] == 200


async def test_pages_of_other_sites_need_an_invitation(server: Server) -> None:
    status, answer, headers = await post(server, LEAST, Origin="https://elsewhere.example")
    assert status == 403
    assert "server.allowed_origins" in answer["message"]
    assert "Access-Control-Allow-Origin" not in headers
    async with serving(server={"port": 0, "allowed_origins": ["https://elsewhere.example"]}) as open_server:
        status, _, headers = await post(open_server, LEAST, Origin="https://elsewhere.example")
        assert (status, headers["Access-Control-Allow-Origin"]) == (200, "*")


async def test_rate_and_number_of_clips_are_limited() -> None:
    slow = Configure("riffstream.generator.renderer:make_tone", {"waits": 3, "step_s": 0.1})
    async with serving(slow, limits={"clips": 2, "clip_burst": 3, "clip_interval_s": 60}) as server:
        answers = await asyncio.gather(*(post(server, LEAST) for _ in range(4)))
        assert sorted(status for status, _, _ in answers) == [200, 200, 503, 503]
        assert all("Retry-After" in headers for status, _, headers in answers if status == 503)
        assert (await post(server, LEAST))[0] == 200
        status, answer, headers = await post(server, LEAST)
        assert (status, answer["code"]) == (429, "rate_limited")
        assert 50 <= int(headers["Retry-After"]) <= 60
    async with serving(limits={"clips": 0}) as server:
        assert (await post(server, LEAST))[0] == 403


async def test_a_clip_survives_the_end_of_its_generator() -> None:
    slow = Configure("riffstream.generator.renderer:make_tone", {"waits": 5, "step_s": 0.1})
    async with serving(slow) as server:
        asked = asyncio.create_task(post(server, LEAST))
        await asyncio.sleep(0.3)
        os.kill(server.hub.supervisor.pid, signal.SIGKILL)  # type: ignore[attr-defined]
        status, answer, _ = await asyncio.wait_for(asked, 30)
        assert (status, answer["duration_s"]) == (200, 5.12)


async def test_a_client_that_leaves_frees_its_place() -> None:
    slow = Configure("riffstream.generator.renderer:make_tone", {"waits": 20, "step_s": 0.1})
    async with serving(slow, limits={**FREE, "clips": 1}) as server:
        asked = asyncio.create_task(post(server, LEAST))
        await asyncio.sleep(0.5)
        assert server.context.clips == 1
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        async with asyncio.timeout(5):
            while server.context.clips:
                await asyncio.sleep(0.02)


RECORDED = json.loads((Path(__file__).parents[1] / "data" / "riffusion_app.json").read_text())


async def test_the_recorded_requests_of_riffusions_web_app_get_the_recorded_answers(server: Server) -> None:
    # Recorded from riffusion-app-hobby (3a72a8f, Next.js 13.0.4) in Chromium: ten clips, from one prompt to another.
    assert {each["request"]["end"]["prompt"] for each in RECORDED} == {"church bells", "deep house"}
    for each in RECORDED:
        status, answer, _ = await post(server, each["request"], **{"Content-Type": "application/json"})
        shape = {name: value.partition(",")[0] if isinstance(value, str) else value for name, value in answer.items()}
        assert (status, shape) == (each["status"], each["response"])


RIFFUSION = Info(model="stable-diffusion", bpm=None, guidance=7.0, steps=20)
EMBEDDED = Info(model="mini", bpm=110.0, guidance=1.0, steps=8)


async def test_defaults_are_riffusions() -> None:
    inputs = InferenceInput.from_payload(LEAST)
    assert sampler_steps(inputs.num_inference_steps, RIFFUSION) == 50
    spec = clip_spec(inputs, RIFFUSION, 300)
    assert (spec.start.denoising, spec.start.guidance, spec.start.seed_image) == (0.75, 7.0, "og_beat")
    assert (spec.start.seed, spec.end.seed, spec.alpha, spec.start.bpm) == (1, 2, 0.5, None)


async def test_the_embedded_model_keeps_its_own_steps_and_guidance() -> None:
    inputs = InferenceInput.from_payload(LEAST)
    spec = clip_spec(inputs, EMBEDDED, 300)
    assert (spec.start.guidance, spec.start.bpm) == (1.0, 93.75)
    assert [sampler_steps(asked, EMBEDDED) for asked in (4, 8, 50)] == [4, 8, 8]
    with pytest.raises(ParameterError, match="num_inference_steps is 1001"):
        sampler_steps(1001, EMBEDDED)
