"""Byte ranges of an endless stream (RFC 9110, section 14).

A live stream has no length and no seek positions. So it does not announce ranges (no ``Accept-Ranges``). The answer to
an open range (``bytes=0-``, ``bytes=1000-``), to a suffix (``bytes=-128``) and to several ranges is the stream itself
with status 200, as from Icecast. If a server announces ranges, ffmpeg, mpv and players based on them stop after half a
second.

Safari plays only if its probe (``bytes=0-1``, then up to the total in the answer) gets exactly the bytes that it asked
for. So a single range with both ends is answered with 206 and exactly as many bytes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["ByteRange", "parse_range"]

# Total size in the answer, required by Safari. The largest value that every client supports: three days of MP3 at
# 128 kbit/s.
TOTAL = 2**32 - 1
_ONE = re.compile(r"bytes=([0-9]{1,18})-([0-9]{1,18})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """The bytes from ``first`` to ``last``, both included."""

    first: int
    last: int

    @property
    def length(self) -> int:
        """Number of bytes."""
        return self.last - self.first + 1

    @property
    def content_range(self) -> str:
        """Value of the ``Content-Range`` header."""
        return f"bytes {self.first}-{self.last}/{max(TOTAL, self.last + 1)}"


def parse_range(values: Sequence[str], *, conditional: bool = False) -> ByteRange | None:
    """Parse the ``Range`` headers of a request.

    Args:
        values: all ``Range`` headers.
        conditional: True if the request has ``If-Range``, which a live stream cannot match.

    Returns:
        A single range with both ends; None for all other requests (no range, open, suffix, several, invalid), whose
        answer is the stream itself.
    """
    found = _ONE.fullmatch(values[0].strip()) if len(values) == 1 and not conditional else None
    if found is None or int(found[1]) > int(found[2]):
        return None
    return ByteRange(int(found[1]), int(found[2]))
