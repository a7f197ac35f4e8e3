"""Stretches of encoded audio as the transports take them: header and payload, built once for all listeners."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from riffstream.protocol import Flags

__all__ = ["Frame", "websocket_frame"]

DISCONTINUITY = int(Flags.DISCONTINUITY)


def websocket_frame(opcode: int, payload: bytes) -> bytes:
    """One unmasked, final WebSocket frame (RFC 6455, section 5.2): 1 is text, 2 binary, 8 close, 9 ping."""
    size = len(payload)
    first = 0x80 | opcode
    if size < 126:
        return struct.pack("!BB", first, size) + payload
    if size < 65536:
        return struct.pack("!BBH", first, 126, size) + payload
    return struct.pack("!BBQ", first, 127, size) + payload


@dataclass(slots=True, eq=False)
class Frame:
    """A stretch of encoded audio, as the transports take it.

    Attributes:
        sample_pos: the station's sample clock at its first sample.
        n_samples: samples per channel.
        rev: the station's revision that is heard at its end.
        wire: the bytes to write.
        flags_at: where the flags byte lies in ``wire``; None in formats that have none.
    """

    sample_pos: int
    n_samples: int
    rev: int
    wire: bytes
    flags_at: int | None = None
    _after_gap: bytes | None = None

    @property
    def wire_after_gap(self) -> bytes:
        """``wire`` with the discontinuity flag, made when first needed and then shared."""
        if self.flags_at is None:
            return self.wire
        if self._after_gap is None:
            flagged = bytearray(self.wire)
            flagged[self.flags_at] |= DISCONTINUITY
            self._after_gap = bytes(flagged)
        return self._after_gap
