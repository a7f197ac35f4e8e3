"""What browsers allow pages of other sites: preflights on every path, and what they may read."""

from __future__ import annotations

import re

import pytest
from aiohttp import ClientSession

from tests.server.conftest import Running, running

ORIGIN = {"Origin": "https://app.example"}


def preflight(method: str = "GET", headers: str = "icy-metadata, range", **more: str) -> dict[str, str]:
    asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
    return ORIGIN | asked | more


def words(value: str) -> set[str]:
    return {word.strip().lower() for word in value.split(",")}


async def test_every_route_answers_a_preflight(live: Running) -> None:
    paths = {"/nowhere", "/src/player.js", "/hls/main.m3u8"}
    for resource in live.server.app.router.resources():
        path = re.sub(r"\{codec[^}]*\}|\{kind[^}]*\}", "mp3", resource.canonical)
        paths.add(re.sub(r"\{[^}]*\}", "main", path))
    assert {"/stream/main.mp3", "/status-json.xsl", "/api/stations", "/healthz", "/metrics", "/oembed"} <= paths
    async with ClientSession() as session:
        for path in sorted(paths):
            async with session.options(live.url + path, headers=preflight()) as answer:
                assert answer.status == 204, path
                assert answer.headers["Access-Control-Allow-Origin"] == "*", path
                assert words(answer.headers["Access-Control-Allow-Methods"]) & {"get", "post", "delete"}, path
                allowed = words(answer.headers["Access-Control-Allow-Headers"])
                assert {"icy-metadata", "range", "authorization", "content-type"} <= allowed, path
                assert await answer.read() == b""


async def test_a_preflight_names_the_methods_of_the_path(live: Running) -> None:
    async with ClientSession() as session:
        for path, methods in (
            ("/api/stations", {"get", "head", "post"}),
            ("/stream/main.mp3", {"get", "head"}),
            ("/run_inference/", {"post"}),
            ("/src/player.js", {"get", "head"}),
        ):
            async with session.options(live.url + path, headers=preflight()) as answer:
                assert words(answer.headers["Access-Control-Allow-Methods"]) == methods
        async with session.options(f"{live.url}/api/stations/main") as answer:  # no preflight: what may be done there
            assert answer.status == 204
            assert words(answer.headers["Allow"]) == {"get", "head", "delete", "options"}
            assert "Access-Control-Allow-Methods" not in answer.headers
        async with session.put(f"{live.url}/stream/main.mp3") as answer:
            assert answer.status == 405


async def test_a_stream_behind_a_token_is_preflighted_without_it() -> None:
    async with running(access={"listen_token": "ears"}, speed=10.0) as served, ClientSession() as session:
        url = f"{served.url}/stream/main.mp3"
        async with session.options(url, headers=preflight(headers="authorization")) as answer:
            assert answer.status == 204
        async with session.get(url, headers=ORIGIN) as answer:
            assert answer.status == 401
            assert answer.headers["Access-Control-Allow-Origin"] == "*"  # a page may say why


async def test_titles_and_ranges_of_a_stream_may_be_read(live: Running) -> None:
    headers = ORIGIN | {"Icy-MetaData": "1", "Range": "bytes=0-1"}
    async with ClientSession() as session, session.get(f"{live.url}/stream/main.mp3", headers=headers) as answer:
        exposed = words(answer.headers["Access-Control-Expose-Headers"])
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        icy = {name.lower() for name in answer.headers if name.lower().startswith("icy-")}
        assert "icy-metaint" in icy
        assert icy | {"content-range", "content-length"} <= exposed


@pytest.mark.parametrize(
    ("method", "headers", "sections", "allowed"),
    [
        ("GET", "icy-metadata", {}, True),
        ("POST", "content-type", {}, False),
        ("POST", "authorization, content-type", {}, True),
        ("POST", "content-type", {"server": {"allowed_origins": ["https://app.example"]}}, True),
    ],
)
async def test_the_public_internet_may_reach_a_private_server_to_read_or_where_it_is_invited(
    method: str, headers: str, sections: dict[str, dict[str, object]], allowed: bool
) -> None:
    asked = preflight(method, headers, **{"Access-Control-Request-Private-Network": "true"})
    async with (
        running(**sections) as served,
        ClientSession() as session,
        session.options(f"{served.url}/api/stations", headers=asked) as answer,
    ):
        assert (answer.headers.get("Access-Control-Allow-Private-Network") == "true") is allowed


async def test_a_preflight_lets_no_page_steer(live: Running) -> None:
    async with ClientSession() as session:
        async with session.options(f"{live.url}/api/stations", headers=preflight("POST", "content-type")) as answer:
            assert answer.status == 204
        async with session.post(f"{live.url}/api/stations", json={"id": "x"}, headers=ORIGIN) as answer:
            assert answer.status == 403
            assert "Access-Control-Allow-Origin" not in answer.headers
