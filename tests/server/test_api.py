"""The HTTP API, health, pages and headers."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin

import pytest
import soundfile
import torch
from aiohttp import ClientSession, FormData

from riffstream.models.seeds import SeedEntry, SeedLibrary
from riffstream.protocol import json_schema
from riffstream.server import static_files
from riffstream.server.uploads import seeds
from tests.conftest import PATIENCE_S
from tests.server.conftest import Running, running
from tests.server.fakes import pitch


async def get(url: str, status: int = 200, **headers: str) -> Any:
    async with ClientSession() as session, session.get(url, headers=headers) as response:
        assert response.status == status, await response.text()
        return await response.json()


async def test_stations_are_listed_and_shown(live: Running) -> None:
    listed = (await get(f"{live.url}/api/stations"))["stations"]
    assert [each["id"] for each in listed] == ["main"]
    shown = await get(f"{live.url}/api/stations/main")
    assert shown["title"] == "The Test Tone"
    assert shown["playing"] == "a test tone"
    assert shown["now"]["rev"] == shown["rev"] == 0
    assert shown["caps"]["model"] == "fake"
    assert (await get(f"{live.url}/api/stations/none", 404))["code"] == "not_found"


async def test_private_stations_are_not_listed_but_can_be_asked_for() -> None:
    async with running("main", "private-a1b2") as served:
        assert [each["id"] for each in (await get(f"{served.url}/api/stations"))["stations"]] == ["main"]
        assert (await get(f"{served.url}/api/stations/private-a1b2"))["id"] == "private-a1b2"
        async with ClientSession() as session:
            for path in ("/status-json.xsl", "/metrics"):
                async with session.get(f"{served.url}{path}") as response:
                    assert "a1b2" not in await response.text(), path


async def test_addresses_in_answers_lead_to_the_server_from_below_any_prefix(live: Running) -> None:
    for path in ("/api/stations", "/api/stations/main"):
        shown = await get(f"{live.url}{path}")
        links = (shown["stations"][0] if "stations" in shown else shown)["links"]
        found = {name: urljoin(f"https://radio.example/radio{path}", link) for name, link in links.items()}
        root = "https://radio.example/radio"
        assert found == {
            "socket": f"{root}/ws/main",
            "mp3": f"{root}/stream/main.mp3",
            "hls": f"{root}/hls/main/master.m3u8",
            "events": f"{root}/api/stations/main/events",
            "embed": f"{root}/embed/main",
        }


async def test_a_server_without_hls_has_no_link_to_it() -> None:
    async with running(server={"hls": False}) as served:
        assert "hls" not in (await get(f"{served.url}/api/stations/main"))["links"]


async def test_stations_are_created_played_and_deleted(live: Running) -> None:
    async with ClientSession() as session:
        body = {"id": "jazz", "title": "Jazz", "prompts": ["bebop"], "seed": 7}
        async with session.post(f"{live.url}/api/stations", json=body) as response:
            assert response.status == 201
            assert response.headers["Location"] == "stations/jazz"
            assert (await response.json())["id"] == "jazz"
        async with session.post(f"{live.url}/api/stations", json=body) as response:
            assert response.status == 409
        async with session.ws_connect(f"{live.url}/ws/jazz") as socket, asyncio.timeout(PATIENCE_S):
            await socket.send_json({"type": "hello", "v": 1, "codecs": []})
            await socket.receive()
            async with session.delete(f"{live.url}/api/stations/jazz") as response:
                assert response.status == 204
            last = [message.data async for message in socket][-1]
            assert json.loads(last) == {"type": "bye", "reason": "this station has ended"}
        async with session.delete(f"{live.url}/api/stations/jazz") as response:
            assert response.status == 404
        async with session.delete(f"{live.url}/api/stations/main") as response:
            assert response.status == 409


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"{", "the body is not JSON"),
        (b"\xff\xfe", "the body is not JSON"),
        (b"", "the body is not JSON"),
        (b"[]", "the body is []"),
        (b"{}", "name"),
        (b'{"id": 5}', "id is 5"),
        (b'{"id": "x", "prompts": [""]}', "stations.x.prompts[0] is ''"),
        (b'{"id": "UPPER"}', "a-z"),
        (b'{"id": "../x"}', "a-z"),
        (b'{"id": "x", "journey": "/etc/passwd"}', "journey"),
        (b'{"id": "x", "save_log": "/tmp/x"}', "save_log"),
        (b'{"id": "x", "promts": ["a"]}', "prompts"),
        (b'{"id": "x", "bpm": 9000}', "bpm"),
        (b'{"id": "x", "seed_image": "\\ud800"}', "seed_image is"),
        (b"[" * 5000, "the body is not JSON"),
        (b'{"id": "x", "seed": ' + b"1" * 5000 + b"}", "the body is not JSON"),
    ],
)
async def test_a_station_that_cannot_be_is_explained(live: Running, body: bytes, word: str) -> None:
    async with ClientSession() as session, session.post(f"{live.url}/api/stations", data=body) as response:
        assert response.status == 400
        answer = await response.json()
    assert answer["code"] == "bad_request"
    assert word in answer["message"]
    assert "\n" not in answer["message"]
    assert list(live.hub.stations) == ["main"]


async def test_json_in_an_encoding_that_nobody_knows_is_read_as_json(live: Running) -> None:
    headers = {"Content-Type": "application/json; charset=nosuch"}
    async with (
        ClientSession() as session,
        session.post(f"{live.url}/api/stations", data=b'{"id": "x"}', headers=headers) as response,
    ):
        assert response.status == 201


async def test_too_many_stations_are_503() -> None:
    async with (
        running("a", "b", "c") as served,
        ClientSession() as session,
        session.post(f"{served.url}/api/stations", json={"id": "d"}) as response,
    ):
        assert response.status == 503
        assert "Retry-After" in response.headers


@pytest.mark.parametrize(("token", "status"), [(None, 403), ("dj", 403), ("wrong", 403), ("own", 201)])
async def test_only_the_owner_manages_stations(token: str | None, status: int) -> None:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        running(access={"dj_token": "dj", "owner_token": "own"}) as served,
        ClientSession() as session,
        session.post(f"{served.url}/api/stations", json={"id": "x"}, headers=headers) as response,
    ):
        assert response.status == status


async def test_a_page_of_another_site_cannot_manage_stations(live: Running) -> None:
    async with ClientSession() as session:
        for origin, status in (("https://evil.example", 403), (live.url, 201)):
            headers = {"Origin": origin}
            async with session.post(f"{live.url}/api/stations", data=b'{"id": "x"}', headers=headers) as response:
                assert response.status == status
                assert "Access-Control-Allow-Origin" not in response.headers


async def test_pages_elsewhere_may_bring_a_token_or_be_listed() -> None:
    """What lets a browser show an app of another site the API: an answer to its preflight, and a result it may read."""
    asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    bearer = {"Origin": "https://app.example", "Authorization": "Bearer own"}
    listed = {"server": {"allowed_origins": ["https://app.example"]}}
    for sections, headers in (
        ({"access": {"owner_token": "own"}}, bearer),
        (listed, {"Origin": "https://app.example"}),
    ):
        async with running(**sections) as served, ClientSession() as session:
            url = f"{served.url}/api/stations"
            async with session.options(url, headers=asked) as response:
                assert response.status == 204
                assert response.headers["Access-Control-Allow-Origin"] == "*"
                assert "POST" in response.headers["Access-Control-Allow-Methods"]
                assert "Authorization" in response.headers["Access-Control-Allow-Headers"]
            async with session.post(url, json={"id": "x"}, headers=headers) as response:
                assert response.status == 201
                assert response.headers["Access-Control-Allow-Origin"] == "*"
            async with session.delete(f"{url}/x", headers=headers) as response:
                assert response.status == 204


async def test_events_arrive_as_server_sent_events(live: Running) -> None:
    async with ClientSession() as session, asyncio.timeout(PATIENCE_S):
        async with session.get(f"{live.url}/api/stations/main/events") as response:
            assert response.content_type == "text/event-stream"
            assert await response.content.readline() == b"event: now\n"
            first = json.loads((await response.content.readline()).removeprefix(b"data: "))
            assert first["state"]["prompts"][0]["text"] == "a test tone"
            await response.content.readline()
            async with session.ws_connect(f"{live.url}/ws/main/plain") as socket:
                await socket.send_str("rain")
                while True:
                    line = await response.content.readline()
                    if line.startswith(b"data: ") and b"rain" in line:
                        break
        while live.server.context.connections.open:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("kind", ["flac", "mp3", "wav", "ogg"])
async def test_a_recording_holds_the_last_seconds_and_is_tagged(live: Running, kind: str) -> None:
    url = f"{live.url}/api/stations/main/recording?seconds=1&format={kind}"
    async with ClientSession() as session, session.get(url) as response:
        assert response.status == 200
        disposition = response.headers["Content-Disposition"]
        data = await response.read()
    assert disposition.startswith('attachment; filename="main-a-test-tone-')
    assert disposition.endswith(f'.{kind}"')
    assert b"a test tone" in data
    wave, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    assert rate == 48_000
    assert len(wave) == pytest.approx(48_000, abs=2400)  # MP3 pads to whole frames
    assert abs(pitch(wave[4800:-4800]) - 300) < 3


@pytest.mark.parametrize(
    "query",
    [
        "seconds=0",
        "seconds=5e-324",
        "seconds=-1",
        "seconds=nan",
        "seconds=121",
        "seconds=9999",
        "seconds=x",
        "format=exe",
    ],
)
async def test_a_recording_that_cannot_be_is_explained(live: Running, query: str) -> None:
    answer = await get(f"{live.url}/api/stations/main/recording?{query}", 400)
    field, _, value = query.partition("=")
    assert answer["message"].startswith(f"{field} is {value!r}; allowed: ")
    assert "up to 120" in answer["message"] or field == "format"


async def test_random_prompts_and_the_schema(live: Running) -> None:
    prompts = {(await get(f"{live.url}/api/prompts/random"))["prompt"] for _ in range(20)}
    assert len(prompts) > 5
    assert await get(f"{live.url}/api/schema") == json.loads(json.dumps(json_schema()))


async def test_readiness_names_what_evaluates_the_network(live: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "torch (OpenVINO's network is loaded)"
    monkeypatch.setattr(live.hub, "health", lambda: {"generator": {"runtime": text}})
    assert await get(f"{live.url}/readyz") == {"status": "ready", "runtime": text}
    monkeypatch.setattr(live.hub, "health", lambda: {"generator": {"runtime": ""}})
    assert await get(f"{live.url}/readyz") == {"status": "ready"}


async def test_health_readiness_and_metrics(live: Running) -> None:
    assert (await get(f"{live.url}/healthz"))["status"] == "ok"
    assert (await get(f"{live.url}/readyz"))["status"] == "ready"
    live.hub.ready = False
    assert (await get(f"{live.url}/readyz", 503))["reason"] == "the model is loading"
    async with ClientSession() as session, session.get(f"{live.url}/stream/main.mp3") as response:
        await response.content.readexactly(1000)
        async with session.get(f"{live.url}/metrics") as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            assert (await answer.text()).endswith("\n")


async def test_large_and_slow_bodies_are_refused() -> None:
    async with running(limits={"body_timeout_s": 0.2}) as served, ClientSession() as session:
        async with session.post(f"{served.url}/api/stations", data=b" " * 100_000) as response:
            assert response.status == 413

        async def trickle() -> Any:
            yield b'{"id":'
            await asyncio.sleep(1)

        async with session.post(f"{served.url}/api/stations", data=trickle()) as response:
            assert response.status == 408


async def test_uploads_to_places_that_take_none_are_405(live: Running) -> None:
    async with (
        ClientSession() as session,
        session.post(f"{live.url}/stream/main.mp3", data=FormData({"a": "b"})) as response,
    ):
        assert response.status == 405
        assert (await response.json())["code"] == "bad_request"


@pytest.fixture
def player(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A player's folder, with something beside it that must not be served."""
    folder = tmp_path / "client"
    (folder / "src").mkdir(parents=True)
    (folder / "tests").mkdir()
    (folder / "index.html").write_text("<title>player</title>")
    (folder / "src" / "app.js").write_text("export {};")
    (folder / "tests" / "app.test.js").write_text("secret")
    (folder / ".hidden.js").write_text("secret")
    (folder / "notes.md").write_text("secret")
    (tmp_path / "secret.js").write_text("secret")
    (folder / "link.js").symlink_to(tmp_path / "secret.js")
    monkeypatch.setattr(static_files, "client_folder", lambda: folder)
    return folder


@pytest.mark.parametrize(("path", "status"), [("/api/stations", 200), ("/api/stations/none", 404), ("/readyz", 200)])
async def test_answers_are_never_cached_and_name_no_versions(live: Running, path: str, status: int) -> None:
    async with ClientSession() as session, session.get(live.url + path) as response:
        assert response.status == status
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["Server"] == "riffstream"


async def test_the_player_is_served_with_its_headers(live: Running, player: Any) -> None:
    async with ClientSession() as session:
        async with session.get(f"{live.url}/") as response:
            assert await response.text() == "<title>player</title>"
            policy = response.headers["Content-Security-Policy"]
            assert "script-src 'self';" in policy
            assert "frame-ancestors 'self'" in policy
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert "Access-Control-Allow-Origin" not in response.headers
        async with session.get(f"{live.url}/embed/main") as response:
            assert "frame-ancestors *" in response.headers["Content-Security-Policy"]
            assert "X-Frame-Options" not in response.headers
        async with session.get(f"{live.url}/src/app.js") as response:
            assert response.content_type == "text/javascript"
            assert response.headers["Access-Control-Allow-Origin"] == "*"
        async with session.get(f"{live.url}/embed/none") as response:
            assert response.status == 404


@pytest.mark.parametrize(
    "path",
    [
        "/src",
        "/nothing.js",
        "/notes.md",
        "/.hidden.js",
        "/tests/app.test.js",
        "/link.js",
        "/../secret.js",
        "/%2e%2e/secret.js",
        "/src/..%2f..%2fsecret.js",
        "/src/%00.js",
        "//etc/passwd.js",
    ],
)
async def test_nothing_outside_the_player_is_served(live: Running, player: Any, path: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(live.url.rsplit(":", 1)[1]))
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), PATIENCE_S)
    writer.close()
    assert answer.startswith((b"HTTP/1.1 404", b"HTTP/1.1 400"))
    assert b"secret" not in answer


async def test_a_fault_of_ours_is_a_500_that_tells_nothing(live: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live.station, "caps", lambda: 1 / 0)
    answer = await get(f"{live.url}/api/stations/main", 500)
    assert answer["code"] == "internal"
    assert "division" not in answer["message"]
    assert (await get(f"{live.url}/api/stations"))["stations"]


async def test_a_trusted_proxy_tells_who_is_asking() -> None:
    for trusted, status in ((["127.0.0.1"], 200), (["127.0.0.0/8"], 200), ([], 503)):
        async with (
            running(server={"trusted_proxies": trusted}, limits={"connections_per_address": 1}, speed=10.0) as served,
            ClientSession() as session,
        ):
            url = f"{served.url}/stream/main.mp3"
            async with session.get(url, headers={"X-Forwarded-For": "6.6.6.6, 10.0.0.1"}) as one:
                assert one.status == 200
                async with session.get(url, headers={"X-Forwarded-For": "6.6.6.6, 10.0.0.2"}) as other:
                    assert other.status == status


async def test_seeds_are_listed_with_their_pictures(live: Running) -> None:
    seeds = (await get(f"{live.url}/api/seeds"))["seeds"]
    assert len(seeds) >= 64
    assert {"name", "style", "tags", "caption", "bpm", "beats", "preview"} <= seeds[0].keys()
    tagged = (await get(f"{live.url}/api/seeds?tag={seeds[0]['style']}"))["seeds"]
    assert seeds[0] in tagged
    assert len(tagged) < len(seeds)
    async with ClientSession() as session, session.get(f"{live.url}/api/{seeds[0]['preview']}") as response:
        assert response.content_type == "image/png"
        assert (await response.read()).startswith(b"\x89PNG")
    for name in ("nothing", "..%2f..%2fseeds"):
        assert (await get(f"{live.url}/api/seeds/{name}.png", 404))["code"] == "not_found"


async def test_the_list_of_seeds_is_filtered_and_paged(live: Running) -> None:
    whole = await get(f"{live.url}/api/seeds")
    assert whole["total"] == len(whole["seeds"])

    async def names(query: str, total: int | None = None) -> list[str]:
        listed = await get(f"{live.url}/api/seeds?{query}")
        assert listed["total"] == (len(listed["seeds"]) if total is None else total)
        return [seed["name"] for seed in listed["seeds"]]

    every = [seed["name"] for seed in whole["seeds"]]
    assert await names("limit=5&offset=7", len(every)) == every[7:12]
    assert await names(f"offset={len(every)}", len(every)) == []
    found = await names("search=SOLO+piano")
    assert "solo_piano" in found
    assert len(found) < len(every)
    waltzes = await names("beats=6")
    assert waltzes == [seed["name"] for seed in whole["seeds"] if seed["beats"] == 6]
    resting, playing = await names("parts=drums=0"), await names("parts=drums=1")
    assert resting
    assert playing
    assert not set(resting) & set(playing)
    for query in (
        f"search={'a+' * 101}",
        "parts=drums=0,drums=1",
        "beats=7",
        "limit=0",
        "limit=x",
        "offset=-1",
        "offset=1e3",
        "parts=flute=1",
        "parts=drums=2",
    ):
        assert (await get(f"{live.url}/api/seeds?{query}", 400))["code"] == "bad_request"


async def test_a_long_list_is_compressed_for_those_who_take_it(live: Running) -> None:
    async with ClientSession(auto_decompress=False) as session:
        sizes = []
        for coding, given in (("gzip", "gzip"), ("br, gzip;q=0.5", "gzip"), ("gzip;q=0, identity", None), ("x", None)):
            async with session.get(f"{live.url}/api/seeds", headers={"Accept-Encoding": coding}) as answer:
                assert answer.headers.get("Content-Encoding") == given
                assert answer.headers["Vary"] == "Accept-Encoding"
                sizes.append(len(await answer.read()))
        assert sizes[1] < sizes[2] / 3
        async with session.get(f"{live.url}/api/seeds?limit=1", headers={"Accept-Encoding": "gzip"}) as answer:
            assert "Content-Encoding" not in answer.headers


async def test_a_model_with_loops_of_its_own_has_these_in_the_list(tmp_path: Path) -> None:
    """As the generator, which knows no others: a fine-tuned model's, with their descriptions and pictures."""
    entry = SeedEntry("my_song", "my_song", ("mine",), "my song", 97.0, 8)
    SeedLibrary.write(tmp_path / "seeds", [entry], torch.zeros(1, 20, 16, 32), torch.zeros(1, 384))
    async with running(generator={"model": str(tmp_path)}) as served:
        listed = await get(f"{served.url}/api/seeds")
        assert [seed["name"] for seed in listed["seeds"]] == ["my_song"]
        assert (await get(f"{served.url}/api/seeds/my_song"))["caption"] == "my song"
        async with ClientSession() as session, session.get(f"{served.url}/api/seeds/my_song.png") as response:
            assert (await response.read()).startswith(b"\x89PNG")
        assert (await get(f"{served.url}/api/seeds/hip_hop", 404))["code"] == "not_found"


async def test_without_a_library_there_are_no_seeds(live: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeds, "library", lambda _: None)
    listed = await get(f"{live.url}/api/seeds")
    assert listed["seeds"] == []
    assert listed["default"] == "auto"


async def test_oembed_describes_the_frame(live: Running) -> None:
    for page, shown in (("/", "main"), ("/embed/main", "main"), ("/?station=main&p=x", "main?p=x")):
        answer = await get(f"{live.url}/oembed?url={quote(live.url + page, safe='')}&maxwidth=400")
        assert (answer["type"], answer["version"], answer["width"], answer["height"]) == ("rich", "1.0", 400, 360)
        assert f'src="{live.url}/embed/{shown}"' in answer["html"]
    live.station.title = '"><script>'
    answer = await get(f"{live.url}/oembed?url={quote(live.url, safe='')}")
    assert "<script>" not in answer["html"]
    for url, status in (("https://evil.example/", 404), (live.url + "/embed/none", 404), ("http://[", 400)):
        await get(f"{live.url}/oembed?url={quote(url, safe='')}", status)
    await get(f"{live.url}/oembed?url=x&format=xml", 501)


async def test_private_stations_end_when_everyone_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("riffstream.server.registry.PRIVATE_IDLE_S", 0.8)
    async with running(speed=10.0) as served, ClientSession() as session, asyncio.timeout(PATIENCE_S):
        for name in ("open-1", "private-1"):
            async with session.post(f"{served.url}/api/stations", json={"id": name}) as response:
                assert response.status == 201
        async with session.ws_connect(f"{served.url}/ws/private-1/plain") as socket:
            await socket.receive()
            await asyncio.sleep(1.0)
            assert "private-1" in served.hub.stations
        while "private-1" in served.hub.stations:
            await asyncio.sleep(0.02)
        assert set(served.hub.stations) == {"main", "open-1"}
