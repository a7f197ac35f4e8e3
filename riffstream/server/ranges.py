"""Byte ranges of an endless stream (RFC 9110, section 14).

A live stream has no length, and no positions to seek to. So it claims no ranges (no ``Accept-Ranges``), and its
answer to an open range (``bytes=0-``, ``bytes=1000-``), to a suffix (``bytes=-128``) and to several ranges is the
stream itself with status 200, as from Icecast. If a server claims more, ffmpeg, mpv and all players built on them stop
after half a second.

Safari plays only if its probe (``bytes=0-1``, then up to the total in the answer) gets exactly the bytes that it asked
for. So a single range with both ends is answered with 206 and exactly as many bytes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["ByteRange", "parse_range"]

# The total that an answer names: Safari wants one. The largest that every client can count to: three days of MP3 at
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
        """How many bytes they are."""
        return self.last - self.first + 1

    @property
    def content_range(self) -> str:
        """The value of the header ``Content-Range``."""
        return f"bytes {self.first}-{self.last}/{max(TOTAL, self.last + 1)}"


def parse_range(values: Sequence[str], *, conditional: bool = False) -> ByteRange | None:
    """The one range with both ends that a request asks for.

    Args:
        values: every ``Range`` header of the request.
        conditional: the request has ``If-Range``. A live stream has no validator that could match it.

    Returns:
        None where the stream itself is the answer: no range, an open one, a suffix, several, or nonsense.
    """
    found = _ONE.fullmatch(values[0].strip()) if len(values) == 1 and not conditional else None
    if found is None or int(found[1]) > int(found[2]):
        return None
    return ByteRange(int(found[1]), int(found[2]))
