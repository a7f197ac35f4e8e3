"""Endless HTTP streams, as players ask for them."""

from __future__ import annotations

import asyncio
import io
import socket

import av
import numpy as np
import pytest
from aiohttp import ClientPayloadError, ClientSession, HttpVersion, HttpVersion10, HttpVersion11

from riffstream.server import streams
from riffstream.server.streams import CONTENT_TYPES
from tests.conftest import PATIENCE_S
from tests.server.conftest import Running, running
from tests.server.fakes import pitch
from tests.server.test_icy import strip


async def read(session: ClientSession, url: str, size: int, **headers: str) -> tuple[bytes, dict[str, str]]:
    """The first ``size`` bytes and the response's headers."""
    async with asyncio.timeout(PATIENCE_S), session.get(url, headers=headers) as response:
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
    [("mp3", "audio/mpeg", 40_000, "mp3"), ("aac", "audio/aac", 20_000, "aac"), ("ogg", "audio/ogg", 30_000, "ogg")],
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


async def steer(session: ClientSession, url: str, prompt: str) -> None:
    """Steer and wait until it is heard."""
    async with session.ws_connect(f"{url}/ws/main/plain") as socket:
        await socket.send_str(prompt)
        while not (line := (await socket.receive())).data or not str(line.data).startswith("applied"):
            pass


@pytest.mark.parametrize("codec", ["mp3", "aac", "ogg", "wav"])
async def test_icy_titles_follow_the_prompts(live: Running, codec: str) -> None:
    async with (
        ClientSession() as session,
        asyncio.timeout(PATIENCE_S),
        session.get(f"{live.url}/stream/main.{codec}", headers={"Icy-MetaData": "1"}) as response,
    ):
        metaint = int(response.headers["icy-metaint"])
        data = await response.content.readexactly(3 * metaint + 400)
        await steer(session, live.url, "night bus, rock 'n' roll")
        while True:  # the buffers hold many blocks of WAV
            data += await response.content.readexactly(6 * metaint)
            audio, titles = strip(data, metaint)
            if len(titles) > 1:
                break
    assert titles == ["a test tone", "night bus, rock ’n’ roll"]
    assert len(decoded(audio, codec)) > 40_000
    assert audio.count(b"OpusTags") == (codec == "ogg")  # ICY listeners get no new links


async def test_an_ogg_stream_begins_a_new_link_with_each_title(live: Running) -> None:
    async with (
        ClientSession() as session,
        asyncio.timeout(PATIENCE_S),
        session.get(f"{live.url}/stream/main.ogg") as response,
    ):
        assert "icy-metaint" not in response.headers
        data = await response.content.readexactly(20_000)
        assert b"TITLE=a test tone" in data[:300]
        assert b"ARTIST=The Test Tone" in data[:300]
        await steer(session, live.url, "ночной автобус")
        while "TITLE=ночной автобус".encode() not in data:
            data += await response.content.readexactly(10_000)
        data += await response.content.readexactly(20_000)
    assert data.count(b"OpusHead") == data.count(b"OpusTags") == 2
    wave = decoded(data, "ogg")
    second = data.index(b"OpusHead", 100) - 28
    assert len(wave) > len(decoded(data[:second], "ogg")) + 20_000  # it plays on
    assert np.abs(np.diff(wave)).max() < 0.1  # a jump or a hole in the tone would be more


async def test_without_asking_there_is_no_metadata(live: Running) -> None:
    async with ClientSession() as session:
        data, headers = await read(session, f"{live.url}/stream/main.mp3", 20_000)
    assert "icy-metaint" not in headers
    assert b"StreamTitle" not in data


@pytest.mark.parametrize("version", [HttpVersion10, HttpVersion11])
@pytest.mark.parametrize("asked", [{}, {"Icy-MetaData": "1"}, {"Connection": "close"}])
async def test_every_player_gets_a_bare_body(live: Running, version: HttpVersion, asked: dict[str, str]) -> None:
    async with ClientSession(version=version) as session:
        data, headers = await read(session, f"{live.url}/stream/main.mp3", 20_000, **asked)
    assert "Transfer-Encoding" not in headers
    assert "Content-Length" not in headers
    assert headers["Connection"] == "close"
    assert data[0] == 0xFF


async def raw(url: str, request: str, size: int = 2000) -> bytes:
    """What a client gets that speaks through a bare socket: the answer's first bytes."""
    host, port = url.removeprefix("http://").rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(request.replace("\n", "\r\n").encode())
        async with asyncio.timeout(PATIENCE_S):
            return await reader.readexactly(size)
    finally:
        writer.close()
        await writer.wait_closed()


async def test_an_old_radio_needs_no_host_and_finds_sound_behind_the_headers(live: Running) -> None:
    answer = await raw(live.url, "GET /stream/main.mp3 HTTP/1.0\nIcy-MetaData:1\n\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 ")
    assert b"icy-metaint: 16000" in head
    assert body[:1] == b"\xff"


OPEN = [
    "bytes=0-",
    "bytes=1-",
    "bytes=4294967167-",
    f"bytes={2**32}-",
    "bytes=-500",
    "bytes=-0",
    "bytes=0-" + "9" * 5000,
]
NONSENSE = ["bytes=0-1,4-5", "bytes=0-0,-1", "bytes=9-5", "bytes=", "bytes=-", "bytes=a-b", "items=0-5", "nonsense", ""]


@pytest.mark.parametrize("codec", ["mp3", "aac", "ogg", "wav"])
async def test_an_endless_stream_claims_no_ranges(live: Running, codec: str) -> None:
    url = f"{live.url}/stream/main.{codec}"
    async with ClientSession() as session, asyncio.timeout(PATIENCE_S):
        for asked in [None, *OPEN, *NONSENSE]:
            headers = {} if asked is None else {"Range": asked}
            async with session.get(url, headers=headers) as answer:
                assert answer.status == 200, asked
                assert not {"Accept-Ranges", "Content-Range", "Content-Length"} & set(answer.headers), asked
                assert len(await answer.content.readexactly(1000)) == 1000
            async with session.head(url, headers=headers) as answer:
                assert answer.status == 200, asked
                assert not {"Accept-Ranges", "Content-Range", "Content-Length"} & set(answer.headers), asked
                assert answer.headers["Content-Type"] == CONTENT_TYPES[codec]
                assert answer.headers["icy-name"] == "The Test Tone"


@pytest.mark.parametrize("codec", ["mp3", "aac", "ogg", "wav"])
@pytest.mark.parametrize(
    ("first", "last"), [(0, 0), (0, 1), (5, 9), (0, 1023), (0, 2000), (700_000, 702_000), (0, 20_000), (3, 30_001)]
)
async def test_a_range_with_both_ends_gets_exactly_its_bytes(live: Running, codec: str, first: int, last: int) -> None:
    url, length = f"{live.url}/stream/main.{codec}", last - first + 1
    async with ClientSession() as session, asyncio.timeout(PATIENCE_S):
        async with session.get(url, headers={"Range": f"bytes={first}-{last}"}) as answer:
            assert answer.status == 206
            assert answer.headers["Content-Range"] == f"bytes {first}-{last}/4294967295"
            assert answer.headers["Content-Length"] == str(length)
            assert "Accept-Ranges" not in answer.headers
            body = await answer.read()
        assert len(body) == length
        assert body.count(b"\0") < length / 2 + 2  # sound, not padding
        async with session.get(url) as answer:
            start = await answer.content.readexactly(20)
    if codec in ("ogg", "wav") and first < 20:
        assert body.startswith(start[first : last + 1])


async def test_safari_plays_on_behind_its_probe(live: Running) -> None:
    """Its two requests, with the total that the first answer named."""
    url = f"{live.url}/stream/main.mp3"
    async with ClientSession() as session, asyncio.timeout(PATIENCE_S):
        async with session.get(url, headers={"Range": "bytes=0-1"}) as answer:
            assert (answer.status, len(await answer.read())) == (206, 2)
            assert answer.headers["icy-name"] == "The Test Tone"
            assert answer.headers["icy-br"] == "128"
            total = int(answer.headers["Content-Range"].rpartition("/")[2])
        assert live.station.attached == 0
        assert live.server.context.broadcasts["main"].joined_total == 0
        for last in (total - 1, 1_073_741_822, 2**40):
            async with session.get(url, headers={"Range": f"bytes=0-{last}"}) as answer:
                assert answer.status == 206
                assert answer.headers["Content-Range"].startswith(f"bytes 0-{last}/")
                assert answer.headers["Content-Length"] == str(last + 1)
                assert len(decoded(await answer.content.readexactly(40_000), "mp3")) > 100_000
                assert live.station.attached == 1
        async with session.get(url, headers={"Range": "bytes=0-1", "If-Range": '"x"'}) as answer:
            assert answer.status == 200


async def test_a_wav_range_behind_the_header_keeps_left_and_right_apart(live: Running) -> None:
    """Safari goes on at the byte where its connection broke, which may be in the middle of a sample."""
    live.station.balance = 0.25
    for first in (1_000_044, 1_000_045, 1_000_046, 1_000_047):
        async with (
            ClientSession() as session,
            session.get(f"{live.url}/stream/main.wav", headers={"Range": f"bytes={first}-{first + 99_999}"}) as answer,
        ):
            body = await answer.read()
        body = body[-(first - 44) % 4 :]
        left, right = np.frombuffer(body[: len(body) // 4 * 4], "<i2").reshape(-1, 2).astype(float).T
        assert np.abs(right).max() == pytest.approx(np.abs(left).max() / 4, rel=0.01), first


async def test_a_short_range_of_a_silent_station_is_an_error_and_no_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "PROBE_S", 0.2)
    async with running(preroll=0) as served, ClientSession() as session:
        url = f"{served.url}/stream/main.mp3"
        async with session.get(url, headers={"Range": "bytes=0-1"}) as answer:
            assert answer.status == 503
            assert (await answer.json())["code"] == "busy"
            assert answer.headers["Retry-After"]
    assert served.server.context.connections.open == 0


async def test_the_name_goes_out_as_utf_8_on_one_line(live: Running) -> None:
    live.station.title, live.station.description = "Café ♫\nX-Bad: 1\0", "ночь\r\n"
    answer = await raw(live.url, "GET /stream/main.mp3 HTTP/1.1\nHost: x\n\n")
    lines = answer.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    assert "icy-name: Café ♫ X-Bad: 1" in lines
    assert "icy-description: ночь" in lines


async def test_listeners_are_counted_out_when_they_hang_up(live: Running) -> None:
    async with ClientSession() as session:
        await read(session, f"{live.url}/stream/main.mp3", 1000)
        async with asyncio.timeout(PATIENCE_S):
            while live.station.attached:
                await asyncio.sleep(0.02)
    assert live.server.context.connections.open == 0


async def test_a_player_of_wav_may_be_busy_for_as_long_as_one_of_mp3() -> None:
    """Two seconds of WAV are six times the buffer at which the listeners of other formats skip to live."""
    async with running(preroll=3 * 48_000, speed=1.0) as served:
        host, port = served.url.removeprefix("http://").rsplit(":", 1)
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(sock, (host, int(port)))
            await loop.sock_sendall(sock, b"GET /stream/main.wav HTTP/1.0\r\n\r\n")
            data = b""
            async with asyncio.timeout(PATIENCE_S):
                while len(data) < 300_000:
                    data += await loop.sock_recv(sock, 65536)
                await asyncio.sleep(2)
                while len(data) < 900_000:
                    data += await loop.sock_recv(sock, 65536)
        assert served.server.context.broadcasts["main"].stats().skips == 0
    sound = data.partition(b"\r\n\r\n")[2][44:]
    left = np.frombuffer(sound[: len(sound) // 4 * 4], "<i2")[::2] / 32768
    assert np.abs(np.diff(left)).max() < 0.02  # 300 Hz at a level of 0.3; a gap is a jump


async def test_a_server_that_goes_closes_a_range_that_it_cannot_finish(live: Running) -> None:
    headers = {"Range": "bytes=0-1073741822"}
    async with (
        ClientSession() as session,
        asyncio.timeout(PATIENCE_S),
        session.get(f"{live.url}/stream/main.mp3", headers=headers) as response,
    ):
        await response.content.readexactly(1000)
        stopping = asyncio.create_task(live.server.stop())
        with pytest.raises(ClientPayloadError):  # the browser must not take it for the whole
            await response.content.read()
        await stopping


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
        asyncio.timeout(PATIENCE_S),
        session.get(f"{live.url}/stream/main.mp3") as response,
    ):
        await response.content.readexactly(1000)
        stopping = asyncio.create_task(live.server.stop())
        await response.content.read()  # to the end, without an error
        await stopping
