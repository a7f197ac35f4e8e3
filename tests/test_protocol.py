"""The wire protocol: golden vectors, round trips, hostile input, and the documents made from it."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import riffstream
from riffstream import protocol
from riffstream.protocol import (
    AudioFrame,
    Codec,
    Flags,
    Kind,
    ProtocolError,
    Steer,
    clean_text,
    decode_client,
    decode_server,
    encode,
    join_packets,
    json_schema,
    negotiate,
    pack_frame,
    split_packets,
    unpack_frame,
)
from riffstream.ranges import RANGES
from tests import protocol_vectors
from tests.protocol_page import page
from tests.protocol_types import files

ROOT = Path(__file__).parent.parent
VECTORS: dict[str, Any] = json.loads(protocol_vectors.FILE.read_text(encoding="utf-8"))


def test_the_vectors_in_the_repository_are_current() -> None:
    assert protocol_vectors.FILE.read_text(encoding="utf-8") == protocol_vectors.text()


def test_the_page_in_the_docs_is_current() -> None:
    assert (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8") == page()


@pytest.mark.parametrize("vector", VECTORS["messages"], ids=lambda vector: vector["json"]["type"])
def test_messages_are_read_and_written_as_the_vectors_say(vector: dict[str, Any]) -> None:
    decode = decode_client if vector["from"] == "client" else decode_server
    assert json.loads(encode(decode(json.dumps(vector["json"])))) == vector["json"]


@pytest.mark.parametrize("vector", VECTORS["frames"], ids=lambda vector: vector["codec"])
def test_frames_are_read_and_written_as_the_vectors_say(vector: dict[str, Any]) -> None:
    frame = unpack_frame(bytes.fromhex(vector["hex"]))
    for field in ("seq", "sample_pos", "n_samples", "rev", "kind"):
        assert getattr(frame, field) == vector[field]
    assert frame.codec.name.lower() == vector["codec"]
    assert bool(frame.flags & Flags.DISCONTINUITY) == vector["discontinuity"]
    assert bool(frame.flags & Flags.SILENCE) == vector["silence"]
    assert pack_frame(frame).hex() == vector["hex"]


@pytest.mark.parametrize("vector", VECTORS["rejected"], ids=lambda vector: vector["text"][:40])
def test_bad_messages_are_rejected_with_code_and_field(vector: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_client(vector["text"])
    assert (caught.value.code, caught.value.field) == (vector["code"], vector["field"])
    reply = caught.value.reply()
    assert reply.message
    assert "\n" not in reply.message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"type":"steer","id":"x","bpm":999}', "40 to 240"),
        ('{"type":"steer","id":"x","denoising":-1}', "0 to 1"),
        ('{"type":"steer","id":"x","guidance":31}', "0 to 30"),
        ('{"type":"steer","id":"x","key":7}', "-6 to 6"),
        ('{"type":"steer","id":"x","seed":-1}', "0 to 4294967295"),
        ('{"type":"steer","id":"x","ramp_s":1000}', "0 to 120"),
        ('{"type":"steer","id":"x","beats_per_bar":5}', "a whole number from 3 to 4, or auto"),
        ('{"type":"steer","id":"x","beats_per_bar":3.5}', "a whole number from 3 to 4, or auto"),
        ('{"type":"steer","id":"x","at":"later"}', "asap, beat, bar or clip"),
    ],
)
def test_errors_name_the_field_the_range_and_the_request(text: str, says: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_client(text)
    assert says in caught.value.message
    assert caught.value.field is not None
    assert caught.value.field in caught.value.message
    assert caught.value.reply().id == "x"


def test_ranges_in_the_messages_are_the_ranges_in_the_schema() -> None:
    defs = json_schema()["$defs"]
    assert {"weight", "seed", "denoising", "guidance", "bpm", "beats_per_bar", "key", "ramp_s"} == set(protocol.NUMBERS)
    for name in protocol.NUMBERS:
        low, high = RANGES[name].ends
        owner = defs["Prompt"] if name == "weight" else defs["Steer"]
        rule = owner["properties"][name]
        bounds = next(each for each in rule.get("anyOf", [rule]) if "minimum" in each)
        assert (bounds["minimum"], bounds["maximum"]) == (low, high), name
        assert getattr(protocol.Limits(), name) == (low, high), name


def test_the_schema_covers_every_message_and_is_json() -> None:
    schema = json.loads(json.dumps(json_schema()))
    clients, servers = get_args(protocol.ClientMessage), get_args(protocol.ServerMessage)
    assert min(len(clients), len(servers)) > 4
    for kind in (*clients, *servers):
        assert kind.__name__ in schema["$defs"]
        assert schema["$defs"][kind.__name__]["properties"]["type"]["enum"] == [kind.__struct_config__.tag]


def test_unknown_fields_are_ignored_and_absent_differs_from_null() -> None:
    steer = decode_client('{"type":"steer","id":"a","bpm":null,"from_the_future":{"x":[1]}}')
    assert isinstance(steer, Steer)
    assert steer.bpm is None
    assert steer.key is msgspec.UNSET
    assert "key" not in json.loads(encode(steer))
    assert json.loads(encode(steer))["bpm"] is None


def test_messages_that_are_too_long_are_refused_before_they_are_read() -> None:
    with pytest.raises(ProtocolError, match="allowed: up to 36864"):
        decode_client(b'{"type":"bye","reason":"' + b"x" * 36_864 + b'"}')


def test_versions_are_negotiated_down() -> None:
    assert negotiate(1) == 1
    assert negotiate(99) == 1
    with pytest.raises(ProtocolError) as caught:
        negotiate(0)
    assert caught.value.code == "unsupported_version"


@pytest.mark.parametrize(
    ("given_text", "cleaned"),
    [
        ("  two \n\t words ", "two words"),
        ("cafe\u0301", "café"),
        ("a\u0000b\u0007c", "abc"),
        ("\u202eright to left", "right to left"),
        ("👨\u200d👩\u200d👧 family", "👨\u200d👩\u200d👧 family"),
        ("\u200b\ufeffhidden", "hidden"),
        ("", ""),
    ],
)
def test_texts_are_cleaned(given_text: str, cleaned: str) -> None:
    assert clean_text(given_text) == cleaned


@settings(max_examples=300)
@given(st.text(max_size=400))
def test_cleaned_texts_are_stable_and_harmless(text: str) -> None:
    try:
        once = clean_text(text)
    except ProtocolError:
        assert len(text) > protocol.PROMPT_CHARS
        return
    assert clean_text(once) == once
    assert unicodedata.is_normalized("NFC", once)
    assert not any(unicodedata.category(c) in ("Cc", "Cs", "Co", "Cn") for c in once)
    assert len(once) <= protocol.PROMPT_CHARS


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KINDS = st.sampled_from([kind.__struct_config__.tag for kind in get_args(protocol.ClientMessage)])
NAMES = st.sampled_from([name for kind in get_args(protocol.ClientMessage) for name in kind.__struct_fields__])
HOSTILE = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=200),
    st.builds(lambda value: json.dumps(value), JSON),
    st.builds(
        lambda kind, fields: json.dumps({**fields, "type": kind}), KINDS, st.dictionaries(NAMES, JSON, max_size=6)
    ),
    st.builds(lambda depth: "[" * depth + "]" * depth, st.integers(0, 2048)),
    st.builds(lambda depth: '{"type":"bye","reason":"x","y":' + "[" * depth, st.integers(0, 4000)),
)


@settings(max_examples=1500, deadline=None)
@given(HOSTILE)
@example(b'{"t\'pe": "steer", "id": "sz\xb7\x9b}\x80\xeb\xdb,", "negative": "x"}')
def test_hostile_messages_are_rejected_with_a_reply_or_read(data: str | bytes) -> None:
    for decode in (decode_client, decode_server):
        try:
            message = decode(data)
        except ProtocolError as error:
            reply = error.reply()
            assert decode_server(encode(reply)) == reply
        else:
            assert encode(message)


@settings(max_examples=200)
@given(
    st.builds(
        AudioFrame,
        seq=st.integers(0, 2**32 - 1),
        sample_pos=st.integers(0, 2**64 - 1),
        n_samples=st.integers(0, 2**32 - 1),
        rev=st.integers(0, 2**32 - 1),
        payload=st.binary(max_size=200),
        codec=st.sampled_from(Codec),
        flags=st.integers(0, 3).map(Flags),
        kind=st.sampled_from(Kind),
    )
)
def test_frames_round_trip(frame: AudioFrame) -> None:
    assert unpack_frame(pack_frame(frame)) == frame


def test_sequence_and_revision_wrap_at_32_bits() -> None:
    frame = unpack_frame(pack_frame(AudioFrame(2**32 + 5, 0, 0, 2**32 + 6, b"")))
    assert (frame.seq, frame.rev) == (5, 6)


@settings(max_examples=500)
@given(st.binary(max_size=60))
def test_hostile_frames_are_refused_or_read(data: bytes) -> None:
    try:
        frame = unpack_frame(data)
        split_packets(frame.payload)
    except ProtocolError:
        return
    assert len(data) >= protocol.HEADER_BYTES


@given(st.lists(st.binary(max_size=300), max_size=8))
def test_packets_are_split_as_they_were_joined(packets: list[bytes]) -> None:
    assert split_packets(join_packets(packets)) == packets


def test_a_packet_that_is_too_long_and_one_cut_short_are_errors() -> None:
    with pytest.raises(ValueError, match="up to 65535"):
        join_packets([b"x" * 65_536])
    with pytest.raises(ProtocolError, match="ends inside a packet, at byte 0"):
        split_packets(b"\x05\x00abc")


def test_the_protocol_imports_nothing_heavy() -> None:
    import subprocess
    import sys

    code = "import sys, riffstream.protocol; print({'torch', 'aiohttp', 'numpy'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


@pytest.mark.parametrize("path", files(), ids=lambda path: path.name)
def test_the_types_of_the_javascript_kit_are_made_from_the_schema(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == files()[path], "run python -m tests.protocol_types"


def test_the_javascript_kit_has_the_version_of_the_package() -> None:
    package = json.loads((ROOT / "client" / "package.json").read_text(encoding="utf-8"))
    assert package["version"] == riffstream.__version__
