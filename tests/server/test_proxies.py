"""Addresses as proxies write them, and whose word about them counts."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from riffstream.server.proxies import Proxies, counted, read_address
from tests.conftest import PATIENCE_S
from tests.server.conftest import running


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("203.0.113.7:50001", "203.0.113.7"),
        (' "203.0.113.7:50001" ', "203.0.113.7"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ('"[2001:DB8:0:0::1]:4711"', "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("[::ffff:192.0.2.1]:80", "192.0.2.1"),
        ("unknown", None),
        ("_hidden", None),
        ("", None),
        ("example.org:80", None),
        ("1.2.3", None),
        ("[2001:db8::1", None),
        ("203.0.113.7, 203.0.113.8", None),
    ],
)
def test_addresses_are_read_as_proxies_write_them(text: str, address: str | None) -> None:
    found = read_address(text)
    assert (None if found is None else str(found)) == address


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_none(text: str) -> None:
    found = read_address(text)
    assert found is None or isinstance(counted(found), str)


def test_ipv6_counts_by_the_64_bits_that_a_customer_has() -> None:
    same = {counted(read_address(text)) for text in ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", "[2001:db8:1:2::7]:80")}
    assert same == {"2001:db8:1:2::/64"}
    assert counted(read_address("2001:db8:1:3::1")) not in same
    assert counted(read_address("::5")) == "::/64"
    assert counted(read_address("::1")) == "::1"
    assert counted(read_address("::ffff:192.0.2.1")) == counted(read_address("192.0.2.1")) == "192.0.2.1"
    assert counted(None) == "unknown"


def test_networks_hold_addresses_of_both_notations() -> None:
    proxies = Proxies(["10.0.0.0/8", "::ffff:172.16.0.0/108", "2001:db8::/32"])
    for inside in ("10.1.2.3", "::ffff:10.1.2.3", "172.17.0.1", "[2001:db8::7]:1"):
        assert inside in proxies, inside
    for outside in ("11.0.0.1", "172.32.0.1", "unknown", "", "2001:db9::1"):
        assert outside not in proxies, outside
    assert None not in proxies


def test_either_loopback_stands_for_both() -> None:
    for trusted in ("127.0.0.1", "::1", "127.0.0.0/8"):
        assert "::1" in Proxies([trusted])
        assert "127.0.0.1" in Proxies([trusted])
    assert "::1" not in Proxies(["10.0.0.0/8"])


def asked(headers: dict[str, str], peer: str = "10.0.0.1") -> Any:
    request = make_mocked_request("GET", "/", headers={"Host": "backend:8080", **headers})
    return Proxies(["10.0.0.0/8"]).asked(request.clone(remote=peer))


@pytest.mark.parametrize(
    ("headers", "address"),
    [
        ({}, "10.0.0.1"),
        ({"X-Forwarded-For": "203.0.113.7:50001"}, "203.0.113.7"),
        ({"X-Forwarded-For": "9.9.9.9, 203.0.113.7, 10.0.0.5"}, "203.0.113.7"),
        ({"X-Forwarded-For": "9.9.9.9, unknown"}, "10.0.0.1"),
        ({"X-Forwarded-For": "9.9.9.9, _secret, 10.0.0.5"}, "10.0.0.5"),
        ({"X-Forwarded-For": "'; drop table, 203.0.113.7"}, "203.0.113.7"),
        # All trusted: the nearest proxy saw the last itself; the others are a claim.
        ({"X-Forwarded-For": "10.9.9.9, 10.0.0.77"}, "10.0.0.77"),
        ({"Forwarded": "for=203.0.113.7;proto=https"}, "203.0.113.7"),
        ({"Forwarded": 'For="[2001:db8::1]:4711" ; by=_proxy, for=10.0.0.5'}, "2001:db8::/64"),
        ({"Forwarded": "for=9.9.9.9, for=unknown"}, "10.0.0.1"),
        ({"Forwarded": "for=9.9.9.9, for=_hidden;host=x"}, "10.0.0.1"),
        ({"Forwarded": 'for="9.9.9.9, for=203.0.113.7'}, "10.0.0.1"),
        ({"Forwarded": "proto=https"}, "10.0.0.1"),
        # A proxy writes one of the two headers, and may pass on what its client wrote into the other.
        ({"Forwarded": "for=9.9.9.9", "X-Forwarded-For": "203.0.113.7"}, "10.0.0.1"),
        ({"Forwarded": "for=203.0.113.7", "X-Forwarded-For": "9.9.9.9, 203.0.113.7:80"}, "203.0.113.7"),
    ],
)
def test_the_client_is_the_right_most_hop_that_is_no_trusted_proxy(headers: dict[str, str], address: str) -> None:
    assert asked(headers).address == address
    assert asked(headers, "203.0.113.99").address == "203.0.113.99", "only trusted proxies are believed"


@pytest.mark.parametrize(
    ("headers", "url"),
    [
        ({}, "http://backend:8080"),
        ({"X-Forwarded-Proto": "https", "X-Forwarded-Host": "radio.example"}, "https://radio.example"),
        ({"X-Forwarded-Proto": "wss", "X-Forwarded-Host": "[2001:db8::1]:8443"}, "https://[2001:db8::1]:8443"),
        ({"X-Forwarded-Proto": "https, http", "X-Forwarded-Host": "a.example, b.example"}, "https://a.example"),
        ({"X-Forwarded-Prefix": "/radio/"}, "http://backend:8080/radio"),
        ({"X-Ingress-Path": "/api/hassio_ingress/_aB-3"}, "http://backend:8080/api/hassio_ingress/_aB-3"),
        ({"Forwarded": "for=1.1.1.1;host=radio.example;proto=https"}, "https://radio.example"),
        ({"Forwarded": "for=9.9.9.9;host=forged.example, for=1.1.1.1;host=radio.example"}, "http://radio.example"),
        ({"X-Forwarded-Proto": "gopher", "X-Forwarded-Host": 'x"><script>'}, "http://backend:8080"),
        ({"X-Forwarded-Prefix": "//evil.example"}, "http://backend:8080"),
        ({"X-Forwarded-Prefix": "/a/../.."}, "http://backend:8080"),
        ({"X-Forwarded-Prefix": "/a/%2e%2e/b"}, "http://backend:8080"),
        ({"X-Forwarded-Prefix": "radio"}, "http://backend:8080"),
        ({"X-Forwarded-Prefix": '/"><script>'}, "http://backend:8080"),
        ({"X-Forwarded-Prefix": "/"}, "http://backend:8080"),
    ],
)
def test_a_trusted_proxy_says_under_which_address_it_was_asked(headers: dict[str, str], url: str) -> None:
    assert asked(headers).url == url
    assert asked(headers, "203.0.113.99").url == "http://backend:8080", "only trusted proxies are believed"


async def test_home_assistants_page_steers_with_one_setting() -> None:
    page = "http://homeassistant.local:8123"
    headers = {"X-Forwarded-Host": "homeassistant.local:8123", "X-Ingress-Path": "/api/hassio_ingress/abc"}
    for server, role in (
        ({}, "listener"),
        ({"trusted_proxies": ["127.0.0.1"]}, "owner"),
        ({"allowed_origins": [page]}, "owner"),
        ({"public_url": f"{page}/api/hassio_ingress/abc"}, "owner"),
    ):
        async with running(server=server) as served, ClientSession() as session:
            async with session.ws_connect(f"{served.url}/ws/main", headers=headers, origin=page) as socket:
                await socket.send_json({"type": "hello", "v": 1, "codecs": []})
                assert (await socket.receive_json(timeout=PATIENCE_S))["role"] == role, server
            async with session.get(f"{served.url}/", headers=headers) as response:
                root = "/api/hassio_ingress/abc/" if "trusted_proxies" in server else "./"
                assert re.search(rf'src="{re.escape(root)}static/[0-9a-f]{{16}}/src/ui/app.js"', await response.text())


async def test_a_player_without_a_host_header_is_told_the_address_that_it_used() -> None:
    async with running() as served:
        port = int(served.url.rpartition(":")[2])
        for path in ("/listen/main.m3u", "/status-json.xsl"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            answer = (await asyncio.wait_for(reader.read(), PATIENCE_S)).decode()
            writer.close()
            await writer.wait_closed()
            assert f"http://127.0.0.1:{port}/stream/main.mp3" in answer


PATHS = ("/", "/style.css", "/embed/jazz", "/api/stations/jazz", "/listen/main.m3u", "/stream/main.mp3")


async def test_the_path_of_the_public_address_is_served_where_a_proxy_leaves_it_in_place() -> None:
    server = {"public_url": "https://x/radio/"}
    async with running("main", "jazz", server=server, speed=8.0) as served, ClientSession() as session:
        for root in ("", "/radio"):
            for path in PATHS:
                async with session.get(f"{served.url}{root}{path}") as response:
                    assert response.status == 200, root + path
                    if path.startswith("/embed/"):
                        assert "frame-ancestors *" in response.headers["Content-Security-Policy"]
                        sheet = re.search(r'href="\.\./(static/[0-9a-f]{16}/style.css)"', await response.text())
                        assert sheet is not None
                        async with session.get(f"{served.url}{root}/{sheet[1]}") as file:
                            assert file.status == 200
            async with session.ws_connect(f"{served.url}{root}/ws/main", origin="https://x") as socket:
                await socket.send_json({"type": "hello", "v": 1, "codecs": []})
                assert (await socket.receive_json(timeout=PATIENCE_S))["role"] == "owner"
        async with session.get(f"{served.url}/radio?p=a+b", allow_redirects=False) as response:
            assert (response.status, response.headers["Location"]) == (301, "radio/?p=a+b")


HOPS = [
    [f"203.0.113.7:5000{n}" for n in range(4)],
    [f"[2001:db8::9]:500{n}" for n in range(4)],
    [f"2001:db8::{n}" for n in range(1, 5)],
    [f"9.9.9.{n}, 203.0.113.8:5000{n}" for n in range(4)],
    [f"nonsense-{n}" for n in range(4)],
    [f"_obfuscated{n}" for n in range(4)],
]


@pytest.mark.parametrize("hops", HOPS, ids=lambda hops: hops[0])
@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded"])
async def test_no_way_to_write_an_address_passes_the_limit(header: str, hops: list[str]) -> None:
    def written(hop: str) -> str:
        return hop if header == "X-Forwarded-For" else ", ".join(f'for="{part}"' for part in hop.split(", "))

    limits, server = {"connections_per_address": 2}, {"trusted_proxies": ["127.0.0.1"]}
    async with running(limits=limits, server=server, speed=8.0) as served, ClientSession() as session:
        url, found = f"{served.url}/stream/main.mp3", []
        open_responses = []
        for hop in hops:
            response = await session.get(url, headers={header: written(hop)})
            open_responses.append(response)
            found.append(response.status)
        for response in open_responses:
            response.close()
    assert found == [200, 200, 503, 503]


async def test_uploads_count_addresses_in_the_same_way() -> None:
    limits, server = {"upload_burst": 1, "upload_interval_s": 60}, {"trusted_proxies": ["127.0.0.0/8"]}
    async with running(limits=limits, server=server) as served, ClientSession() as session:
        found = []
        for hop in ("2001:db8::1", "[2001:db8::2]:80", "2001:db8:0:0:ffff::3"):
            url, headers = f"{served.url}/api/seeds", {"X-Forwarded-For": hop}
            async with session.post(url, data=b"no music", headers=headers) as response:
                found.append(response.status)
    assert found == [415, 429, 429]
