"""The names whose pages are the server's own, and how an origin is written."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from riffstream.server import origins
from riffstream.server.origins import is_own_name, normal_origin


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://Radio.example:443/path?x#y", "https://radio.example"),
        ("http://radio.example:80", "http://radio.example"),
        ("http://radio.example:443", "http://radio.example:443"),
        ("https://radio.example:8443/", "https://radio.example:8443"),
        ("http://[0:0:0:0:0:0:0:1]:8080", "http://[::1]:8080"),
        ("https://müsik.example", "https://xn--msik-0ra.example"),
        ("null", None),
        ("file:///tmp/x.html", None),
        ("http://", None),
        ("http://[", None),
        ("http://radio.example:99999", None),
        (f"http://{'a.' * 124}local", f"http://{'a.' * 124}local"),
        (f"http://{'a.' * 125}local", None),
        (f"http://[fe80::1%{'a' * 300}]", None),
        ("", None),
    ],
)
def test_origins_are_written_as_browsers_write_them(text: str, origin: str | None) -> None:
    assert normal_origin(text) == origin


@pytest.mark.parametrize(
    "name",
    ["localhost", "nas", "192.168.1.5", "::1", "fe80::1", "studio.local", "nas.home", "pi.localdomain", "box.lan",
     "a.home.arpa", "svc.internal", "PC.Corp", "studio.local."],
)  # fmt: skip
def test_names_that_no_stranger_can_have_are_own(name: str) -> None:
    assert is_own_name(name)


@pytest.mark.parametrize(
    "name", ["evil.example", "local", "nas.home.evil.example", "notlocal.example", "home.box", "", "x.fritz.box"]
)
def test_names_that_a_stranger_can_have_are_not(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(origins, "_RESOLVER", tmp_path / "none")
    assert is_own_name(name) is (name == "local")  # a name of one word


@pytest.mark.parametrize(
    ("hostname", "resolver", "own"),
    [
        ("mypc", "nameserver 192.168.178.1\nsearch fritz.box\n", {"mypc.fritz.box"}),
        ("Box", "search tail1234.ts.net fritz.box", {"box.tail1234.ts.net", "box.fritz.box", "BOX.fritz.box."}),
        ("web.corp.example", "domain corp.example.", {"web.corp.example"}),
    ],
)
def test_this_machines_own_name_in_its_networks_domains_is_own(
    hostname: str, resolver: str, own: set[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text(resolver)
    monkeypatch.setattr(origins, "_RESOLVER", file)
    monkeypatch.setattr(socket, "gethostname", lambda: hostname)
    for name in own:
        assert is_own_name(name), name
    for name in ("evil.fritz.box", "fritz.box", "other.tail1234.ts.net", "mypc.evil.example"):
        assert not is_own_name(name), name
