"""Fragmented MP4 for HLS and Media Source Extensions (ISO/IEC 14496-12): an init segment and a stream of fragments."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Literal

from numpy.typing import ArrayLike

from riffstream.audio.aac import AacEncoder
from riffstream.audio.opus import OpusEncoder
from riffstream.audio.packets import Encoder, Packet
from riffstream.errors import ParameterError

__all__ = ["Fmp4Encoder", "fragment", "init_segment"]


class Fmp4Encoder(Encoder):
    """fMP4 with one audio track; each packet is a ``moof`` + ``mdat`` fragment and can be joined at.

    The track's clock starts at 0 with the first codec frame and never wraps; an edit list hides the codec's priming,
    so presentation time t is input sample ``start + t * sample_rate``. Consecutive fragments concatenate into longer
    segments.

    Args:
        codec: "aac" plays everywhere; "opus" has the lower delay where the browser takes it in MP4.
        bit_rate: mean bits a second; by default 160000 for AAC, 128000 for Opus.
        fragment_ms: length of a fragment, rounded up to whole codec frames; 20 to 10000.
        start: sample clock at the first input sample.

    Attributes:
        header: the init segment.
        mime: type with the codec string, as ``MediaSource.isTypeSupported`` wants it.
    """

    content_type = "audio/mp4"

    def __init__(
        self,
        sample_rate: int = 48_000,
        channels: int = 2,
        *,
        codec: Literal["aac", "opus"] = "aac",
        bit_rate: int | None = None,
        fragment_ms: float = 200,
        start: int = 0,
    ) -> None:
        if not 20 <= fragment_ms <= 10_000:
            raise ParameterError("fragment_ms", fragment_ms, "20 to 10000")
        if codec == "aac":
            aac = AacEncoder(sample_rate, channels, bit_rate=bit_rate or 160_000, adts=False, start=start)
            entry = _aac_entry(sample_rate, channels, aac.config, bit_rate or 160_000)
            self._source: AacEncoder | OpusEncoder = aac
            self.mime = 'audio/mp4; codecs="mp4a.40.2"'
        elif codec == "opus":
            opus = OpusEncoder(sample_rate, channels, bit_rate=bit_rate or 128_000, start=start)
            entry = _opus_entry(sample_rate, channels, opus.header)
            self._source = opus
            self.mime = 'audio/mp4; codecs="opus"'
        else:
            raise ParameterError("codec", codec, "aac or opus")
        self.frame_samples, self.priming = self._source.frame_samples, self._source.priming
        self.preroll = self._source.preroll
        self._per_fragment = max(1, round(fragment_ms * sample_rate / 1000 / self.frame_samples + 0.499))
        self.header = init_segment(entry, sample_rate, self.frame_samples, self.priming)
        self._waiting: list[Packet] = []
        self._sequence = 0
        self._time = 0

    def push(self, pcm: ArrayLike) -> list[Packet]:
        return self._fragments(self._source.push(pcm))

    def close(self) -> list[Packet]:
        out = self._fragments(self._source.close())
        return [*out, self._fragment()] if self._waiting else out

    def _fragments(self, packets: Sequence[Packet]) -> list[Packet]:
        out = []
        for packet in packets:
            self._waiting.append(packet)
            if len(self._waiting) == self._per_fragment:
                out.append(self._fragment())
        return out

    def _fragment(self) -> Packet:
        held, self._waiting = self._waiting, []
        self._sequence += 1
        durations = [packet.n_samples for packet in held]
        data = fragment(self._sequence, self._time, [packet.data for packet in held], durations)
        self._time += sum(durations)
        return Packet(data, held[0].sample_pos, sum(durations))


def _box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", len(body) + 8, kind) + body


def _full(kind: bytes, version: int, flags: int, *parts: bytes) -> bytes:
    return _box(kind, struct.pack(">I", version << 24 | flags), *parts)


MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)


def init_segment(sample_entry: bytes, sample_rate: int, frame_samples: int, priming: int) -> bytes:
    """``ftyp`` and ``moov`` of a track whose timescale is the sample rate and whose first ``priming`` samples are
    hidden."""
    edits = _box(b"edts", _full(b"elst", 0, 0, struct.pack(">IIiHH", 1, 0, priming, 1, 0)))
    tables = b"".join(
        _full(kind, 0, 0, struct.pack(f">{words}I", *(0,) * words))
        for kind, words in ((b"stts", 1), (b"stsc", 1), (b"stsz", 2), (b"stco", 1))
    )
    media = _box(
        b"mdia",
        _full(b"mdhd", 0, 0, struct.pack(">IIIIHH", 0, 0, sample_rate, 0, 0x55C4, 0)),  # language "und"
        _full(b"hdlr", 0, 0, struct.pack(">I4s12x", 0, b"soun"), b"riffstream\0"),
        _box(
            b"minf",
            _full(b"smhd", 0, 0, bytes(4)),
            _box(b"dinf", _full(b"dref", 0, 0, struct.pack(">I", 1), _full(b"url ", 0, 1))),
            _box(b"stbl", _full(b"stsd", 0, 0, struct.pack(">I", 1), sample_entry), tables),
        ),
    )
    header = struct.pack(">IIIII8xHHHH", 0, 0, 1, 0, 0, 0, 0, 0x0100, 0) + MATRIX + bytes(8)
    track = _box(b"trak", _full(b"tkhd", 0, 3, header), edits, media)
    movie = struct.pack(">IIIIIH10x", 0, 0, sample_rate, 0, 0x10000, 0x0100) + MATRIX + bytes(24) + struct.pack(">I", 2)
    extends = _box(b"mvex", _full(b"trex", 0, 0, struct.pack(">IIIII", 1, 1, frame_samples, 0, 0x02000000)))
    return _box(b"ftyp", b"iso6", bytes(4), b"iso6mp41") + _box(b"moov", _full(b"mvhd", 0, 0, movie), track, extends)


def fragment(sequence: int, time: int, frames: Sequence[bytes], durations: Sequence[int]) -> bytes:
    """``moof`` and ``mdat`` of some codec frames.

    Args:
        sequence: number of the fragment, from 1.
        time: decode time of its first sample in the track's timescale.
        durations: samples in each frame.
    """
    table = b"".join(struct.pack(">II", length, len(frame)) for length, frame in zip(durations, frames, strict=True))

    def moof(offset: int) -> bytes:
        return _box(
            b"moof",
            _full(b"mfhd", 0, 0, struct.pack(">I", sequence)),
            _box(
                b"traf",
                _full(b"tfhd", 0, 0x020000, struct.pack(">I", 1)),  # offsets count from this moof
                _full(b"tfdt", 1, 0, struct.pack(">Q", time)),
                _full(b"trun", 0, 0x000301, struct.pack(">Ii", len(frames), offset), table),
            ),
        )

    return moof(len(moof(0)) + 8) + _box(b"mdat", *frames)


def _entry(kind: bytes, sample_rate: int, channels: int, codec_box: bytes) -> bytes:
    # The rate is 16.16 fixed point; rates that do not fit are told by the codec's own record.
    rate = sample_rate << 16 if sample_rate < 65_536 else 0
    return _box(kind, struct.pack(">6xH8xHH4xI", 1, channels, 16, rate), codec_box)


def _aac_entry(sample_rate: int, channels: int, config: bytes, bit_rate: int) -> bytes:
    def descriptor(tag: int, *parts: bytes) -> bytes:
        body = b"".join(parts)
        return bytes([tag, len(body)]) + body

    decoder = descriptor(
        4,
        struct.pack(">BB3sII", 0x40, 0x15, bytes(3), bit_rate, bit_rate),  # MPEG-4 audio, an audio stream
        descriptor(5, config),
    )
    stream = descriptor(3, struct.pack(">HB", 1, 0), decoder, descriptor(6, b"\x02"))
    return _entry(b"mp4a", sample_rate, channels, _full(b"esds", 0, 0, stream))


def _opus_entry(sample_rate: int, channels: int, head: bytes) -> bytes:
    pre_skip, rate, gain = struct.unpack_from("<HIh", head, 10)
    record = struct.pack(">BBHIhB", 0, channels, pre_skip, rate, gain, 0)
    return _entry(b"Opus", sample_rate, channels, _box(b"dOps", record))
