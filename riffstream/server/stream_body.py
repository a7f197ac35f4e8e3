"""What one player's bytes go through: its range and its titles.

Threading model: everything runs on the event loop.
"""

from __future__ import annotations

from riffstream.server.icy import IcyInserter
from riffstream.server.ranges import ByteRange

__all__ = ["Body"]

_WAV_FRAME = 4  # bytes of a sample of both channels


class Body:
    """The body of one response. Every method gives the bytes to write.

    Args:
        codec: mp3, aac, ogg or wav.
        icy: weaves titles in; None: the player did not ask for them.
        asked: the range that is sent; None: everything. A range that begins behind the header begins with the sound of
            now, since a live stream has no past to seek in; in WAV at the place in a sample that the range has.
    """

    def __init__(self, codec: str, icy: IcyInserter | None, asked: ByteRange | None) -> None:
        self._codec, self._icy, self._asked = codec, icy, asked
        self._skip = 0
        self._left = None if asked is None else asked.length

    @property
    def is_plain(self) -> bool:
        """Whether the sound goes out as it comes, so that :meth:`push` need not be called."""
        return self._icy is None and self._asked is None

    @property
    def is_complete(self) -> bool:
        """Whether the range has been sent."""
        return self._left == 0

    def set_title(self, title: str) -> None:
        """What plays from now on."""
        if self._icy is not None:
            self._icy.set_title(title)

    def begin(self, header: bytes) -> bytes:
        """The codec's header."""
        first = 0 if self._asked is None else self._asked.first
        behind = max(0, first - len(header))
        self._skip = min(first, len(header)) + (behind % _WAV_FRAME if self._codec == "wav" else 0)
        return self._cut(header)

    def push(self, wire: bytes) -> bytes:
        """The next frame."""
        return self._cut(wire)

    def _cut(self, data: bytes) -> bytes:
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        if self._icy is not None:
            data = self._icy.push(data)
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
        return data
