"""The player's files over HTTP: compression, revalidation, ranges."""

from __future__ import annotations

import gzip

import pytest
from aiohttp import ClientSession

from riffstream.server.static_files import client_folder
from tests.server.conftest import running


@pytest.mark.parametrize("name", ["src/player.js", "style.css", "icon.svg", "manifest.webmanifest", ""])
async def test_text_is_compressed_for_those_who_accept_it(name: str) -> None:
    folder = client_folder()
    assert folder is not None
    async with running() as served, ClientSession(auto_decompress=False) as http:
        url = f"{served.url}/{name}"
        async with http.get(url, headers={"Accept-Encoding": "gzip, deflate, br"}) as answer:
            assert answer.headers["Content-Encoding"] == "gzip"
            assert "Accept-Encoding" in answer.headers["Vary"]
            compressed = await answer.read()
            tag = answer.headers.get("ETag")
        async with http.get(url, headers={"Accept-Encoding": "identity"}) as answer:
            assert "Content-Encoding" not in answer.headers
            plain = await answer.read()
            assert answer.headers.get("ETag") != tag or tag is None
        assert gzip.decompress(compressed) == plain
        assert len(compressed) < len(plain)
        if name:
            assert plain == (folder / name).read_bytes()
            async with http.get(url, headers={"Accept-Encoding": "gzip", "If-None-Match": str(tag)}) as answer:
                assert answer.status == 304
                assert await answer.read() == b""


async def test_pictures_ranges_and_heads_are_as_they_were() -> None:
    async with running() as served, ClientSession(auto_decompress=False) as http:
        async with http.get(f"{served.url}/card.webp", headers={"Accept-Encoding": "gzip"}) as answer:
            assert "Content-Encoding" not in answer.headers
        headers = {"Accept-Encoding": "gzip", "Range": "bytes=0-9"}
        async with http.get(f"{served.url}/src/player.js", headers=headers) as answer:
            assert (answer.status, len(await answer.read())) == (206, 10)
            assert "Content-Encoding" not in answer.headers
        async with http.head(f"{served.url}/src/player.js", headers={"Accept-Encoding": "gzip"}) as answer:
            assert answer.status == 200
            assert await answer.read() == b""
