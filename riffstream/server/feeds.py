"""Feeds: a station's encoded audio in one codec, with the only ring of its chunks, and the frames of each wire format.

The station encodes each codec once (``riffstream.station.outlet``). A feed keeps the chunks, groups them into frames
once for each wire format (WebSocket v1, bare WebSocket, raw bytes, packets of Ogg pages) and frame length, and fans
them out. A frame keeps its chunks, and its bytes only while it is new.

Threading model: everything runs on the event loop.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from riffstream.audio.ogg import PageBody, page_bodies
from riffstream.protocol import SAMPLE_RATE, AudioFrame, Codec, Flags, pack_frame, split_packets
from riffstream.server.fanout import Fanout, Frame, websocket_frame
from riffstream.server.interfaces import Outlet
from riffstream.station.outlet import Chunk

__all__ = ["WIRES", "Feed", "Follower", "OggPackets", "Wire", "whole_chunks"]

SAMPLES_PER_MS = SAMPLE_RATE // 1000
FRESH_S = 2.0  # time for which frames keep their bytes: the burst of most listeners


@dataclass(frozen=True, slots=True)
class Wire:
    """A wire format.

    Attributes:
        name: name in labels.
        build: function of the sequence number and the chunks of a frame. It returns the bytes and the position of the
            flags byte (None without flags).
    """

    name: str
    build: Callable[[int, Sequence[Chunk]], tuple[bytes, int | None]]


def _v1(codec: Codec) -> Callable[[int, Sequence[Chunk]], tuple[bytes, int | None]]:
    """Make the ``build`` function of WebSocket frames with the protocol's binary header."""

    def build(seq: int, chunks: Sequence[Chunk]) -> tuple[bytes, int | None]:
        flags = Flags.SILENCE if all(chunk.flags & Flags.SILENCE for chunk in chunks) else Flags.NONE
        if any(chunk.flags & Flags.DISCONTINUITY for chunk in chunks):
            flags |= Flags.DISCONTINUITY
        body = pack_frame(
            AudioFrame(
                seq=seq,
                sample_pos=chunks[0].sample_pos,
                n_samples=sum(chunk.n_samples for chunk in chunks),
                rev=chunks[-1].rev,
                payload=_join(chunks),
                codec=codec,
                flags=flags,
            )
        )
        wire = websocket_frame(2, body)
        return wire, len(wire) - len(body) + 3

    return build


def _join(chunks: Sequence[Chunk]) -> bytes:
    return b"".join(chunk.payload for chunk in chunks)


class OggPackets(bytes):
    """A frame of Opus packets, from which each listener's own pages are made (:mod:`riffstream.audio.ogg`).

    Attributes:
        bodies: bodies of the pages.
    """

    bodies: Sequence[PageBody]


def _ogg(seq: int, chunks: Sequence[Chunk]) -> tuple[bytes, None]:
    """Build a frame of Opus packets with the bodies of its Ogg pages."""
    frame = OggPackets(_join(chunks))
    packets = split_packets(frame)
    frame.bodies = page_bodies(packets, sum(chunk.n_samples for chunk in chunks) // len(packets))
    return frame, None


WIRES: dict[str, Wire] = {
    wire.name: wire
    for wire in (
        Wire("v1-opus", _v1(Codec.OPUS)),
        Wire("v1-pcm_s16", _v1(Codec.PCM_S16)),
        Wire("socket", lambda seq, chunks: (websocket_frame(2, _join(chunks)), None)),
        Wire("raw", lambda seq, chunks: (_join(chunks), None)),
        Wire("ogg", _ogg),
    )
}


def whole_chunks(frame_ms: int, chunk_ms: int) -> int:
    """The length in ms of frames of whole chunks that is closest to ``frame_ms``; at least one chunk."""
    return chunk_ms * max(1, -(-(2 * frame_ms - chunk_ms) // (2 * chunk_ms)))


class _Packager:
    """Grouping of chunks into frames. A frame ends early at a new revision or before missing audio.

    Frames end near multiples of their length on the sample clock, so that every server of a station has the same ones.
    """

    def __init__(self, wire: Wire, frame_samples: int, fanout: Fanout) -> None:
        self.wire = wire
        self.frame_samples = frame_samples
        self.fanout = fanout
        self._held: list[Chunk] = []
        self._samples = 0

    def push(self, chunk: Chunk) -> None:
        if self._held and (self._held[-1].rev != chunk.rev or chunk.flags & Flags.DISCONTINUITY):
            self._emit()
        self.hold(chunk)
        # Codec frames do not divide the frame length evenly: end at the border that is closest.
        half = chunk.n_samples // 2
        if (chunk.sample_pos + chunk.n_samples + half) // self.frame_samples > (chunk.sample_pos + half) // (
            self.frame_samples
        ):
            self._emit()

    def hold(self, chunk: Chunk) -> None:
        """Add a chunk to the next frame, whatever its length."""
        self._held.append(chunk)
        self._samples += chunk.n_samples

    def end_frame(self) -> None:
        """End the next frame, if it has audio."""
        if self._held:
            self._emit()

    def _emit(self) -> None:
        chunks, samples = self._held, self._samples
        self._held, self._samples = [], 0
        seq = chunks[0].seq
        if seq is not None and seq != self.fanout.next_seq and chunks[0].n_samples >= self.frame_samples:
            self.fanout.jump(seq)  # a relay's frames keep their numbers
        build = partial(self.wire.build, self.fanout.next_seq, chunks)
        self.fanout.push(Frame(chunks[0].sample_pos, samples, chunks[-1].rev, build))


class Follower(Protocol):
    """What takes a feed's chunks on its own."""

    def push(self, chunk: Chunk) -> None: ...
    def end(self) -> None: ...


class Feed:
    """Encoded audio of a station in one codec, with its fan-outs. :meth:`open` makes it.

    Args:
        source: the station's outlet; this feed is its only taker.
        ring_s: encoded audio kept for bursts and resumption, seconds.
        ended: called with this feed when its outlet ends, because the station has ended or the encoder cannot run.
    """

    def __init__(self, source: Outlet, ring_s: float, ended: Callable[[Feed], None]) -> None:
        self.source = source
        self.ring_s = ring_s
        self.fanouts: dict[tuple[str, int], Fanout] = {}
        self._ring: deque[Chunk] = deque()
        self._holders = 0
        self._left_at = time.monotonic()
        self._packagers: list[_Packager] = []
        self._followers: list[Follower] = []
        self._ended = ended

    @classmethod
    async def open(cls, source: Outlet, ring_s: float, ended: Callable[[Feed], None]) -> Feed:
        """Start the encoder and fill the ring with recent audio. Raises EncoderError, StationEndedError."""
        feed = cls(source, ring_s, ended)
        await source.start(feed._take)
        feed._left_at = time.monotonic()
        return feed

    def fanout(self, wire: str, frame_ms: int) -> Fanout:
        """Fan-out with a wire format and a frame length, filled from the ring at its first use."""
        found = self.fanouts.get((wire, frame_ms))
        if found is not None:
            return found
        return self._add_fanout(wire, frame_ms, self._ring[0].seq or 0 if self._ring else 0, ())

    @property
    def _end(self) -> int:
        """Sample clock at the end of the ring."""
        return self._ring[-1].sample_pos + self._ring[-1].n_samples if self._ring else 0

    def _add_fanout(self, wire: str, frame_ms: int, first_seq: int, borders: Sequence[int]) -> Fanout:
        fanout = Fanout(
            capacity=-(-round(self.ring_s * 1000) // frame_ms),
            fresh=-(-round(FRESH_S * 1000) // frame_ms),
            label=f"{self.source.codec}/{wire}/{frame_ms}ms",
            first=first_seq,
        )
        packager = _Packager(WIRES[wire], frame_ms * SAMPLES_PER_MS, fanout)
        for chunk in self._ring:
            if not borders or chunk.sample_pos >= borders[-1]:
                if borders and chunk.sample_pos == borders[-1]:
                    packager.end_frame()
                packager.push(chunk)
            elif chunk.sample_pos >= borders[0]:
                if chunk.sample_pos in borders:
                    packager.end_frame()
                packager.hold(chunk)
        if borders and self._end == borders[-1]:
            packager.end_frame()
        self.fanouts[wire, frame_ms] = fanout
        self._packagers.append(packager)
        return fanout

    def continue_fanout(self, wire: str, frame_ms: int, next_seq: int, borders: Sequence[int]) -> Fanout | None:
        """Continue a fan-out of an earlier process.

        Args:
            wire, frame_ms: as in :meth:`fanout`.
            next_seq: sequence number of its next frame.
            borders: sample clock at the beginnings of its last frames and at the end of the last one.

        Returns:
            The fan-out, with the earlier frames that the ring has; None if it exists already, or if the ring has no
            audio for the next frame.
        """
        known = {chunk.sample_pos for chunk in self._ring} | {self._end}
        borders = [pos for pos in borders if pos in known]
        if (wire, frame_ms) in self.fanouts or not borders or len(borders) > next_seq + 1:
            return None
        return self._add_fanout(wire, frame_ms, next_seq - len(borders) + 1, borders)

    def follow(self, follower: Follower) -> None:
        """Give it the chunks of the ring, then every new one, and ``end()`` when the feed closes."""
        for chunk in self._ring:
            follower.push(chunk)
        self._followers.append(follower)

    def unfollow(self, follower: Follower) -> None:
        """Give it nothing more. Harmless when repeated."""
        if follower in self._followers:
            self._followers.remove(follower)

    def hold(self) -> None:
        """Keep the feed running until :meth:`release`."""
        self._holders += 1

    def release(self) -> None:
        """One holder less."""
        self._holders -= 1
        self._left_at = time.monotonic()

    @property
    def idle_since(self) -> float | None:
        """Time at which the last holder left or the feed was opened (``time.monotonic``); None with a holder."""
        return None if self._holders else self._left_at

    def close(self) -> None:
        """Stop the encoder, and discard the audio and the listeners."""
        self.source.stop()
        self._ring.clear()
        self._packagers.clear()
        for fanout in self.fanouts.values():
            fanout.close()
        followers, self._followers = self._followers, []
        for follower in followers:
            follower.end()

    def _take(self, chunk: Chunk | None) -> None:
        if chunk is None:
            self._ended(self)
            return
        if self._ring and chunk.sample_pos < self._ring[-1].sample_pos:  # a relay's origin has begun anew
            self._ring.clear()
            for fanout in self.fanouts.values():
                fanout.jump(fanout.next_seq)
        self._ring.append(chunk)
        while self._ring[0].sample_pos < chunk.sample_pos - self.ring_s * SAMPLE_RATE:
            self._ring.popleft()
        for packager in self._packagers:
            packager.push(chunk)
        for follower in tuple(self._followers):
            follower.push(chunk)
