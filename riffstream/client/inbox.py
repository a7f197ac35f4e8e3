"""What the client hands out: addresses, and blocks of decoded audio from the frames that come in."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import av
import numpy as np
from numpy.typing import NDArray

from riffstream import protocol
from riffstream.errors import ParameterError

__all__ = ["Block", "BlockDecoder", "Inbox", "socket_url"]

LONGEST_FRAME: Final = 5 * protocol.SAMPLE_RATE  # samples; a header that promises more is damaged
PLAYER_BUFFER_S: Final = 0.2  # as the browser's player keeps it (``timeline.client_buffer_ms``)


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of audio.

    Attributes:
        samples: float32 [n, 2] in [-1, 1], 48 kHz.
        sample_pos: the station's sample clock at the first one.
        rev: the station's revision heard at the last one.
        discontinuity: something is missing before this block.
    """

    samples: NDArray[np.float32]
    sample_pos: int
    rev: int
    discontinuity: bool


def socket_url(url: str, station: str = "main") -> str:
    """The socket's address from any address of a server: ``host:8080``, ``http://host/``, ``https://host/embed/main``,
    ``ws://host/ws/main``, each with a path prefix if the server has one.

    Raises:
        ParameterError: not an http, https, ws or wss address.
    """
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        scheme = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}.get(parts.scheme)
        complete = scheme is not None and bool(parts.hostname) and parts.port != 0  # .port raises where it is none
    except ValueError:
        complete = False
    if not complete:
        raise ParameterError("url", url, "an address like http://localhost:8080 or ws://localhost:8080/ws/main")
    assert scheme is not None
    path = parts.path.rstrip("/")
    if embedded := re.fullmatch(r"(.*)/embed/([^/]+)", path):
        path = f"{embedded[1]}/ws/{embedded[2]}"
    elif "/ws/" not in path:
        path = f"{path}/ws/{station}"
    return urlunsplit((scheme, parts.netloc, path, "", ""))


class BlockDecoder:
    """Payloads to samples; one per unbroken stretch of stream."""

    def __init__(self) -> None:
        self._opus: av.AudioCodecContext | None = None

    def decode(self, frame: protocol.AudioFrame) -> NDArray[np.float32]:
        """Samples float32 [n, 2] of a frame; frames must follow each other.

        Raises:
            av.FFmpegError, ProtocolError, ValueError: the payload is damaged.
        """
        if frame.codec is protocol.Codec.PCM_S16:
            return np.frombuffer(frame.payload, "<i2").reshape(-1, 2).astype(np.float32) / 32768.0
        if self._opus is None:
            opus = av.AudioCodecContext.create("libopus", "r")
            opus.sample_rate, opus.layout = protocol.SAMPLE_RATE, "stereo"
            self._opus = opus
        parts = [
            decoded.to_ndarray().reshape(-1, 2)
            for packet in protocol.split_packets(frame.payload)
            for decoded in self._opus.decode(av.Packet(packet))
        ]
        return np.concatenate(parts).astype(np.float32) / 32768.0 if parts else np.zeros((0, 2), np.float32)


class Inbox:
    """Frames in, blocks out. When it is full the oldest block is dropped, and the next one says ``discontinuity``.

    Args:
        most: samples to hold.
        clock: seconds, monotonic.

    Attributes:
        held: samples that wait. played: samples handed out.
        damaged: frames that could not be decoded.
        underruns: how often a player that keeps ``PLAYER_BUFFER_S`` of the stream would have run dry.
        last_seq: number of the last frame taken; None before the first.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.held = self.played = self.damaged = self.underruns = 0
        self.last_seq: int | None = None
        self._clock = clock
        self._dry_at: float | None = None  # when such a player would have played all that has come
        self._most = most
        self._blocks: deque[Block] = deque()
        self._gap = self._dropped = False
        self._decoder = BlockDecoder()

    def begin_anew(self) -> None:
        """The stream does not go on where it was: after a connection that could not be resumed."""
        self._gap = self.last_seq is not None
        self._decoder = BlockDecoder()

    def take(self, frame: protocol.AudioFrame) -> None:
        """Decode a frame and keep it; silence of its length stands in for one that cannot be decoded."""
        gap = self._gap or bool(frame.flags & protocol.Flags.DISCONTINUITY)
        if self.last_seq is not None and not self._gap and frame.seq != (self.last_seq + 1) & 0xFFFFFFFF:
            gap = True
        if gap:
            self._decoder = BlockDecoder()
        self._gap = False
        self.last_seq = frame.seq
        now = self._clock()
        if self._dry_at is not None and now > self._dry_at:
            self.underruns += 1
            self._dry_at = None
        if self._dry_at is None:
            self._dry_at = now + PLAYER_BUFFER_S
        self._dry_at += frame.n_samples / protocol.SAMPLE_RATE
        block = Block(*self._decoded(frame, gap))
        while self._blocks and self.held + len(block.samples) > self._most:
            self.held -= len(self._blocks.popleft().samples)
            self._dropped = True
        self._blocks.append(block)
        self.held += len(block.samples)

    def _decoded(self, frame: protocol.AudioFrame, gap: bool) -> tuple[NDArray[np.float32], int, int, bool]:
        try:
            samples = self._decoder.decode(frame)
        except (av.FFmpegError, protocol.ProtocolError, ValueError):
            samples = np.zeros((0, 2), np.float32)
        if len(samples) != frame.n_samples:
            self.damaged += 1
            self._decoder = BlockDecoder()
            samples = np.zeros((min(frame.n_samples, LONGEST_FRAME), 2), np.float32)
            gap = True
        return samples, frame.sample_pos, frame.rev, gap

    def pop(self) -> Block | None:
        """The oldest block; None where there is none."""
        if not self._blocks:
            return None
        block = self._blocks.popleft()
        self.held -= len(block.samples)
        self.played += len(block.samples)
        if self._dropped:
            self._dropped = False
            block = replace(block, discontinuity=True)
        return block
