"""Signed tokens: rights, stations, validity, rotation of keys, and the lock-out of guesses."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import AsyncIterator

import aiohttp
import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from riffstream.cli import main
from riffstream.config import Config, load_config
from riffstream.errors import ParameterError
from riffstream.server.access import Access
from riffstream.server.lockout import TRIES, Lockout
from riffstream.server.roles import Role
from riffstream.server.tokens import LEEWAY_S, SignedTokens
from tests.server.conftest import Running, open_socket, running
from tests.server.test_sockets import HELLO, Client

KEY, OLD = "k" * 64, "o" * 64
SIGNER = SignedTokens([KEY])
BEARER = "Bearer {}".format


def made(role: Role = Role.DJ, *, station: str = "", seconds: float = 60.0, key: str = KEY) -> str:
    return SignedTokens([key]).issue(role, station=station, seconds=seconds)


@pytest.mark.parametrize("role", list(Role))
def test_a_signed_token_gives_its_role(role: Role) -> None:
    access = Access(signing_keys=[KEY])
    assert access.grant(made(role), "https://elsewhere.example", "radio.example", "main") is role
    assert access.grant(None, None, "localhost", "main") is Role.LISTENER


def test_the_old_key_counts_until_it_is_removed() -> None:
    token = made(key=OLD)
    assert Access(signing_keys=[KEY, OLD]).grant(token, None, "radio.example") is Role.DJ
    assert Access(signing_keys=[KEY]).grant(token, None, "radio.example") is None
    assert SignedTokens([KEY, OLD]).read(SignedTokens([KEY, OLD]).issue(Role.DJ, seconds=9)) == SIGNER.read(
        made(seconds=9)
    )


@pytest.mark.parametrize(
    ("station", "asked", "role"),
    [
        ("", "main", Role.OWNER),
        ("main", "main", Role.OWNER),
        ("main", None, Role.OWNER),  # uploads: any station
        ("main", "other", Role.LISTENER),
        ("main", "", Role.LISTENER),  # the server itself
    ],
)
def test_a_token_of_one_station_has_no_rights_elsewhere(station: str, asked: str | None, role: Role) -> None:
    token = made(Role.OWNER, station=station)
    assert Access(signing_keys=[KEY]).grant(token, None, "radio.example", asked) is role
    private = Access(signing_keys=[KEY], private=True).grant(token, None, "radio.example", asked)
    assert private is (None if role is Role.LISTENER else role)


@contextlib.asynccontextmanager
async def client_of(served: Running, token: str, station: str = "main") -> AsyncIterator[Client]:
    """A client without audio."""
    async with open_socket(served.ws(station)) as socket:
        client = Client(socket)
        await client.send(**HELLO | {"codecs": [], "token": token})
        yield client


def forged(**claims: object) -> str:
    return jwt.encode({"role": "dj", "exp": time.time() + 60} | claims, KEY, algorithm="HS256")


def unsigned() -> str:
    part = lambda value: base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()  # noqa: E731
    return f"{part({'alg': 'none'})}.{part({'role': 'owner', 'exp': time.time() + 60})}."


@pytest.mark.parametrize(
    "token",
    [
        forged(exp=time.time() - LEEWAY_S - 2),
        forged(role="king"),
        forged(role=["owner"]),
        forged(role=None),
        forged(station=7),
        forged(padding="x" * 4000),
        forged(exp="soon"),
        jwt.encode({"role": "owner"}, KEY, algorithm="HS256"),
        jwt.encode({"exp": time.time() + 60}, KEY, algorithm="HS256"),
        jwt.encode({"role": "owner", "exp": time.time() + 60}, OLD, algorithm="HS256"),
        jwt.encode({"role": "owner", "exp": time.time() + 60}, KEY, algorithm="HS512"),
        unsigned(),
        made()[:-3] + "AAA",
        "a.b.c",
        "\ud800.x.y",
        "",
    ],
    ids=range(16),
)
def test_other_tokens_are_wrong(token: str) -> None:
    assert SIGNER.read(token) is None
    assert not token or Access(signing_keys=[KEY]).grant(token, None, "localhost") is None


@given(st.text(max_size=300))
def test_no_text_is_a_token_by_chance(text: str) -> None:
    assert SIGNER.read(text) is None


def test_another_program_can_sign() -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")

    def encoded(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    claims = {"role": "dj", "station": "main", "exp": int(time.time()) + 60}
    parts = ({"alg": "HS256", "typ": "JWT"}, claims)
    signed = ".".join(encoded(json.dumps(part).encode()) for part in parts)
    command = [openssl, "dgst", "-sha256", "-hmac", KEY, "-binary"]
    mac = subprocess.run(command, input=signed.encode(), capture_output=True, check=True, timeout=20).stdout
    found = SIGNER.read(f"{signed}.{encoded(mac)}")
    assert found is not None
    assert (found.role, found.station) == (Role.DJ, "main")


@pytest.mark.parametrize(
    ("access", "named"),
    [
        ({"signing_keys": ["short"]}, "32 or more characters"),
        ({"signing_keys": [KEY, ""]}, "32 or more characters"),
        ({"private": True}, "a token or a signing key"),
    ],
)
def test_unusable_settings_are_errors(access: dict[str, object], named: str) -> None:
    with pytest.raises(ParameterError, match=named) as raised:
        Config.from_dict({"access": access})
    assert "short" not in str(raised.value)  # a secret does not reach the log


def test_keys_are_hidden_when_printed_and_hidden_keys_refused() -> None:
    config = Config.from_dict({"access": {"signing_keys": [KEY, OLD]}})
    hidden = config.public_dict()["access"]
    assert hidden["signing_keys"] == ["***", "***"]
    assert hidden["private"] is False
    with pytest.raises(ParameterError, match="a secret of your own"):
        load_config(environment={"RIFFSTREAM_ACCESS_SIGNING_KEYS": "***,***"})


def test_the_command_makes_tokens(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["token", "--new-key"]) == 0
    key = capsys.readouterr().out.strip()
    monkeypatch.setenv("RIFFSTREAM_ACCESS_SIGNING_KEYS", key)
    assert main(["token", "dj", "--for", "2h", "--station", "main"]) == 0
    found = SignedTokens([key]).read(capsys.readouterr().out.strip())
    assert found is not None
    assert (found.role, found.station) == (Role.DJ, "main")
    assert abs(found.expires_at - time.time() - 7200) < 60


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["dj", "--for", "soon"], "--for"),
        (["dj", "--for", "0s"], "--for"),
        (["dj", "--for", "9999d"], "--for"),
        (["dj", "--station", "No Such"], "station"),
        ([], "role"),
        (["dj"], "signing_keys"),
    ],
)
def test_the_command_names_what_is_wrong(words: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["token", *words]) == 2
    assert named in capsys.readouterr().err


async def test_a_dj_of_one_station_steers_it_and_no_other() -> None:
    async with running("main", "other", access={"signing_keys": [KEY]}) as served:
        for station, role in (("main", "dj"), ("other", "listener")):
            async with client_of(served, made(station="main"), station) as client:
                assert (await client.message("welcome"))["role"] == role
        headers = {"Authorization": BEARER(made(Role.OWNER, station="other"))}
        async with aiohttp.ClientSession(headers=headers) as http:
            async with http.post(f"{served.url}/api/stations", json={"id": "third"}) as answer:
                assert answer.status == 403
            async with http.delete(f"{served.url}/api/stations/main") as answer:
                assert answer.status == 403
            async with http.delete(f"{served.url}/api/stations/other") as answer:
                assert answer.status == 204


async def test_steering_ends_with_the_token_and_listening_goes_on() -> None:
    async with running(access={"signing_keys": [KEY]}) as served:
        expires_at = time.time() + 3.0
        token = jwt.encode({"role": "dj", "exp": expires_at}, KEY, algorithm="HS256")
        async with client_of(served, token) as client:
            await client.send(type="steer", id="a", bpm=100)
            assert (await client.message("scheduled"))["id"] == "a"
            await asyncio.sleep(max(0.0, expires_at - time.time()) + 0.2)
            await client.send(type="steer", id="b", bpm=101)
            assert (await client.message("rejected"))["message"] == "your token has expired"
            await client.send(type="clock", t0=1.0)
            await client.message("clock")


async def test_many_wrong_tokens_lock_an_address_out() -> None:
    async with running(access={"signing_keys": [KEY]}) as served, aiohttp.ClientSession() as http:
        url = f"{served.url}/api/stations"
        for _ in range(TRIES):
            async with http.get(url, headers={"Authorization": BEARER("wrong")}) as answer:
                assert answer.status == 401
        async with http.get(url, headers={"Authorization": BEARER(made())}) as answer:
            assert answer.status == 429
            assert int(answer.headers["Retry-After"]) >= 1
        async with http.get(url) as answer:
            assert answer.status == 200  # without a token nothing is guessed
        async with client_of(served, made()) as client:
            refused = await client.message("rejected")
            assert refused["code"] == "rate_limited"
            assert refused["retry_after_ms"] >= 1000


def test_right_tokens_and_time_count_for_the_client() -> None:
    now = 0.0
    lockout = Lockout(lambda: now)
    for _ in range(TRIES):
        assert lockout.wait_s("192.0.2.1") == 0
        lockout.wrong("192.0.2.1")
    assert lockout.wait_s("192.0.2.1") > 0 == lockout.wait_s("192.0.2.2")
    now = 6.0
    assert lockout.wait_s("192.0.2.1") == 0


def test_an_ipv6_client_is_its_network() -> None:
    lockout = Lockout()
    for n in range(TRIES):
        lockout.wrong(f"2001:db8::{n:x}")
    assert lockout.wait_s("2001:db8::ffff") > 0 == lockout.wait_s("2001:db8:0:1::1")
