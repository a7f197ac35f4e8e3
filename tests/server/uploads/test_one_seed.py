"""One seed image by its address: what it is, how it sounds, and who may remove it."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import soundfile
from aiohttp import ClientResponse, ClientSession

from riffstream.server.answers import Seed
from riffstream.server.uploads.one_seed import WAITING, SeedAudio
from riffstream.station.audition import AuditionError
from tests.server.conftest import Running, running
from tests.server.uploads.test_intake import FREE, listed, picture, post, sound


async def ask(served: Running, method: str, path: str, **headers: str) -> tuple[ClientResponse, bytes]:
    async with ClientSession() as session, session.request(method, f"{served.url}/api/{path}", headers=headers) as got:
        return got, await got.read()


def token(word: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {word}"}


async def test_one_seed_is_described_like_in_the_list(live: Running) -> None:
    made = await post(live, sound())
    for name in (made["name"], (await listed(live))["seeds"][-1]["name"]):
        answer, data = await ask(live, "GET", f"seeds/{name}")
        seed = msgspec.json.decode(data)
        assert answer.status == 200
        row = next(each for each in (await listed(live))["seeds"] if each["name"] == name)
        relative = ("preview", "audio")
        assert {k: v for k, v in seed.items() if k not in (*relative, "played_by")} == {
            k: v for k, v in row.items() if k not in relative
        }
        assert "remover" not in seed
        for part in relative:  # each address is relative to the answer that has it
            assert (await ask(live, "GET", f"seeds/{seed[part]}"))[0].status == 200
            assert (await ask(live, "GET", row[part]))[0].status == 200
    assert (await ask(live, "GET", "seeds/nothing"))[0].status == 404
    assert (await ask(live, "GET", "seeds/nothing/audio"))[0].status == 404


@pytest.mark.parametrize("kind", ["mp3", "flac", "ogg", "wav"])
async def test_an_upload_sounds_like_its_loop_and_a_library_seed_like_the_generator(live: Running, kind: str) -> None:
    made = await post(live, sound(bpm=120, seconds=6))
    library = (await listed(live))["seeds"][-1]
    for seed, rendered in ((made, 0), (library, 1)):
        answer, data = await ask(live, "GET", f"{seed['audio']}?format={kind}")
        assert (answer.status, answer.content_type.partition("/")[0]) == (200, "audio")
        wave, rate = soundfile.read(io.BytesIO(data))
        assert rate == 48_000
        assert len(wave) / rate == pytest.approx(seed["seconds"], abs=0.1)
        assert abs(wave).max() > 0.1
        assert len(live.hub.auditions) == rendered
    assert (await ask(live, "GET", f"{library['audio']}?format={kind}"))[1] == data
    assert live.hub.auditions == [library["name"]]  # cached


@pytest.mark.parametrize(
    ("asked", "status", "begin", "end"),
    [
        ({"Range": "bytes=0-1"}, 206, 0, 2),
        ({"Range": "bytes=100-"}, 206, 100, None),
        ({"Range": "bytes=-50"}, 206, -50, None),
        ({"Range": "bytes=10-99999999"}, 206, 10, None),
        ({"Range": "bytes=99999999-"}, 416, 0, 0),
        ({"Range": "bytes=5-2"}, 200, 0, None),
        ({"Range": "bytes=0-1,5-6"}, 200, 0, None),
        ({"Range": "items=0-1"}, 200, 0, None),
        ({"Range": "bytes=0-1", "If-Range": '"another"'}, 200, 0, None),
        ({"Range": "bytes=0-1", "If-Range": "TAG"}, 206, 0, 2),
        ({"If-None-Match": "TAG"}, 304, 0, 0),
        ({"If-None-Match": '"another"'}, 200, 0, None),
    ],
)
async def test_a_seed_is_a_file_with_ranges(
    live: Running, asked: dict[str, str], status: int, begin: int, end: int | None
) -> None:
    """Safari plays only files whose server answers ranges."""
    path = (await listed(live))["seeds"][-1]["audio"]
    first, whole = await ask(live, "GET", path)
    assert first.headers["Accept-Ranges"] == "bytes"
    tag = first.headers["ETag"]
    answer, data = await ask(live, "GET", path, **{name: value.replace("TAG", tag) for name, value in asked.items()})
    assert (answer.status, data) == (status, whole[begin:end])
    if status == 206:
        start = begin % len(whole)
        assert answer.headers["Content-Range"] == f"bytes {start}-{start + len(data) - 1}/{len(whole)}"
    if status == 416:
        assert answer.headers["Content-Range"] == f"bytes */{len(whole)}"


async def test_curl_continues_a_broken_download(live: Running, tmp_path: Path, need_tool: Callable[[str], str]) -> None:
    path = (await listed(live))["seeds"][-1]["audio"]
    whole = (await ask(live, "GET", path))[1]
    part = tmp_path / "part.mp3"
    part.write_bytes(whole[:1000])
    command = [need_tool("curl"), "-sf", "-C", "-", "-o", str(part), f"{live.url}/api/{path}"]
    assert await (await asyncio.create_subprocess_exec(*command)).wait() == 0
    assert part.read_bytes() == whole


async def test_a_picture_is_rendered(live: Running, tmp_path: Any) -> None:
    made = await post(live, picture(tmp_path))
    assert (await ask(live, "GET", made["audio"]))[0].status == 200
    assert live.hub.auditions == [made["name"]]


async def test_audio_is_refused_clearly(live: Running) -> None:
    name = (await listed(live))["seeds"][-1]["name"]
    answer, data = await ask(live, "GET", f"seeds/{name}/audio?format=aiff")
    assert answer.status == 400
    assert b"allowed: flac, mp3, ogg, wav" in data
    live.hub.audition_error = AuditionError("the generator is not ready")
    answer, data = await ask(live, "GET", f"seeds/{name}/audio")
    assert answer.status == 503
    assert answer.headers["Retry-After"] == "5"
    assert b"not ready" in data
    live.hub.audition_error = None  # a failure is not cached
    assert (await ask(live, "GET", f"seeds/{name}/audio"))[0].status == 200


async def test_many_askers_share_one_rendering_and_the_queue_is_bounded(live: Running) -> None:
    names = [seed["name"] for seed in (await listed(live))["seeds"]][: WAITING + 1]
    live.hub.audition_gate.clear()
    asked = [asyncio.create_task(ask(live, "GET", f"seeds/{name}/audio")) for name in names[:-1] for _ in "ab"]
    while len(live.hub.auditions) < WAITING:
        await asyncio.sleep(0.01)
    assert (await ask(live, "GET", f"seeds/{names[-1]}/audio"))[0].status == 503
    live.hub.audition_gate.set()
    assert {answer.status for answer, _ in await asyncio.gather(*asked)} == {200}
    assert sorted(live.hub.auditions) == sorted(names[:-1])


async def test_the_cache_of_audio_is_bounded(live: Running) -> None:
    cache = SeedAudio(most=50_000)
    seeds = msgspec.convert((await listed(live))["seeds"][:4], list[Seed])
    context, uploads = live.server.context, live.server.uploads
    sizes = [len(await cache.get(context, uploads, seed, "mp3")) for seed in seeds]
    assert sum(sizes) > 50_000 > max(sizes)
    assert sum(map(len, cache._kept.values())) <= 50_000


async def test_an_uploader_removes_their_own_and_nobody_elses() -> None:
    async with running(limits=FREE, access={"owner_token": "boss", "dj_token": "deejay"}) as served:
        mine = await post(served, sound(bpm=120), token="deejay")
        other = await post(served, sound(bpm=100), token="deejay")
        for headers in ({}, token("deejay"), {"Riffstream-Remove-Key": other["remove_key"]}, token("wrong")):
            answer, data = await ask(served, "DELETE", f"seeds/{mine['name']}", **headers)
            assert answer.status in (401, 403), headers
        assert b"message" in data
        again = await post(served, sound(bpm=120), token="deejay")  # the same file does not make its sender the owner
        assert "remove_key" not in again
        assert "first uploader" in again["notes"][-1]
        key = {"Riffstream-Remove-Key": mine["remove_key"]}
        assert (await ask(served, "GET", mine["audio"]))[0].status == 200
        assert (await ask(served, "DELETE", f"seeds/{mine['name']}", **key))[0].status == 204
        assert (await ask(served, "DELETE", f"seeds/{mine['name']}", **key))[0].status == 404
        assert (await ask(served, "GET", mine["audio"]))[0].status == 404
        assert not (served.server.uploads.folder / mine["name"]).exists()
        assert (await ask(served, "DELETE", f"seeds/{other['name']}", **token("boss")))[0].status == 204
        library = (await listed(served))["seeds"][0]
        assert library["style"] != "upload"
        assert (await ask(served, "DELETE", f"seeds/{library['name']}", **token("boss")))[0].status == 403


async def test_the_key_of_removal_survives_a_restart_and_is_not_readable(tmp_path: Any) -> None:
    place = {"state_dir": str(tmp_path)}
    async with running(server=dict(place), access={"owner_token": "boss"}) as served:
        made = await post(served, sound())
        assert "remove_key" not in (await listed(served))["seeds"][0]
    for path in tmp_path.rglob("seed.json"):
        assert made["remove_key"] not in path.read_text()
    async with running(server=dict(place), access={"owner_token": "boss"}) as served:
        key = {"Riffstream-Remove-Key": made["remove_key"]}
        assert (await ask(served, "DELETE", f"seeds/{made['name']}", **key))[0].status == 204


async def test_a_seed_in_use_stays(live: Running) -> None:
    made = await post(live, sound())
    live.station.state = msgspec.structs.replace(live.station.state, seed_image=made["name"])
    answer, data = await ask(live, "DELETE", f"seeds/{made['name']}")
    assert answer.status == 409
    assert b"station main plays" in data
    assert msgspec.json.decode((await ask(live, "GET", f"seeds/{made['name']}"))[1])["played_by"] == "main"


async def test_the_quota_of_an_address_drops_its_own_oldest() -> None:
    limits = {**FREE, "uploads_per_address": 2}
    async with running(limits=limits, access={"owner_token": "boss"}) as served:
        theirs = await post(served, sound(bpm=80), token="boss")  # without quota
        mine = [await post(served, sound(bpm=bpm)) for bpm in (100, 120, 140)]
        names = [seed["name"] for seed in (await listed(served))["seeds"] if seed["style"] == "upload"]
        assert names == [mine[2]["name"], mine[1]["name"], theirs["name"]]
        served.station.state = msgspec.structs.replace(served.station.state, seed_image=mine[1]["name"])
        last = await post(served, sound(bpm=150))
        names = [seed["name"] for seed in (await listed(served))["seeds"] if seed["style"] == "upload"]
        assert names == [last["name"], mine[1]["name"], theirs["name"]]


async def test_uploads_of_others_need_the_right_to_listen() -> None:
    async with running(limits=FREE, access={"listen_token": "ears", "dj_token": "deejay"}) as served:
        made = await post(served, sound(), token="deejay")
        for path in (f"seeds/{made['name']}", made["audio"]):
            assert (await ask(served, "GET", path))[0].status == 401
            assert (await ask(served, "GET", path, **token("ears")))[0].status == 200
