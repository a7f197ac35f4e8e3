"""Opus: bare packets for the WebSocket, and Ogg pages for players (RFC 6716, RFC 7845)."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

from numpy.typing import ArrayLike

from riffstream.audio.blocks import Pcm
from riffstream.audio.packets import Encoder, FrameEncoder, LibavCodec, Packet, check_bit_rate
from riffstream.errors import ParameterError

__all__ = ["OggOpusEncoder", "OggOpusPager", "OpusEncoder", "ogg_page"]

RATES = (8_000, 12_000, 16_000, 24_000, 48_000)


class OpusEncoder(FrameEncoder):
    """Opus packets, one a frame, joinable at any packet.

    Decoders settle within 80 ms (``preroll``); the first packet that a listener gets already sounds right.

    Args:
        sample_rate: 8000, 12000, 16000, 24000 or 48000 Hz.
        channels: 1 or 2.
        bit_rate: mean bits a second (variable rate), 6000 to 510000.
        frame_ms: 2.5, 5, 10, 20, 40 or 60.
        complexity: 0 to 10; 5 costs four fifths of 10 in CPU.
        start: sample clock at the first input sample.

    Attributes:
        header: the ``OpusHead`` record. WebCodecs and MP4 want it; bare packets decode without it.
    """

    content_type = "audio/opus"

    def __init__(
        self,
        sample_rate: int = 48_000,
        channels: int = 2,
        *,
        bit_rate: int = 128_000,
        frame_ms: float = 20,
        complexity: int = 10,
        start: int = 0,
    ) -> None:
        super().__init__(sample_rate, channels, start)
        if sample_rate not in RATES:
            raise ParameterError("sample_rate", sample_rate, "8000, 12000, 16000, 24000 or 48000 Hz")
        if channels not in (1, 2):
            raise ParameterError("channels", channels, "1 or 2")
        check_bit_rate(bit_rate, 6_000, 510_000)
        if frame_ms not in (2.5, 5, 10, 20, 40, 60):
            raise ParameterError("frame_ms", frame_ms, "2.5, 5, 10, 20, 40 or 60")
        if not 0 <= complexity <= 10:
            raise ParameterError("complexity", complexity, "0 to 10")
        options = {
            "frame_duration": f"{frame_ms:g}",
            "compression_level": str(complexity),
            "application": "audio",
            "vbr": "on",
        }
        self._codec = LibavCodec("libopus", "flt", sample_rate, channels, bit_rate, options)
        self.header = self._codec.extradata
        self.frame_samples = self._codec.frame_samples
        self.pre_skip = int.from_bytes(self.header[10:12], "little")  # at 48 kHz, whatever the rate
        self.priming = self.pre_skip * sample_rate // 48_000
        self.preroll = sample_rate * 80 // 1000

    def _encode(self, frame: Pcm) -> Sequence[bytes]:
        return self._codec.encode(frame)


_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))


def _ogg_crc(data: bytes) -> int:
    # Ogg's checksum is zlib's polynomial with the bits the other way round and no inversions: reverse the bits of
    # each byte, let zlib run, and undo its inversions. A loop in Python would be a hundred times slower.
    raw = zlib.crc32(data.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{raw:032b}"[::-1], 2)


def ogg_page(packets: Sequence[bytes], *, serial: int, sequence: int, granule: int, flags: int = 0) -> bytes:
    """One Ogg page of whole packets (RFC 3533).

    Args:
        packets: at most 255 lacing values in all (a packet of n bytes takes n // 255 + 1).
        serial, sequence: of the logical stream and of the page in it.
        granule: position at the end of the page's last packet.
        flags: 2 for the first page, 4 for the last.
    """
    lacing = b"".join(b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255]) for packet in packets)
    if len(lacing) > 255:
        raise ParameterError("packets", f"{len(lacing)} lacing values", "255 or fewer; use fewer packets a page")
    head = b"OggS\0" + bytes([flags]) + granule.to_bytes(8, "little") + serial.to_bytes(4, "little")
    head += sequence.to_bytes(4, "little")
    rest = bytes([len(lacing)]) + lacing + b"".join(packets)
    crc = _ogg_crc(head + b"\0\0\0\0" + rest)
    return head + crc.to_bytes(4, "little") + rest


class OggOpusPager:
    """Puts the packets of a running :class:`OpusEncoder` into Ogg pages, so that one encoder serves both.

    Args:
        source: the encoder whose packets will come; only its constants are read.
        packets_per_page: 1 to 50; more save 27 bytes each and wait longer.
        tags: comments, such as ``{"title": "lo-fi rain"}``.
        serial: of the Ogg stream.

    Attributes:
        header: the two header pages.
    """

    def __init__(
        self,
        source: OpusEncoder,
        *,
        packets_per_page: int = 5,
        tags: Mapping[str, str] | None = None,
        serial: int = 1,
    ) -> None:
        if not 1 <= packets_per_page <= 50:
            raise ParameterError("packets_per_page", packets_per_page, "1 to 50")
        self._per_page, self._serial = packets_per_page, serial
        self._to_48k = 48_000 // source.sample_rate
        self._waiting: list[Packet] = []
        self._granule = 0
        self._sequence = 2
        self._pre_skip = source.pre_skip
        self.header = ogg_page([source.header], serial=serial, sequence=0, granule=0, flags=2)
        self.header += ogg_page([_opus_tags(tags or {})], serial=serial, sequence=1, granule=0)

    def push(self, packets: Sequence[Packet]) -> list[Packet]:
        """Take Opus packets in order; return complete pages."""
        pages = []
        for packet in packets:
            lacing = sum(len(held.data) // 255 + 1 for held in (*self._waiting, packet))
            if lacing > 255:
                pages.append(self._page())
            self._waiting.append(packet)
            if len(self._waiting) == self._per_page:
                pages.append(self._page())
        return pages

    def close(self, packets: Sequence[Packet] = ()) -> list[Packet]:
        """End the stream with the encoder's last packets: the rest, its final page marked so and trimmed exactly."""
        pages = self.push(packets[:-1])
        self._waiting += packets[-1:]
        return [*pages, self._page(flags=4)]

    def _page(self, flags: int = 0) -> Packet:
        held, self._waiting = self._waiting, []
        n_samples = sum(packet.n_samples for packet in held)
        self._granule += n_samples * self._to_48k
        data = ogg_page(
            [packet.data for packet in held],
            serial=self._serial,
            sequence=self._sequence,
            granule=self._granule,
            flags=flags,
        )
        self._sequence += 1
        return Packet(data, held[0].sample_pos if held else 0, n_samples)


class OggOpusEncoder(Encoder):
    """Ogg Opus for ``/stream.ogg``: pages of a few packets each, joinable at any page after ``header``.

    Positions in the Ogg stream count from this encoder's start, so a late joiner's player shows the station's age.

    Args:
        packets_per_page, tags, serial: of :class:`OggOpusPager`; the others are :class:`OpusEncoder`'s.
    """

    content_type = "audio/ogg; codecs=opus"

    def __init__(
        self,
        sample_rate: int = 48_000,
        channels: int = 2,
        *,
        bit_rate: int = 128_000,
        packets_per_page: int = 5,
        tags: Mapping[str, str] | None = None,
        serial: int = 1,
        start: int = 0,
    ) -> None:
        self._opus = OpusEncoder(sample_rate, channels, bit_rate=bit_rate, start=start)
        self._pager = OggOpusPager(self._opus, packets_per_page=packets_per_page, tags=tags, serial=serial)
        self.header = self._pager.header
        self.frame_samples, self.priming = self._opus.frame_samples, self._opus.priming
        self.preroll = self._opus.preroll
        self._closed = False

    def push(self, pcm: ArrayLike) -> list[Packet]:
        return self._pager.push(self._opus.push(pcm))

    def close(self) -> list[Packet]:
        if self._closed:
            return []
        self._closed = True
        return self._pager.close(self._opus.close())


def _opus_tags(tags: Mapping[str, str]) -> bytes:
    def text(value: str) -> bytes:
        data = value.encode()
        return len(data).to_bytes(4, "little") + data

    # One page holds 255 * 255 bytes at most; a longer list of prompts is cut rather than refused.
    comments = [f"{key.upper()}={value}"[:4000] for key, value in list(tags.items())[:12]]
    return b"OpusTags" + text("riffstream") + len(comments).to_bytes(4, "little") + b"".join(map(text, comments))
