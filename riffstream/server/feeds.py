"""One encoder per codec and station, and the frames that its packets become.

A feed takes the station's committed samples, encodes them continuously, and hands each packet to its outlets: one
outlet per wire format (WebSocket v1, bare WebSocket, HTTP chunks, raw bytes) and frame length.

Threading model
  Event loop     runs the feed and owns outlets and packets.
  Encoder pool   runs ``encoder.push``, one call at a time per feed, so that encoding never holds the loop.
  Hand-over      the feed awaits each call; if encoding is late, the station's ring holds the samples meanwhile.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from riffstream.audio.packets import Encoder
from riffstream.audio.packets import Packet as Encoded
from riffstream.protocol import AudioFrame, Codec, Flags, join_packets, pack_frame
from riffstream.server.fanout import Frame, Outlet, http_chunk, websocket_frame
from riffstream.server.ports import Chunk

__all__ = ["WIRES", "Feed", "Packet", "Wire"]

SAMPLES_PER_MS = 48


@dataclass(frozen=True, slots=True)
class Packet:
    """An encoded packet: what the encoder gave, the revision heard at its end, and whether it is silence."""

    data: bytes
    sample_pos: int
    n_samples: int
    rev: int
    silent: bool


@dataclass(frozen=True, slots=True)
class Wire:
    """A wire format: ``build(seq, packets)`` gives the bytes and where their flags byte lies (None: no flags)."""

    name: str
    build: Callable[[int, Sequence[Packet]], tuple[bytes, int | None]]


def _v1(codec: Codec) -> Callable[[int, Sequence[Packet]], tuple[bytes, int | None]]:
    def build(seq: int, packets: Sequence[Packet]) -> tuple[bytes, int | None]:
        parts = [packet.data for packet in packets]
        payload = join_packets(parts) if codec is Codec.OPUS else b"".join(parts)
        flags = Flags.SILENCE if all(packet.silent for packet in packets) else Flags.NONE
        body = pack_frame(
            AudioFrame(
                seq=seq,
                sample_pos=packets[0].sample_pos,
                n_samples=sum(packet.n_samples for packet in packets),
                rev=packets[-1].rev,
                payload=payload,
                codec=codec,
                flags=flags,
            )
        )
        wire = websocket_frame(2, body)
        return wire, len(wire) - len(body) + 3

    return build


def _join(packets: Sequence[Packet]) -> bytes:
    return b"".join(packet.data for packet in packets)


WIRES: dict[str, Wire] = {
    wire.name: wire
    for wire in (
        Wire("v1-opus", _v1(Codec.OPUS)),
        Wire("v1-pcm_s16", _v1(Codec.PCM_S16)),
        Wire("socket", lambda seq, packets: (websocket_frame(2, _join(packets)), None)),
        Wire("chunked", lambda seq, packets: (http_chunk(_join(packets)), None)),
        Wire("raw", lambda seq, packets: (_join(packets), None)),
    )
}


class _Packager:
    """Gathers packets into frames of one outlet. A frame ends early where the revision changes."""

    def __init__(self, wire: Wire, frame_samples: int, outlet: Outlet) -> None:
        self.wire = wire
        self.frame_samples = frame_samples
        self.outlet = outlet
        self._held: list[Packet] = []
        self._samples = 0

    def push(self, packet: Packet) -> None:
        if self._held and self._held[-1].rev != packet.rev:
            self._emit()
        self._held.append(packet)
        self._samples += packet.n_samples
        if self._samples >= self.frame_samples:
            self._emit()

    def _emit(self) -> None:
        packets, samples = self._held, self._samples
        self._held, self._samples = [], 0
        wire, flags_at = self.wire.build(self.outlet.next_seq, packets)
        self.outlet.push(Frame(packets[0].sample_pos, samples, packets[-1].rev, wire, flags_at))


class Feed:
    """A station's audio in one codec.

    Args:
        name: codec and bit rate, for metrics.
        encoder: fresh, with the position of the first sample that ``run`` will see.
        pool: where it runs. None: on the loop, for codecs that are no work (PCM).
        ring_s: seconds of packets and frames kept for bursts and resumption.
    """

    def __init__(self, name: str, encoder: Encoder, *, pool: Executor | None, ring_s: float = 30.0) -> None:
        self.name = name
        self.ring_samples = int(ring_s * 1000 * SAMPLES_PER_MS)
        self.outlets: dict[tuple[str, int], Outlet] = {}
        self.encoder = encoder
        self._pool = pool
        self._packets: deque[Packet] = deque()
        self._held_samples = 0
        self._packagers: list[_Packager] = []
        self._revs: deque[tuple[int, int]] = deque()  # (first sample, what is heard from there on)
        self._sound_until = 0

    def outlet(self, wire: str, frame_ms: int) -> Outlet:
        """The outlet with this wire format and frame length, filled with what the ring holds."""
        key = (wire, frame_ms)
        if key not in self.outlets:
            frame_samples = frame_ms * SAMPLES_PER_MS
            outlet = Outlet(capacity=-(-self.ring_samples // frame_samples), label=f"{self.name}/{wire}/{frame_ms}ms")
            packager = _Packager(WIRES[wire], frame_samples, outlet)
            for packet in self._packets:
                packager.push(packet)
            self.outlets[key] = outlet
            self._packagers.append(packager)
        return self.outlets[key]

    @property
    def listeners(self) -> int:
        """Listeners of all outlets."""
        return sum(len(outlet.listeners) for outlet in self.outlets.values())

    @property
    def idle_since(self) -> float | None:
        """When the last listener left (``time.monotonic``), None while there is one or where there never was."""
        times = [outlet.idle_since for outlet in self.outlets.values()]
        return None if not times or None in times else max(time for time in times if time is not None)

    async def run(self, chunks: AsyncIterator[Chunk]) -> None:
        """Encode until the chunks end; chunks follow each other on the sample clock."""
        loop = asyncio.get_running_loop()
        async for chunk in chunks:
            if not self._revs or self._revs[-1][1] != chunk.rev:
                self._revs.append((chunk.sample_pos, chunk.rev))
            if chunk.pcm.any():
                self._sound_until = chunk.sample_pos + len(chunk.pcm)
            if self._pool is None:
                encoded = self.encoder.push(chunk.pcm)
            else:
                encoded = await loop.run_in_executor(self._pool, self.encoder.push, chunk.pcm)
            for each in encoded:
                self._take(each)

    def close(self) -> None:
        """Drop listeners' places. The encoder, which a thread may still be running, goes with the last reference."""
        for outlet in self.outlets.values():
            outlet.close()

    def _take(self, encoded: Encoded) -> None:
        start = encoded.sample_pos
        end = start + encoded.n_samples
        if start < 0:
            return  # a codec's first packet begins before the station did
        while len(self._revs) > 1 and self._revs[1][0] < end:
            self._revs.popleft()
        packet = Packet(encoded.data, start, encoded.n_samples, self._revs[0][1], start >= self._sound_until)
        self._packets.append(packet)
        self._held_samples += packet.n_samples
        while self._held_samples - self._packets[0].n_samples >= self.ring_samples:
            self._held_samples -= self._packets.popleft().n_samples
        for packager in self._packagers:
            packager.push(packet)
