"""Messages over a pair of pipes: a u32 little-endian length, followed by that many bytes.

The generator uses its standard input and output. So any script on any system can start one without guarding its main
module.

Threading model
  One thread may receive and another one send at the same time.
"""

from __future__ import annotations

import contextlib
import struct
from typing import BinaryIO, Final

__all__ = ["Channel"]

_LENGTH: Final = struct.Struct("<I")
LONGEST: Final = 64 * 2**20  # bytes; a larger value means that other output was written into the pipe


class Channel:
    """A two-way channel of whole messages over two pipes.

    Args:
        reader: binary file to receive from, buffered or unbuffered.
        writer: binary file to send to, buffered or unbuffered.
    """

    def __init__(self, reader: BinaryIO, writer: BinaryIO) -> None:
        self._reader, self._writer = reader, writer

    def send(self, data: bytes) -> None:
        """Send a message; block while the pipe is full. Raises OSError or ValueError if the other end is closed."""
        self._writer.write(_LENGTH.pack(len(data)) + data)
        self._writer.flush()

    def receive(self) -> bytes:
        """Receive the next message. Raises EOFError at the end."""
        (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size))
        if length > LONGEST:
            raise EOFError(f"a message of {length} bytes: other output was written into the pipe")
        return self._exactly(length)

    def _exactly(self, n: int) -> bytes:
        parts: list[bytes] = []
        while n:
            part = self._reader.read(n)
            if not part:
                raise EOFError("the other end is closed")
            parts.append(part)
            n -= len(part)
        return b"".join(parts)

    def close(self) -> None:
        """Close the sending end. The receiving thread closes the other one."""
        with contextlib.suppress(OSError, ValueError):
            self._writer.close()

    def close_reader(self) -> None:
        """Close the receiving end. Only the receiving thread may call it."""
        with contextlib.suppress(OSError, ValueError):
            self._reader.close()
