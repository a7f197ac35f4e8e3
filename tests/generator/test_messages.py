"""The pipe between server and generator."""

from __future__ import annotations

import io
import os
import struct

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riffstream.generator.channel import Channel
from riffstream.generator.messages import (
    Cancel,
    Configure,
    Done,
    DropTake,
    Failed,
    Forget,
    Heartbeat,
    Info,
    Job,
    Loading,
    Piece,
    Ready,
    Shutdown,
    pack,
    unpack_command,
    unpack_report,
)
from riffstream.journey.journey import Journey

JOB = Job(
    station="main",
    take=3,
    number=2,
    clip=17,
    spec=Journey.visit(["a", "b"], 2, 2, guidance=4.0, bpm=99.0).clip(3),
    hops=(375.5,) * 8,
    previous=16,
    sound=15,
    key=-2.0,
    deadline=12.5,
)
ASKED = Journey.single("a", chords="Am F / G", parts={"drums": 0, "pad": 0.5}, energy=0.25, density=1.0).clip(3)


@pytest.mark.parametrize(
    "command",
    [
        Configure("m:f", {"a": [1, "x", None]}, 2),
        JOB,
        msgspec.structs.replace(JOB, spec=ASKED),
        Cancel("a", 1, 2),
        DropTake("a", 1),
        Forget("a"),
        Shutdown(),
    ],
)
def test_commands_arrive_as_they_were_sent(command: object) -> None:
    assert unpack_command(pack(command)) == command  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "report",
    [
        Loading("x"),
        Ready(Info(model="m"), 1.5),
        Heartbeat(3, 12.0),
        Done("a", 1, 2, 0.5, 0.1, 8),
        Failed("a", 1, 2, "parameter", "no"),
    ],
)
def test_reports_arrive_as_they_were_sent(report: object) -> None:
    assert unpack_report(pack(report))[0] == report  # type: ignore[arg-type]


@settings(max_examples=30)
@given(st.integers(0, 5000))
def test_audio_arrives_bit_for_bit(n: int) -> None:
    pcm = np.random.default_rng(n).standard_normal((n, 2)).astype(np.float32)
    message, received = unpack_report(pack(Piece("a", 1, 2), pcm))
    assert message == Piece("a", 1, 2)
    assert np.array_equal(received, pcm)


@settings(max_examples=300)
@given(st.binary(max_size=80))
def test_garbage_is_an_error_of_its_own_kind(data: bytes) -> None:
    for unpack in (unpack_command, lambda data: unpack_report(data)[0]):
        try:
            message = unpack(data)
        except (msgspec.DecodeError, ValueError, struct.error):
            continue
        assert unpack(pack(message)) == message


def test_messages_keep_their_borders_on_the_way() -> None:
    near, far = os.pipe()
    channel = Channel(io.BytesIO(), os.fdopen(far, "wb"))
    other = Channel(os.fdopen(near, "rb", buffering=0), io.BytesIO())
    for size in (0, 1, 5000):
        channel.send(b"x" * size)
        assert other.receive() == b"x" * size
    channel.close()
    with pytest.raises(EOFError):
        other.receive()
    other.close_reader()


def test_a_length_that_cannot_be_is_refused() -> None:
    with pytest.raises(EOFError, match="other output was written"):
        Channel(io.BytesIO(b"\xff\xff\xff\xff" + b"x" * 10), io.BytesIO()).receive()
