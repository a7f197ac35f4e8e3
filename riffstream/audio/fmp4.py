"""AAC in fragmented MP4, the segments of HLS (RFC 8216, ISO/IEC 14496-12), through libav's muxer."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Sequence
from fractions import Fraction

import av
from av.audio.stream import AudioStream

from riffstream.audio.aac import FRAME

__all__ = ["Fmp4Muxer", "split_adts"]

ADTS_BYTES = 7
_OPTIONS = {
    # One fragment a segment, its time as given: every segment comes from a muxer of its own.
    "movflags": "empty_moov+default_base_moof+frag_custom+frag_discont",
    "use_editlist": "0",
    "avoid_negative_ts": "disabled",
}


class Fmp4Muxer:
    """Segments of one AAC-LC stream. They share ``init``; each can be decoded by itself.

    Args:
        sample_rate: Hz.
        channels: 1 or 2.
        bit_rate: bits a second, as written into ``init``.

    Attributes:
        init: the initialisation segment (``ftyp`` and ``moov``).
    """

    def __init__(self, sample_rate: int, channels: int, bit_rate: int) -> None:
        self.sample_rate = sample_rate
        self.channels = channels
        self.bit_rate = bit_rate
        boxes = dict(_boxes(self._mux([])))
        self.init: bytes = boxes[b"ftyp"] + boxes[b"moov"]

    def segment(self, number: int, sample_pos: int, frames: Sequence[bytes]) -> bytes:
        """A media segment (``moof`` and ``mdat``).

        Args:
            number: its sequence number, 0 or more.
            sample_pos: decode time of the first frame in samples, 0 or more.
            frames: one or more AAC frames of 1,024 samples, without ADTS headers.
        """
        boxes = dict(_boxes(self._mux(frames, sample_pos)))
        moof = bytearray(boxes[b"moof"])
        struct.pack_into(">I", moof, moof.index(b"mfhd") + 8, number & 0xFFFFFFFF)
        return bytes(moof) + boxes[b"mdat"]

    def _mux(self, frames: Sequence[bytes], sample_pos: int = 0) -> bytes:
        target = io.BytesIO()
        with av.open(target, "w", format="mp4", options=_OPTIONS) as container:
            stream = container.add_stream("aac", rate=self.sample_rate)
            assert isinstance(stream, AudioStream)
            stream.layout = "mono" if self.channels == 1 else "stereo"
            stream.bit_rate = self.bit_rate
            stream.codec_context.open()
            container.start_encoding()
            for number, frame in enumerate(frames):
                packet = av.Packet(frame)
                packet.stream = stream
                packet.time_base = Fraction(1, self.sample_rate)
                packet.pts = packet.dts = sample_pos + number * FRAME
                packet.duration = FRAME
                packet.is_keyframe = True
                container.mux(packet)
        return target.getvalue()


def split_adts(payload: bytes) -> list[bytes]:
    """AAC frames without their ADTS headers.

    Raises:
        ValueError: the bytes are no run of whole ADTS frames.
    """
    frames, at = [], 0
    while at < len(payload):
        if len(payload) - at < ADTS_BYTES or payload[at] != 0xFF:
            raise ValueError("not an ADTS frame")
        size = (payload[at + 3] & 3) << 11 | payload[at + 4] << 3 | payload[at + 5] >> 5
        if size < ADTS_BYTES or at + size > len(payload):
            raise ValueError("an ADTS frame is cut off")
        frames.append(payload[at + ADTS_BYTES : at + size])
        at += size
    return frames


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        yield kind, data[at : at + size]
        at += size
