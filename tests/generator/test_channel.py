"""Whole messages over two pipes, whatever portions the pipes pass on."""

from __future__ import annotations

import io
import os
import threading

import pytest

from riffstream.generator.channel import LONGEST, Channel


class Trickle(io.RawIOBase):
    """A pipe that passes one byte at a time."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._data.read(min(1, size))


def sent(*messages: bytes) -> bytes:
    target = io.BytesIO()
    channel = Channel(io.BytesIO(), target)
    for message in messages:
        channel.send(message)
    return target.getvalue()


@pytest.mark.parametrize("reader", [io.BytesIO, Trickle])
def test_messages_stay_whole(reader: type) -> None:
    messages = [b"", b"one", bytes(range(256)) * 300]
    channel = Channel(reader(sent(*messages)), io.BytesIO())
    assert [channel.receive() for _ in messages] == messages
    with pytest.raises(EOFError, match="the other end is closed"):
        channel.receive()


@pytest.mark.parametrize("kept", [1, 7, 10])
def test_a_message_that_is_cut_off_is_the_end(kept: int) -> None:
    channel = Channel(io.BytesIO(sent(b"a message")[:kept]), io.BytesIO())
    with pytest.raises(EOFError):
        channel.receive()


def test_a_length_that_no_message_has_is_named() -> None:
    head = sent(b"")
    data = (LONGEST + 1).to_bytes(len(head), "little")
    with pytest.raises(EOFError, match=f"a message of {LONGEST + 1} bytes"):
        Channel(io.BytesIO(data), io.BytesIO()).receive()


def test_sending_waits_while_the_pipe_is_full_and_fails_once_it_is_closed() -> None:
    reader, writer = os.pipe()
    receiving, sending = os.fdopen(reader, "rb", buffering=0), os.fdopen(writer, "wb", buffering=0)
    channel = Channel(receiving, io.BufferedWriter(sending))
    message = bytes(1 << 20)  # more than a pipe holds
    thread = threading.Thread(target=channel.send, args=(message,))
    thread.start()
    thread.join(0.1)
    assert thread.is_alive()
    assert channel.receive() == message
    thread.join(10)
    assert not thread.is_alive()
    channel.close_reader()
    with pytest.raises(OSError, match="Broken pipe"):
        channel.send(message)
    channel.close()
    channel.close()
    with pytest.raises(ValueError, match="closed"):
        channel.send(b"")
