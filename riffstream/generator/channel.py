"""Messages over a pair of byte pipes: each a u32 little-endian length and as many bytes.

The generator talks over its standard input and output, so that any script may start one without guarding its main
module, on every system.

Threading model
  One thread may receive and another one send at the same time.
"""

from __future__ import annotations

import contextlib
import struct
from typing import BinaryIO, Final

__all__ = ["Channel"]

_LENGTH: Final = struct.Struct("<I")
LONGEST: Final = 64 * 2**20  # bytes; a longer length means that something else wrote into the pipe


class Channel:
    """Whole messages over two pipes.

    Args:
        reader, writer: unbuffered or buffered binary files.
    """

    def __init__(self, reader: BinaryIO, writer: BinaryIO) -> None:
        self._reader, self._writer = reader, writer

    def send(self, data: bytes) -> None:
        """Send a message; waits while the pipe is full. Raises OSError or ValueError when the other end is gone."""
        self._writer.write(_LENGTH.pack(len(data)) + data)
        self._writer.flush()

    def receive(self) -> bytes:
        """The next message. Raises EOFError at the end."""
        (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size))
        if length > LONGEST:
            raise EOFError(f"a message of {length} bytes; something else wrote into the pipe")
        return self._exactly(length)

    def _exactly(self, n: int) -> bytes:
        parts: list[bytes] = []
        while n:
            part = self._reader.read(n)
            if not part:
                raise EOFError("the other end is gone")
            parts.append(part)
            n -= len(part)
        return b"".join(parts)

    def close(self) -> None:
        """Close the sending end; the reader is the receiving thread's."""
        with contextlib.suppress(OSError, ValueError):
            self._writer.close()

    def close_reader(self) -> None:
        """Close the receiving end (by the thread that receives)."""
        with contextlib.suppress(OSError, ValueError):
            self._reader.close()
