"""Binary frames: audio after a 24-byte little-endian header."""

from __future__ import annotations

import enum
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from riffstream.protocol.messages import VERSION, ProtocolError


class Kind(enum.IntEnum):
    """Content of a binary frame."""

    AUDIO = 1


class Codec(enum.IntEnum):
    """Payload of an audio frame. OPUS: packets of 20 ms, each after its u16 length. PCM_S16: interleaved."""

    OPUS = 1
    PCM_S16 = 2


class Flags(enum.IntFlag):
    """DISCONTINUITY: something is missing before this frame. SILENCE: nothing but zeros."""

    NONE = 0
    DISCONTINUITY = 1
    SILENCE = 2


_HEADER: Final = struct.Struct("<BBBBIQII")
HEADER_BYTES: Final = _HEADER.size  # 24


@dataclass(frozen=True, slots=True)
class AudioFrame:
    """A binary frame with audio.

    Attributes:
        seq: number of the frame, modulo 2**32; one more than that of the previous frame.
        sample_pos: sample clock of its first sample.
        n_samples: samples per channel.
        rev: the station's revision at the end of the frame.
        payload: packets or samples, see :class:`Codec`.
    """

    seq: int
    sample_pos: int
    n_samples: int
    rev: int
    payload: bytes
    codec: Codec = Codec.OPUS
    flags: Flags = Flags.NONE
    kind: Kind = Kind.AUDIO


def pack_frame(frame: AudioFrame) -> bytes:
    """Encode a frame. ``seq`` and ``rev`` wrap at 32 bits."""
    return (
        _HEADER.pack(
            VERSION,
            frame.kind,
            frame.codec,
            frame.flags,
            frame.seq & 0xFFFFFFFF,
            frame.sample_pos,
            frame.n_samples,
            frame.rev & 0xFFFFFFFF,
        )
        + frame.payload
    )


def unpack_frame(data: bytes) -> AudioFrame:
    """Decode a frame; unknown flags are ignored.

    Raises:
        ProtocolError: too short, or of an unknown version, kind or codec.
    """
    if len(data) < HEADER_BYTES:
        raise ProtocolError("bad_request", f"a binary frame has {len(data)} bytes; allowed: {HEADER_BYTES} or more")
    ver, kind, codec, flags, seq, sample_pos, n_samples, rev = _HEADER.unpack_from(data)
    if ver != VERSION:
        raise ProtocolError("unsupported_version", f"binary frame of version {ver}; allowed: {VERSION}", field="ver")
    try:
        return AudioFrame(
            seq=seq,
            sample_pos=sample_pos,
            n_samples=n_samples,
            rev=rev,
            payload=bytes(data[HEADER_BYTES:]),
            codec=Codec(codec),
            flags=Flags(flags & 3),
            kind=Kind(kind),
        )
    except ValueError as error:
        raise ProtocolError("bad_request", f"binary frame: {error}") from None


def join_packets(packets: Sequence[bytes]) -> bytes:
    """Join Opus packets, each after its length (u16, little-endian). Raises ValueError above 65,535 bytes."""
    for packet in packets:
        if len(packet) > 0xFFFF:
            raise ValueError(f"a packet has {len(packet)} bytes; allowed: up to 65535")
    return b"".join(len(packet).to_bytes(2, "little") + packet for packet in packets)


def split_packets(payload: bytes) -> list[bytes]:
    """Inverse of :func:`join_packets`. Raises :class:`ProtocolError` on a truncated payload."""
    packets = []
    at = 0
    while at < len(payload):
        size = int.from_bytes(payload[at : at + 2], "little")
        if at + 2 + size > len(payload):
            raise ProtocolError("bad_request", f"an Opus payload ends inside a packet, at byte {at}")
        packets.append(payload[at + 2 : at + 2 + size])
        at += 2 + size
    return packets
