"""The table of live encoders by their name in URLs and in the protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from riffstream.audio.aac import AacEncoder
from riffstream.audio.mp3 import Mp3Encoder
from riffstream.audio.opus import OpusEncoder
from riffstream.audio.packets import Encoder, Packet
from riffstream.audio.pcm import PcmEncoder, wav_header
from riffstream.errors import ParameterError

__all__ = [
    "ENCODERS",
    "AacEncoder",
    "Encoder",
    "Mp3Encoder",
    "OpusEncoder",
    "Packet",
    "PcmEncoder",
    "make_encoder",
    "wav_header",
]

ENCODERS: Mapping[str, Callable[..., Encoder]] = {
    "opus": OpusEncoder,
    "pcm_s16": PcmEncoder,
    "mp3": Mp3Encoder,
    "aac": AacEncoder,
}


def make_encoder(
    codec: str, sample_rate: int = 48_000, channels: int = 2, *, start: int = 0, bit_rate: int | None = None
) -> Encoder:
    """Make an encoder by name: opus, pcm_s16, mp3 or aac.

    Args:
        codec: the name.
        sample_rate: Hz.
        channels: 1 or 2.
        start: sample clock at the first input sample.
        bit_rate: bits a second; None for the encoder's default. PCM takes none.

    Raises:
        ParameterError: an unknown name, or a value that the codec does not take.
    """
    if codec not in ENCODERS:
        raise ParameterError("codec", codec, ", ".join(ENCODERS))
    options = {} if bit_rate is None else {"bit_rate": bit_rate}
    if options and codec == "pcm_s16":
        raise ParameterError("bit_rate", bit_rate, f"none: {codec} has a fixed rate")
    return ENCODERS[codec](sample_rate, channels, start=start, **options)
