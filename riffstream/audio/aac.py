"""AAC-LC in ADTS frames, for ``/stream.aac`` (ISO/IEC 14496-3, 13818-7)."""

from __future__ import annotations

from collections.abc import Sequence

from riffstream.audio.checks import Pcm
from riffstream.audio.packets import FrameEncoder, LibavCodec, check_bit_rate
from riffstream.errors import ParameterError

__all__ = ["AacEncoder", "adts_header"]

RATES = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000)
FRAME = 1024


class AacEncoder(FrameEncoder):
    """Live AAC-LC encoder: one ADTS frame a packet, joinable at any frame.

    A decoder that joins mid-stream is exact from its second frame on (``preroll``), because adjacent frames overlap.

    Args:
        sample_rate: an AAC rate, 8000 to 96000 Hz.
        channels: 1 or 2.
        bit_rate: mean bits a second, 16000 to 512000.
        coder: "twoloop" (better) or "fast" (half the CPU).
        start: sample clock at the first input sample.
    """

    content_type = "audio/aac"
    frame_samples = FRAME
    priming = FRAME
    preroll = 2 * FRAME

    def __init__(
        self,
        sample_rate: int = 48_000,
        channels: int = 2,
        *,
        bit_rate: int = 160_000,
        coder: str = "twoloop",
        start: int = 0,
    ) -> None:
        super().__init__(sample_rate, channels, start)
        if sample_rate not in RATES:
            raise ParameterError("sample_rate", sample_rate, ", ".join(map(str, RATES)) + " Hz")
        if channels not in (1, 2):
            raise ParameterError("channels", channels, "1 or 2")
        check_bit_rate(bit_rate, 16_000, 512_000)
        if coder not in ("twoloop", "fast"):
            raise ParameterError("coder", coder, "twoloop or fast")
        self._codec = LibavCodec("aac", "fltp", sample_rate, channels, bit_rate, {"aac_coder": coder})

    def _encode(self, frame: Pcm) -> Sequence[bytes]:
        packets = self._codec.encode(frame)
        return [adts_header(len(packet), self.sample_rate, self.channels) + packet for packet in packets]


def adts_header(length: int, sample_rate: int, channels: int) -> bytes:
    """The 7-byte header of an AAC-LC frame of ``length`` bytes, without a checksum."""
    total = length + 7
    bits = 0xFFF1  # sync word, MPEG-4, layer 0, no checksum
    bits = bits << 2 | 1  # AAC-LC
    bits = bits << 4 | RATES.index(sample_rate)
    bits = bits << 4 | channels  # private bit 0, then three bits for the channels
    bits = bits << 4  # original, home, copyright identification and its start: all 0
    bits = bits << 13 | total
    bits = bits << 11 | 0x7FF  # variable rate
    bits = bits << 2  # one frame
    return bits.to_bytes(7, "big")
