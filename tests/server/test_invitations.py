"""QR codes, read by another program, and the origins that may control a player in a frame."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from aiohttp import ClientSession

from tests.server.conftest import running


@pytest.mark.parametrize("public_url", ["", "https://radio.example/stream"])
async def test_a_phone_reads_the_stations_address(
    need_tool: Callable[[str], str], tmp_path: Path, public_url: str
) -> None:
    reader = need_tool("zbarimg")
    async with running("main", "jazz", server={"public_url": public_url}) as served, ClientSession() as session:
        async with session.get(f"{served.url}/qr/jazz.png") as answer:
            assert answer.content_type == "image/png"
            (tmp_path / "code.png").write_bytes(await answer.read())
        async with session.get(f"{served.url}/qr/jazz.svg") as answer:
            assert answer.content_type == "image/svg+xml"
            assert ElementTree.fromstring(await answer.read()).tag.endswith("svg")
        async with session.get(f"{served.url}/qr/none.svg") as answer:
            assert answer.status == 404
        command = [reader, "-q", "--raw", str(tmp_path / "code.png")]
        found = subprocess.run(command, capture_output=True, text=True, check=True)
        assert found.stdout.strip() == f"{public_url or served.url}/?station=jazz"


async def test_a_long_host_makes_no_large_code() -> None:
    async with running() as served, ClientSession() as session:
        for chars in (380, 4000):  # a code cannot hold the second one
            headers = {"Host": "a" * chars}
            async with session.get(f"{served.url}/qr/main.svg", headers=headers) as answer:
                assert answer.status == 400
                assert "allowed: up to 400" in (await answer.json())["message"]
        async with session.get(f"{served.url}/qr/main.svg", headers={"Host": "a" * 200}) as answer:
            assert answer.status == 200


async def test_the_server_says_which_sites_may_control_a_frame() -> None:
    async with running(server={"allowed_origins": ["https://shop.example"]}) as served, ClientSession() as session:
        cases = {
            "https://shop.example": ("https://shop.example", True),
            "HTTPS://Shop.example:443": ("https://shop.example", True),
            "https://evil.example": ("https://evil.example", False),
            "null": ("null", False),
            "//": ("null", False),
        }
        for origin, (shown, allowed) in cases.items():
            async with session.get(f"{served.url}/api/origins", params={"origin": origin}) as answer:
                assert await answer.json() == {"origin": shown, "allowed": allowed}, origin
        for params in ({}, {"origin": ""}, {"origin": "x" * 301}):
            async with session.get(f"{served.url}/api/origins", params=params) as answer:
                assert answer.status == 400
                assert "1 to 300 characters" in (await answer.json())["message"]
