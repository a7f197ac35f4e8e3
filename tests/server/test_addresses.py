"""Addresses that no route has: redirects that strangers follow, and refusals that say what there is."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import ClientSession

from tests.conftest import PATIENCE_S
from tests.server.conftest import Running, running


async def asked(url: str, method: str = "GET", **options: Any) -> tuple[int, dict[str, str], dict[str, Any]]:
    async with ClientSession() as session, session.request(method, url, allow_redirects=False, **options) as answer:
        kind = answer.content_type == "application/json" and method != "HEAD"
        return answer.status, dict(answer.headers), await answer.json() if kind else {}


@pytest.mark.parametrize("path", ["/stream/main.mp3/", "//stream/main.mp3", "/stream//main.mp3//", "/listen/main.m3u/"])
async def test_needless_slashes_lead_ffmpeg_and_curl_to_the_stream(path: str, need_tool: Callable[[str], str]) -> None:
    ffmpeg, curl = need_tool("ffmpeg"), need_tool("curl")
    async with running(speed=4.0) as served:
        if "listen" not in path:
            command = [ffmpeg, "-v", "error", "-i", served.url + path, "-t", "1", "-f", "s16le", "-ac", "1", "-"]
            done = await asyncio.to_thread(subprocess.run, command, capture_output=True, timeout=30)
            assert (done.returncode, done.stderr) == (0, b"")
            assert len(done.stdout) >= 80_000
        curled = [curl, "-sL", "-r", "0-1", "-w", "%{http_code} %{url_effective}", "-o", "/dev/null", served.url + path]
        done = await asyncio.to_thread(subprocess.run, curled, capture_output=True, timeout=30)
        meant = "/listen/main.m3u" if "listen" in path else "/stream/main.mp3"
        assert done.stdout.decode() in (f"206 {served.url}{meant}", f"200 {served.url}{meant}")


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/api/stations/", "../../api/stations"),
        ("/api/stations/main/recording/?seconds=5", "../../../../api/stations/main/recording?seconds=5"),
        ("/hls/main/master.m3u8/", "../../../hls/main/master.m3u8"),
        ("/embed/main/", "../../embed/main"),
        ("/healthz/", "../healthz"),
    ],
)
async def test_a_redirect_is_relative_and_keeps_the_query(live: Running, path: str, location: str) -> None:
    for method in ("GET", "HEAD"):
        status, headers, _ = await asked(live.url + path, method)
        assert (status, headers["Location"]) == (301, location), method


async def test_a_redirect_keeps_the_method_and_the_body(live: Running) -> None:
    async with (
        ClientSession() as session,
        session.post(f"{live.url}/api/stations/", json={"id": "second"}) as answer,
    ):
        assert (answer.status, (await answer.json())["id"]) == (201, "second")
    async with ClientSession() as session, session.delete(f"{live.url}/api/stations/second/") as answer:
        assert answer.status == 204


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/stream/main.flac", "format is 'flac'; allowed: mp3, aac, ogg, wav, as in /stream/main.mp3"),
        ("/stream/main", "format is ''; allowed: mp3, aac, ogg, wav, as in /stream/main.mp3"),
        ("/stream/MAIN.mp3", "no station 'MAIN'; /api/stations lists them"),
        ("/stream/m%C3%A4in.mp3", "no station 'mäin'; /api/stations lists them"),
        ("/listen/main.xspf", "format is 'xspf'; allowed: m3u, pls, as in /listen/main.m3u"),
        ("/stream/main.mp3/ws/main", "no such address; there is /stream/main.mp3"),
        ("/hls/main", "no such address; there is /hls/main/master.m3u8"),
        ("/hls/main/index.m3u8", "no such address; there is /hls/main/master.m3u8"),
        ("/hls/Main/master.m3u8", "no station 'Main'; /api/stations lists them"),
        ("/embed/Main", "no station 'Main'; /api/stations lists them"),
        ("/ws/main/plan", "no such address; there is /ws/main or /ws/main/plain"),
        ("/api/", "no such address; /api/openapi.json lists them"),
        ("/api/station", "no such address; /api/openapi.json lists them"),
        ("/nothing", "no such page"),
        ("//evil.example/", "no such page"),
    ],
)
async def test_a_wrong_address_is_told_what_there_is(live: Running, path: str, words: str) -> None:
    status, _, body = await asked(live.url + path)
    assert (status, body) == (404, {"code": "not_found", "message": words})


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/stream/main.mp3", "GET, HEAD"),
        ("GET", "/run_inference/", "POST"),
        ("PUT", "/run_inference", "POST"),
        ("GET", "/api/sessions/private-x", "DELETE"),
        ("POST", "/api/stations/main", "DELETE, GET, HEAD"),
        ("PATCH", "/api/seeds", "GET, HEAD, POST"),
    ],
)
async def test_a_wrong_method_is_told_the_right_ones(live: Running, method: str, path: str, allowed: str) -> None:
    """The player's files have any address, but only GET: that alone is no method of an address."""
    status, headers, body = await asked(f"{live.url}{path}", method)
    assert (status, body["message"]) == (405, f"method is {method}; allowed: {allowed}")
    assert headers["Allow"] == allowed
    status, headers, _ = await asked(f"{live.url}{path}", "OPTIONS")
    assert (status, headers["Allow"]) == (204, f"{allowed}, OPTIONS")


@pytest.mark.parametrize(
    "path", ["/stream/main.mp3", "/api/stations/main/events", "/hls/main/master.m3u8", "/api/stations/main/recording"]
)
async def test_head_has_no_body_and_leaves_the_connection_in_step(live: Running, path: str) -> None:
    """The bytes of a body would be the start of the connection's next answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(live.url.rsplit(":", 1)[1]))
    writer.write(f"HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\nGET /readyz HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    found = b""
    while found.count(b"HTTP/1.1 200 OK") < 2 and (part := await asyncio.wait_for(reader.read(65536), PATIENCE_S)):
        found += part
    writer.close()
    first, _, rest = found.partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 200 OK")
    assert rest.startswith(b"HTTP/1.1 200 OK") or (not rest and b"Connection: close" in first)
