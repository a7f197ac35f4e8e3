"""Addresses of pushes: no message shows a secret."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from riffstream.config import Config, PushTarget, load_config, to_toml, without_secrets
from riffstream.errors import ParameterError

SECRET = "s3cret"


@pytest.mark.parametrize(
    "url",
    [
        f"icecast://source:{SECRET}@host:99999/x",
        f"icecast://source:{SECRET}@/x",
        f"icecast://source:{SECRET}@host/x\n",
        f"icecast://source:{SECRET}@host/x?y",
        f"ftp://source:{SECRET}@host/x",
        f"icecast://so:urce:{SECRET}@host",
        f"rtmp:///live/{SECRET}",
        f"srt://host:9000?passphrase={SECRET}",
    ],
)
def test_a_refusal_never_shows_the_secret(url: str) -> None:
    with pytest.raises(ParameterError) as refused:
        Config.from_dict({"push": {"home": {"url": url}}})
    assert refused.value.field == "push.home.url"
    assert SECRET not in str(refused.value)


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    for url in (text, f"icecast://{text}", f"icecast://source:pw@{text}/x", f"rtmp://{text}"):
        found = None
        with contextlib.suppress(ParameterError):
            found = PushTarget.parse(url)
        assert found is None or (found.host and 0 < found.port < 65536)


def test_the_printed_configuration_has_no_secrets_and_is_not_accepted_back() -> None:
    config = Config.from_dict(
        {
            "push": {
                "a": {"url": f"icecast://source:{SECRET}@host:8000/live.mp3"},
                "b": {"url": "icecast://host/live.mp3", "password": SECRET},
                "c": {"url": f"rtmp://host/live/{SECRET}"},
            }
        }
    )
    printed = to_toml(config.public_dict())
    assert SECRET not in printed
    assert 'url = "icecast://***@host:8000/live.mp3"' in printed
    assert 'url = "rtmp://host/live/***"' in printed


def test_srt_is_refused_with_the_remedy() -> None:
    with pytest.raises(ParameterError, match=r"for SRT run ffmpeg .*docs/outlets\.md.* -f mpegts srt://HOST:PORT"):
        PushTarget.parse("srt://host:9000")


def test_a_file_of_authorities_is_checked_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "text.pem").write_text("no certificate")
    for url, ca, words in (
        ("icecasts://source:pw@host/x", "missing.pem", "a readable PEM file with certificates .No such file"),
        ("rtmps://host/live/key", "text.pem", "a PEM file with certificates"),
        ("icecast://source:pw@host/x", "text.pem", "nothing without TLS"),
    ):
        with pytest.raises(ParameterError, match=words) as refused:
            Config.from_dict({"push": {"home": {"url": url, "ca": str(tmp_path / ca)}}})
        assert refused.value.field == "push.home.ca"


def test_the_environment_sets_a_push_of_any_name() -> None:
    found = load_config(
        environment={
            "RIFFSTREAM_PUSH_MY_RADIO_URL": "icecast://host/live",
            "RIFFSTREAM_PUSH_MY_RADIO_PASSWORD": SECRET,
            "RIFFSTREAM_PUSH_MY_RADIO_BACKOFF_MAX_S": "7",
        }
    )
    push = found.push["my_radio"]
    assert (push.password, push.backoff_max_s, push.target.codec) == (SECRET, 7.0, "mp3")
    with pytest.raises(ParameterError, match="RIFFSTREAM_PUSH_NAME_URL"):
        load_config(environment={"RIFFSTREAM_PUSH_URL": "x"})
    with pytest.raises(ParameterError, match="the address with its password"):
        load_config(environment={"RIFFSTREAM_PUSH_A_URL": without_secrets(f"rtmp://host/live/{SECRET}")})
