"""Listen to a station from Python, and steer it.

    async with riffstream.connect("http://localhost:8080") as radio:
        await radio.steer("acid jazz trio", bpm=112)     # returns when the change is in the sound
        async for block in radio:
            block.samples                                # float32 [n, 2] in [-1, 1], 48 kHz

A lost connection is restored: the client reconnects with increasing delays and requests the missed audio. If the server
no longer has it, the next block has ``discontinuity``. :func:`blocks` works without asyncio.

Threading model: one event loop owns a ``Radio`` (``client/radio.py``); :func:`blocks` has a thread for its loop.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from riffstream import protocol
from riffstream.client.inbox import Block, socket_url
from riffstream.client.loop import LoopThread
from riffstream.client.own import NEW, OwnStation
from riffstream.client.radio import Radio
from riffstream.errors import ParameterError, RadioError

__all__ = ["Block", "Radio", "RadioError", "blocks", "connect", "socket_url"]

Codec = Literal["opus", "pcm_s16", "none"]


def connect(
    url: str = "http://localhost:8080",
    *,
    station: str = "main",
    token: str | None = None,
    codec: Codec = "opus",
    steer: bool = True,
    reconnect: bool = True,
    queue_s: float = 30.0,
    timeout_s: float = 10.0,
    music: Mapping[str, Any] | None = None,
) -> Radio:
    """Connect to a station with ``async with``.

    Args:
        url: any address of the server (:func:`socket_url`).
        station: name of the station, if ``url`` has none; ``"new"``: a private one, which ends with the connection.
        token: token of a listener, DJ or owner, if the server requires one.
        codec: ``opus``, ``pcm_s16`` (no decoding, 12 times the bytes) or ``none`` (steering and events only).
        steer: False for a passive listener; the server then sends longer frames, which cost it less.
        reconnect: True reconnects after a lost connection.
        queue_s: longest audio that waits for the caller, seconds.
        timeout_s: time limit for connecting, seconds.
        music: of a private station: prompts, bpm, seed and further fields of ``POST /api/sessions``.

    Raises (on entering):
        RadioError: the server cannot be reached or refuses.
        ParameterError: a bad address.
    """
    if codec not in ("opus", "pcm_s16", "none"):
        raise ParameterError("codec", codec, "opus, pcm_s16 or none")
    hello = protocol.Hello(
        v=protocol.VERSION, codecs=() if codec == "none" else (codec,), token=token or None, steer=steer
    )
    socket = socket_url(url, station)
    own: OwnStation | None = None
    if socket.endswith(f"/ws/{NEW}"):
        own = OwnStation(socket, music or {}, hello.token, timeout_s)
    elif music is not None:
        raise ParameterError("music", music, f"None, unless station is {NEW!r}")
    return Radio(socket, hello, reconnect=reconnect, queue_s=queue_s, timeout_s=timeout_s, own=own)


def blocks(url: str = "http://localhost:8080", *, seconds: float | None = None, **options: Any) -> Iterator[Block]:
    """Iterate over a station's blocks without asyncio: ``for block in riffstream.client.blocks(url, seconds=30): ...``

    Up to ``queue_s`` seconds of audio wait for the caller. If the queue is full, the oldest block is dropped and the
    next one has ``discontinuity``. Leaving the loop closes the connection.

    Args:
        url: as in :func:`connect`.
        seconds: stop after this much audio; None: no limit.
        options: further arguments of :func:`connect`.
    """
    with LoopThread() as loop:
        radio = connect(url, **options)
        loop.run(radio.__aenter__())
        try:
            left = None if seconds is None else int(seconds * protocol.SAMPLE_RATE)
            while left is None or left > 0:
                try:
                    block = loop.run(radio.__anext__())
                except StopAsyncIteration:
                    return
                if left is not None:
                    left -= len(block.samples)
                yield block
        finally:
            loop.run(radio.close())
