"""Opus packets (RFC 6716): bare for the WebSocket, and in the pages of :mod:`riffstream.audio.ogg` for players."""

from __future__ import annotations

from collections.abc import Sequence

from riffstream.audio.checks import Pcm
from riffstream.audio.packets import FrameEncoder, LibavCodec, check_bit_rate
from riffstream.errors import ParameterError

__all__ = ["OpusEncoder"]

RATES = (8_000, 12_000, 16_000, 24_000, 48_000)


class OpusEncoder(FrameEncoder):
    """Live Opus encoder: one packet a frame, joinable at any packet.

    A decoder converges within 80 ms (``preroll``); its output is audible from the first packet on.

    Args:
        sample_rate: 8000, 12000, 16000, 24000 or 48000 Hz.
        channels: 1 or 2.
        bit_rate: mean bits a second (variable rate), 6000 to 510000.
        frame_ms: 2.5, 5, 10, 20, 40 or 60.
        complexity: 0 to 10; 5 takes four fifths of the CPU of 10.
        start: sample clock at the first input sample.

    Attributes:
        header: the ``OpusHead`` record. WebCodecs and Ogg need it; bare packets decode without it.
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
        self.pre_skip = int.from_bytes(self.header[10:12], "little")  # at 48 kHz for any input rate
        self.priming = self.pre_skip * sample_rate // 48_000
        self.preroll = sample_rate * 80 // 1000

    def _encode(self, frame: Pcm) -> Sequence[bytes]:
        return self._codec.encode(frame)
