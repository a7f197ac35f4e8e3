"""HLS over HTTP: what is answered, how long it may be cached, and when encoders run."""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import av
import pytest

from riffstream.server.hls import stream as module
from riffstream.station.outlet import hls_codec
from tests.conftest import PATIENCE_S
from tests.server.conftest import Running, running


@pytest.fixture
async def live() -> AsyncIterator[Running]:
    """A server with twenty seconds of sound behind it, twice as fast as real time: encoders keep up with it."""
    async with running(speed=2.0, preroll=20 * 48_000) as served:
        yield served


async def fetch(url: str, path: str, **options: Any) -> tuple[int, dict[str, str], bytes]:
    async with aiohttp.ClientSession() as session, session.get(url + path, **options) as answer:
        return answer.status, dict(answer.headers), await answer.read()


async def listed(live: Running, kbps: int = 64) -> list[str]:
    status, _, body = await fetch(live.url, f"/hls/main/{kbps}.m3u8")
    assert status == 200
    return [line for line in body.decode().splitlines() if not line.startswith("#")]


async def test_playlists_and_segments(live: Running) -> None:
    status, headers, body = await fetch(live.url, "/hls/main/master.m3u8")
    assert status == 200
    assert headers["Content-Type"].startswith("application/vnd.apple.mpegurl")
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert body.decode().count("#EXT-X-STREAM-INF") == 3
    uris = await listed(live)
    assert len(uris) >= 3
    folder = uris[0].rsplit("/", 1)[0]
    _, init_headers, init = await fetch(live.url, f"/hls/main/{folder}/init.mp4")
    _, headers, first = await fetch(live.url, f"/hls/main/{uris[0]}")
    assert headers["Content-Type"] == "video/iso.segment"
    assert init_headers["Content-Type"] == "video/mp4"
    assert headers["Cache-Control"] == init_headers["Cache-Control"] == "public, max-age=31536000, immutable"
    with av.open(io.BytesIO(init + first)) as container:
        assert sum(frame.samples for frame in container.decode(audio=0)) in (93 * 1024, 94 * 1024)


async def test_the_playlist_moves_on_and_a_cache_may_keep_it_for_a_second(live: Running) -> None:
    before = await listed(live)
    async with asyncio.timeout(PATIENCE_S):
        while (after := await listed(live)) == before:
            await asyncio.sleep(0.05)
    assert after[-2] in before or after[-1] not in before
    _, headers, _ = await fetch(live.url, "/hls/main/64.m3u8")
    assert headers["Cache-Control"] == "public, max-age=1"


async def test_every_rendition_has_the_same_segments(live: Running) -> None:
    found = [await listed(live, kbps) for kbps in (64, 128, 256)]
    numbers = [{uri.rsplit("/", 1)[1] for uri in uris} for uris in found]
    assert numbers[0] & numbers[1] & numbers[2]


@pytest.mark.parametrize(
    "path",
    [
        "/hls/nowhere/master.m3u8",
        "/hls/main/96.m3u8",
        "/hls/main/64.mp3",
        "/hls/main/abc/64/1.m4s",
        "/hls/main/abc/64/init.mp4",
        "/hls/main/abc/96/1.m4s",
        "/hls/main/../64.m3u8",
    ],
)
async def test_what_is_not_there_is_404(live: Running, path: str) -> None:
    await listed(live)
    assert (await fetch(live.url, path))[0] == 404


async def test_segments_of_another_run_are_gone(live: Running) -> None:
    uri = (await listed(live))[0]
    other = re.sub(r"^[0-9a-f]+", "abc", uri)
    assert (await fetch(live.url, f"/hls/main/{other}"))[0] == 404
    assert (await fetch(live.url, f"/hls/main/{uri.rsplit('/', 1)[0]}/999999999.m4s"))[0] == 404


async def test_encoders_run_while_somebody_asks(live: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    broadcast = live.server.context.broadcast("main")
    assert set(broadcast.feeds) == set()
    await listed(live)
    assert set(broadcast.feeds) == {hls_codec(64)}
    broadcast.sweep()
    assert broadcast.hls.running(64) is not None
    monkeypatch.setattr(module, "IDLE_S", -1.0)
    broadcast.sweep()
    assert broadcast.hls.running(64) is None
    assert broadcast.feeds[hls_codec(64)].idle_since is not None
    monkeypatch.undo()
    assert len(await listed(live)) >= 3


async def test_a_lost_encoder_begins_anew_with_other_addresses(live: Running) -> None:
    before = (await listed(live))[0].split("/")[0]
    await asyncio.sleep(0.01)
    live.station.outlets[hls_codec(64)]._failed(OSError("lost"))
    await asyncio.sleep(1.1)  # its back-off
    after = (await listed(live))[0].split("/")[0]
    assert after != before


async def test_an_encoder_that_cannot_run_is_503(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object, **__: object) -> None:
        raise OSError("no encoder")

    monkeypatch.setattr("riffstream.station.outlet.make_encoder", none)
    async with running(speed=2.0, preroll=20 * 48_000) as served:
        status, headers, _ = await fetch(served.url, "/hls/main/64.m3u8")
    assert status == 503
    assert int(headers["Retry-After"]) >= 1


async def test_a_station_without_sound_is_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "START_S", 0.2)
    async with running() as served:
        status, headers, _ = await fetch(served.url, "/hls/main/64.m3u8")
    assert status == 503
    assert headers["Retry-After"] == "5"


async def test_tokens_count_here_as_well() -> None:
    async with running(speed=2.0, preroll=20 * 48_000, access={"listen_token": "secret"}) as served:
        assert (await fetch(served.url, "/hls/main/master.m3u8"))[0] == 401
        auth = {"Authorization": "Bearer secret"}
        status, headers, _ = await fetch(served.url, "/hls/main/64.m3u8", headers=auth)
    assert status == 200
    assert headers["Cache-Control"].startswith("private")


async def test_hls_can_be_switched_off() -> None:
    async with running(speed=2.0, preroll=20 * 48_000, server={"hls": False}) as served:
        status, _, body = await fetch(served.url, "/hls/main/master.m3u8")
    assert status == 404
    assert b"server.hls" in body


async def test_head_starts_no_encoder(live: Running) -> None:
    async with aiohttp.ClientSession() as session, session.head(f"{live.url}/hls/main/master.m3u8") as answer:
        assert answer.status == 200
    assert live.server.context.broadcast("main").feeds == {}


async def test_a_rendition_keeps_its_station_awake_and_counts_once(
    live: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    broadcast = live.server.context.broadcast("main")
    await listed(live)
    await listed(live)
    assert (broadcast.listeners, live.station.attached, broadcast.empty_since) == (1, 1, None)
    monkeypatch.setattr(module, "IDLE_S", -1.0)
    broadcast.sweep()
    assert (broadcast.listeners, live.station.attached) == (0, 0)
    assert broadcast.empty_since is not None


async def test_a_full_station_is_503() -> None:
    limits = {"listeners_per_station": 1}
    async with running(speed=2.0, preroll=20 * 48_000, limits=limits) as served:
        assert (await fetch(served.url, "/hls/main/64.m3u8"))[0] == 200
        assert (await fetch(served.url, "/hls/main/128.m3u8"))[0] == 503
        assert (await fetch(served.url, "/hls/main/64.m3u8"))[0] == 200


def numbers(playlist: str) -> tuple[int, int]:
    """Numbers of the first segment and of the first discontinuity."""
    media, breaks = (re.search(rf"#EXT-X-{name}SEQUENCE:(\d+)\n", playlist) for name in ("MEDIA-", "DISCONTINUITY-"))
    assert media is not None
    assert breaks is not None
    return int(media[1]), int(breaks[1])


async def test_numbers_grow_over_a_restart_that_loses_the_clock() -> None:
    """Players wait until they see a larger number than before: as long as the old server has run."""
    found = []
    for seconds in (40, 12):
        async with running(speed=1.0, preroll=seconds * 48_000) as served:
            _, _, body = await fetch(served.url, "/hls/main/128.m3u8")
            again = await fetch(served.url, "/hls/main/64.m3u8")
            assert abs(numbers(again[2].decode())[0] - numbers(body.decode())[0]) <= 1
            assert numbers(again[2].decode())[1] == numbers(body.decode())[1]
            found.append(numbers(body.decode()))
    assert found[1][0] > found[0][0] - 1
    assert found[1][1] >= found[0][1]


async def test_breaks_are_counted_from_run_to_run_and_stay_few(live: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """hls.js walks through an array of that length at each playlist: with 900 million its page hangs."""
    _, _, body = await fetch(live.url, "/hls/main/128.m3u8")
    now = numbers(body.decode())[1]
    later = module.time.time() + 3600
    monkeypatch.setattr(module.time, "time", lambda: later)
    async with running(speed=2.0, preroll=20 * 48_000) as served:
        _, _, body = await fetch(served.url, "/hls/main/128.m3u8")
    assert now + 5 <= numbers(body.decode())[1] <= now + 7
    assert now < 2_000_000


async def test_ffmpeg_plays_on_when_the_server_is_replaced(need_tool: Callable[[str], str]) -> None:
    async with (
        running(speed=1.0, preroll=60 * 48_000) as first,
        running(speed=1.0, preroll=12 * 48_000) as second,
    ):
        ports = [int(served.url.rsplit(":", 1)[1]) for served in (first, second)]

        async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there, back = await asyncio.open_connection("127.0.0.1", ports[0])

            async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
                with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                    while data := await source.read(65_536):
                        target.write(data)
                target.close()

            open_ports.append(back)
            await asyncio.gather(copy(reader, back), copy(there, writer))

        open_ports: list[asyncio.StreamWriter] = []
        server = await asyncio.start_server(forward, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hls/main/128.m3u8"
        command = [need_tool("ffmpeg"), "-v", "error", "-i", url, "-t", "14", "-f", "s16le", "-ac", "1", "-"]
        player = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        assert player.stdout is not None
        await player.stdout.readexactly(96_000)
        ports.reverse()
        for writer in open_ports:
            writer.close()
        async with asyncio.timeout(25):
            rest = await player.stdout.read()
            assert await player.wait() == 0
        server.close()
    assert (len(rest) + 96_000) / 96_000 > 9  # -t counts time stamps, which jump with the clock
