"""Endless HTTP streams, as players ask for them."""

from __future__ import annotations

import asyncio
import io

import av
import numpy as np
import pytest
from aiohttp import ClientSession, HttpVersion10

from tests.server.conftest import Running, running
from tests.server.fakes import pitch
from tests.server.test_icy import strip


async def read(session: ClientSession, url: str, size: int, **headers: str) -> tuple[bytes, dict[str, str]]:
    """The first ``size`` bytes and the response's headers."""
    async with asyncio.timeout(10), session.get(url, headers=headers) as response:
        assert response.status == 200
        return await response.content.readexactly(size), dict(response.headers)


def decoded(data: bytes, format: str) -> np.ndarray:  # noqa: A002
    """Mono samples of a stream that was cut off somewhere."""
    parts = []
    with av.open(io.BytesIO(data), format=format) as container:
        try:
            for frame in container.decode(audio=0):
                array = frame.to_ndarray()
                parts.append(array[0] if frame.format.is_planar else array.reshape(-1, 2)[:, 0])
        except av.FFmpegError:
            pass
    wave = np.concatenate(parts)
    return wave / 32768 if wave.dtype == np.int16 else wave


@pytest.mark.parametrize(
    ("ext", "kind", "size", "format"),
    [("mp3", "audio/mpeg", 40_000, "mp3"), ("aac", "audio/aac", 20_000, "aac"), ("ogg", "audio/ogg", 20_000, "ogg")],
)
async def test_a_player_hears_the_station(live: Running, ext: str, kind: str, size: int, format: str) -> None:  # noqa: A002
    async with ClientSession() as session:
        data, headers = await read(session, f"{live.url}/stream/main.{ext}", size)
    assert headers["Content-Type"] == kind
    assert headers["icy-name"] == "The Test Tone"
    assert headers["Cache-Control"] == "no-cache, no-store"
    wave = decoded(data, format)
    assert len(wave) > 30_000
    half = np.stack([wave[len(wave) // 2 :]] * 2, 1)
    assert abs(pitch(half.astype(np.float32)) - 300) < 3


async def test_wav_begins_with_a_header_and_holds_the_samples(live: Running) -> None:
    async with ClientSession() as session:
        data, headers = await read(session, f"{live.url}/stream/main.wav", 44 + 96_000)
    assert headers["Content-Type"] == "audio/wav"
    assert (data[:4], data[8:12], data[36:40]) == (b"RIFF", b"WAVE", b"data")
    assert abs(pitch(np.frombuffer(data[44:], "<i2").reshape(-1, 2).astype(np.float32)) - 300) < 3


async def test_the_burst_comes_at_once() -> None:
    async with running(preroll=5 * 48_000) as served, ClientSession() as session:  # nothing is committed meanwhile
        data, _ = await read(session, f"{served.url}/stream/main.mp3", 23_000)  # 1.4 s at 128 kbit/s
    assert len(decoded(data, "mp3")) > 48_000


async def test_icy_titles_follow_the_prompts(live: Running) -> None:
    async with (
        ClientSession() as session,
        asyncio.timeout(10),
        session.get(f"{live.url}/stream/main.mp3", headers={"Icy-MetaData": "1"}) as response,
    ):
        metaint = int(response.headers["icy-metaint"])
        assert response.headers["icy-br"] == "128"
        data = await response.content.readexactly(3 * metaint + 400)
        async with session.ws_connect(f"{live.url}/ws/main/plain") as socket:
            await socket.send_str("night bus")
            while not (line := (await socket.receive())).data or not str(line.data).startswith("applied"):
                pass
        data += await response.content.readexactly(6 * metaint)
    audio, titles = strip(data, metaint)
    assert titles == ["a test tone", "night bus"]
    assert len(decoded(audio, "mp3")) > 100_000


async def test_without_asking_there_is_no_metadata(live: Running) -> None:
    async with ClientSession() as session:
        data, headers = await read(session, f"{live.url}/stream/main.mp3", 20_000)
    assert "icy-metaint" not in headers
    assert b"StreamTitle" not in data


async def test_an_http_1_0_player_gets_a_bare_body(live: Running) -> None:
    async with ClientSession(version=HttpVersion10) as session:
        data, headers = await read(session, f"{live.url}/stream/main.mp3", 20_000)
    assert "Transfer-Encoding" not in headers
    assert data[0] == 0xFF


async def test_safari_probes_two_bytes_then_reads_on(live: Running) -> None:
    async with ClientSession() as session, asyncio.timeout(10):
        async with session.get(f"{live.url}/stream/main.mp3", headers={"Range": "bytes=0-1"}) as response:
            assert response.status == 206
            assert response.headers["Content-Range"] == "bytes 0-1/4294967295"
            assert response.headers["Accept-Ranges"] == "bytes"
            probe = await response.read()
            assert len(probe) == 2
            assert probe[0] == 0xFF
        async with session.get(f"{live.url}/stream/main.mp3", headers={"Range": "bytes=0-"}) as response:
            assert response.status == 206
            assert len(await response.content.readexactly(10_000)) == 10_000
        async with session.head(f"{live.url}/stream/main.mp3") as response:
            assert response.status == 200
            assert response.headers["Content-Type"] == "audio/mpeg"


@pytest.mark.parametrize("asked", ["bytes=0-" + "9" * 5000, "bytes=-1", "bytes=5-9", "nonsense"])
async def test_a_range_that_makes_no_sense_gets_the_stream(live: Running, asked: str) -> None:
    url = f"{live.url}/stream/main.mp3"
    async with ClientSession() as session, session.get(url, headers={"Range": asked}) as answer:
        assert answer.status == 200
        assert await answer.content.readexactly(1000)


async def test_listeners_are_counted_out_when_they_hang_up(live: Running) -> None:
    async with ClientSession() as session:
        await read(session, f"{live.url}/stream/main.mp3", 1000)
        async with asyncio.timeout(5):
            while live.station.attached:
                await asyncio.sleep(0.02)
    assert live.server.context.connections.open == 0


async def test_a_full_station_answers_503_with_retry_after() -> None:
    async with (
        running(limits={"listeners_per_station": 1}, speed=10.0) as served,
        ClientSession() as session,
        session.get(f"{served.url}/stream/main.mp3") as first,
    ):
        await first.content.readexactly(100)
        async with session.get(f"{served.url}/stream/main.mp3") as second:
            assert second.status == 503
            assert second.headers["Retry-After"] == "5"
            assert (await second.json())["code"] == "busy"


async def test_a_listen_token_travels_in_a_header() -> None:
    async with running(access={"listen_token": "ears"}, speed=10.0) as served, ClientSession() as session:
        url = f"{served.url}/stream/main.mp3"
        async with session.get(url) as response:
            assert response.status == 401
        async with session.get(url + "?token=ears") as response:
            assert response.status == 401
        for header in ("Bearer ears", "Basic bGlzdGVuZXI6ZWFycw=="):
            await read(session, url, 100, Authorization=header)


@pytest.mark.parametrize(
    ("kind", "type_", "line"),
    [("m3u", "audio/x-mpegurl", "#EXTINF:-1,The Test Tone"), ("pls", "audio/x-scpls", "Title1=The Test Tone")],
)
async def test_playlists_name_the_stream(live: Running, kind: str, type_: str, line: str) -> None:
    async with ClientSession() as session, session.get(f"{live.url}/listen/main.{kind}") as response:
        assert response.content_type == type_
        text = await response.text()
    assert f"{live.url}/stream/main.mp3" in text
    assert line in text.splitlines()


async def test_playlists_use_the_public_address() -> None:
    async with (
        running(server={"public_url": "https://radio.example/"}) as served,
        ClientSession() as session,
        session.get(f"{served.url}/listen/main.m3u") as response,
    ):
        assert "https://radio.example/stream/main.mp3" in await response.text()


async def test_icecast_status_lists_the_sources(live: Running) -> None:
    async with ClientSession() as session, session.get(f"{live.url}/status-json.xsl") as response:
        source = (await response.json())["icestats"]["source"][0]
    assert source["title"] == "a test tone"
    assert source["listeners"] == 0
    assert source["listenurl"] == f"{live.url}/stream/main.mp3"


async def test_a_draining_server_ends_the_body(live: Running) -> None:
    async with (
        ClientSession() as session,
        asyncio.timeout(10),
        session.get(f"{live.url}/stream/main.mp3") as response,
    ):
        await response.content.readexactly(1000)
        stopping = asyncio.create_task(live.server.stop())
        await response.content.read()  # to the end, without an error
        await stopping
