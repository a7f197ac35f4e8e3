"""Addresses, and the queue of decoded audio blocks of the client."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import parse_qs, quote, urlsplit, urlunsplit

import av
import numpy as np
from numpy.typing import NDArray

from riffstream import protocol
from riffstream.errors import ParameterError

__all__ = ["Block", "BlockDecoder", "Inbox", "socket_url"]

LONGEST_FRAME: Final = 5 * protocol.SAMPLE_RATE  # samples; a header with more is damaged
PLAYER_BUFFER_S: Final = 0.2  # buffer of the browser's player (``timeline.client_buffer_ms``)


@dataclass(frozen=True, slots=True)
class Block:
    """A block of decoded audio.

    Attributes:
        samples: float32 [n, 2] in [-1, 1], 48 kHz.
        sample_pos: the station's sample clock at the first sample.
        rev: the station's revision at the last sample.
        discontinuity: True if audio is missing before this block.
    """

    samples: NDArray[np.float32]
    sample_pos: int
    rev: int
    discontinuity: bool


# Addresses of a server below its prefix: with a station, and without one.
_OF_STATION = re.compile(r"(.*)/(?:ws|embed|stage|stream|hls|listen|card|qr|api/stations)/([^/.]+)(?:[./].*)?")
_OF_SERVER = re.compile(r"/(?:index\.html|healthz|readyz|metrics|run_inference|status-json\.xsl|api/[a-z].*)$")


def socket_url(url: str, station: str = "main") -> str:
    """URL of the socket from any address of a server.

    Examples: ``host:8080``, ``https://host/embed/main``, ``http://host/stream/main.mp3``, ``http://host/?station=main``,
    ``ws://host/ws/main``, each with the path prefix of the server, if any. A station in the address comes before
    ``station``.

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
    if found := _OF_STATION.fullmatch(path):
        path = f"{found[1]}/ws/{found[2]}"
    else:
        named = parse_qs(parts.query).get("station", [station])[0]
        path = f"{_OF_SERVER.sub('', path)}/ws/{quote(named, safe='')}"
    return urlunsplit((scheme, parts.netloc, path, "", ""))


class BlockDecoder:
    """Decoder of frames without gaps. A gap needs a new decoder."""

    def __init__(self) -> None:
        self._opus: av.AudioCodecContext | None = None

    def decode(self, frame: protocol.AudioFrame) -> NDArray[np.float32]:
        """Decode the next frame to samples float32 [n, 2].

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
    """Queue of decoded blocks. If it is full, the oldest block is dropped and the next one has ``discontinuity``.

    Args:
        most: capacity in samples.
        clock: monotonic clock, seconds.

    Attributes:
        held: samples in the queue.
        played: samples returned so far.
        damaged: number of frames that could not be decoded.
        underruns: number of underruns of a player with a buffer of ``PLAYER_BUFFER_S``.
        last_seq: number of the last frame; None before the first.
        end: sample clock after the last frame.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.held = self.played = self.damaged = self.underruns = 0
        self.last_seq: int | None = None
        self.end = 0
        self._resumed = False
        self._clock = clock
        self._dry_at: float | None = None  # time at which such a player has played all received audio
        self._most = most
        self._blocks: deque[Block] = deque()
        self._gap = self._dropped = False
        self._decoder = BlockDecoder()

    def begin_anew(self) -> None:
        """Start a new stream after a connection that could not be resumed."""
        self._gap = self.last_seq is not None
        self._decoder = BlockDecoder()

    def resume(self) -> None:
        """Continue at the same position after a reconnection. Another server may number its frames differently."""
        self._resumed = True

    def take(self, frame: protocol.AudioFrame) -> None:
        """Decode a frame and queue it; a damaged frame becomes silence of the same length."""
        gap = self._gap or bool(frame.flags & protocol.Flags.DISCONTINUITY)
        if self._resumed:
            gap = gap or frame.sample_pos != self.end
        elif self.last_seq is not None and not self._gap and frame.seq != (self.last_seq + 1) & 0xFFFFFFFF:
            gap = True
        self._resumed = False
        self.end = frame.sample_pos + frame.n_samples
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
        """Remove and return the oldest block; None if the queue is empty."""
        if not self._blocks:
            return None
        block = self._blocks.popleft()
        self.held -= len(block.samples)
        self.played += len(block.samples)
        if self._dropped:
            self._dropped = False
            block = replace(block, discontinuity=True)
        return block
