"""The process of an RTMP push: ADTS frames from standard input to an RTMP server.

The first line of the input is the bit rate and the address. One line is written to standard output: ``connected``, or
the reason of a failure. The process ends with its input, or when a call of libav lasts longer than ``LIMIT_S``.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, BinaryIO, Final

import av

from riffstream.audio.aac import FRAME
from riffstream.audio.fmp4 import ADTS_BYTES

__all__ = ["CONNECTED"]

CONNECTED: Final = "connected"
LIMIT_S: Final = 12  # of connecting; below the limit of the server, which names it a stall
SAMPLE_RATE: Final = 48_000


def main() -> int:
    """Run the process; return its exit code."""
    source = sys.stdin.buffer
    bit_rate, url = source.readline().decode().split()
    try:
        _send(source, url, int(bit_rate))
    except Exception as error:  # libav has many exceptions
        reason = " ".join(str(getattr(error, "strerror", None) or type(error).__name__).split())
        print(reason.lower(), flush=True)  # without the address, which contains the key
        return 1
    return 0


def _send(source: BinaryIO, url: str, bit_rate: int) -> None:
    alarm: Any = getattr(signal, "alarm", lambda seconds: None)  # Windows has none: the server ends the process
    alarm(LIMIT_S)
    with av.open(url, "w", format="flv", options={"flvflags": "no_duration_filesize"}) as target:
        stream: Any = target.add_stream("aac", rate=SAMPLE_RATE)
        stream.layout = "stereo"
        stream.bit_rate = bit_rate
        stream.codec_context.open()
        target.start_encoding()
        alarm(0)
        print(CONNECTED, flush=True)
        for number, frame in enumerate(_frames(source)):
            packet = av.Packet(frame)
            packet.stream = stream
            packet.time_base = Fraction(1, SAMPLE_RATE)
            packet.pts = packet.dts = number * FRAME
            packet.duration = FRAME
            packet.is_keyframe = True
            target.mux(packet)
        alarm(1)  # the trailer of a stalled connection


def _frames(source: BinaryIO) -> Iterator[bytes]:
    """AAC frames of an ADTS stream."""
    while len(header := source.read(ADTS_BYTES)) == ADTS_BYTES:
        size = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
        frame = source.read(size - ADTS_BYTES)
        if len(frame) < size - ADTS_BYTES:
            return
        yield frame


if __name__ == "__main__":
    sys.exit(main())
