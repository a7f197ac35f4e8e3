from __future__ import annotations

import pytest

from riffstream.server.access import Access, authorization_token, is_public_address
from riffstream.server.roles import Role

OPEN = Access()
GUARDED = Access(dj_token="dj-secret", owner_token="own-secret", origins=["https://radio.example"])
CLOSED = Access(dj_token="dj-secret", listen_token="ear-secret")


@pytest.mark.parametrize(
    ("origin", "host", "role"),
    [
        (None, "localhost:8080", Role.OWNER),
        ("http://localhost:8080", "localhost:8080", Role.OWNER),
        ("http://192.168.0.7:8080", "192.168.0.7:8080", Role.OWNER),
        ("http://[::1]:8080", "[::1]:8080", Role.OWNER),
        ("http://nas:8080", "nas:8080", Role.OWNER),
        ("http://studio.local", "studio.local", Role.OWNER),
        ("https://evil.example", "localhost:8080", Role.LISTENER),
        ("http://localhost:3000", "localhost:8080", Role.LISTENER),
        ("null", "localhost:8080", Role.LISTENER),
        ("http://[", "[", Role.LISTENER),
        # DNS rebinding: evil.example resolves to 127.0.0.1, so Origin and Host agree.
        ("http://evil.example:8080", "evil.example:8080", Role.LISTENER),
    ],
)
def test_without_tokens_only_foreign_pages_may_not_steer(origin: str | None, host: str, role: Role) -> None:
    assert OPEN.grant(None, origin, host) is role


@pytest.mark.parametrize(
    ("token", "role"),
    [
        (None, Role.LISTENER),
        ("", Role.LISTENER),
        ("dj-secret", Role.DJ),
        ("own-secret", Role.OWNER),
        ("dj-secre", None),
        ("dj-secret ", None),
        ("\ud800", None),
        ("ключ", None),
    ],
)
def test_with_tokens_the_token_decides(token: str | None, role: Role | None) -> None:
    assert GUARDED.grant(token, "https://elsewhere.example", "radio.example") is role
    assert GUARDED.grant(token, None, "localhost:8080") is role


def test_an_owner_token_alone_leaves_steering_open() -> None:
    access = Access(owner_token="own-secret")
    assert access.grant(None, None, "localhost") is Role.DJ
    assert access.grant("own-secret", "https://evil.example", "localhost") is Role.OWNER
    assert access.grant(None, "https://evil.example", "localhost") is Role.LISTENER


@pytest.mark.parametrize(
    ("token", "role"), [(None, None), ("x", None), ("ear-secret", Role.LISTENER), ("dj-secret", Role.DJ)]
)
def test_a_listen_token_is_needed_where_configured(token: str | None, role: Role | None) -> None:
    assert CLOSED.grant(token, None, "localhost") is role


@pytest.mark.parametrize(
    ("header", "token"),
    [
        (None, None),
        ("Bearer abc", "abc"),
        ("bearer  abc ", "abc"),
        ("Bearer", None),
        ("Basic dXNlcjphYmM=", "abc"),
        ("Basic dXNlcg==", None),
        ("Basic ***", None),
        ("Basic /////w==", None),
        ("Digest x", None),
    ],
)
def test_authorization_headers(header: str | None, token: str | None) -> None:
    assert authorization_token(header) == token


def test_a_configured_origin_is_trusted() -> None:
    assert GUARDED.trusts("https://Radio.example/", "backend:8080")
    assert not GUARDED.trusts("http://radio.example", "backend:8080")
    assert Access(origins=["*"]).grant(None, "https://evil.example", "localhost") is Role.OWNER


@pytest.mark.parametrize(
    ("public_url", "origin"),
    [
        ("https://radio.example", "https://radio.example"),
        ("https://Radio.example:443/", "https://radio.example"),
        ("http://radio.example:80/radio", "http://radio.example"),
        ("https://radio.example:8443/radio/", "https://radio.example:8443"),
    ],
)
def test_the_public_address_is_an_origin_of_its_own(public_url: str, origin: str) -> None:
    access = Access(origins=[public_url])
    for host in ("127.0.0.1:8080", "radio.example", "backend"):
        assert access.grant(None, origin, host) is Role.OWNER
    assert access.grant(None, "http://evil.example", "evil.example") is Role.LISTENER


def test_default_ports_make_no_difference() -> None:
    assert OPEN.grant(None, "http://192.168.0.7", "192.168.0.7:80") is Role.OWNER
    assert OPEN.grant(None, "https://192.168.0.7", "192.168.0.7:443") is Role.OWNER
    assert OPEN.grant(None, "http://192.168.0.7:8081", "192.168.0.7") is Role.LISTENER


def test_a_refusal_says_what_to_set() -> None:
    said = OPEN.refusal("http://MyPC.fritz.box:8080")
    assert 'add "http://mypc.fritz.box:8080" to server.allowed_origins' in said
    assert Access(origins=["http://mypc.fritz.box:8080"]).trusts("http://mypc.fritz.box:8080", "x")
    assert 'add "null" to server.allowed_origins' in OPEN.refusal("null")
    assert Access(origins=["null"]).trusts("null", "x")
    assert "DJ's token" in GUARDED.refusal("http://mypc.fritz.box:8080")
    assert len(OPEN.refusal("http://" + "x" * 10_000)) < 1000


def test_a_token_on_an_open_server_is_ignored() -> None:
    assert OPEN.grant("whatever", None, "localhost") is Role.OWNER
    assert OPEN.grant("whatever", "https://evil.example", "localhost") is Role.LISTENER


def test_roles_that_steer() -> None:
    assert [role.may_steer for role in (Role.LISTENER, Role.DJ, Role.OWNER)] == [False, True, True]


@pytest.mark.parametrize(
    ("host", "public"),
    [
        ("127.0.0.1", False),
        ("127.3.4.5", False),
        ("::1", False),
        ("localhost", False),
        ("0.0.0.0", True),
        ("::", True),
        ("", True),
        ("192.168.1.2", True),
        ("music.example", True),
    ],
)
def test_public_addresses(host: str, public: bool) -> None:
    assert is_public_address(host) is public
