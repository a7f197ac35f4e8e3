"""ICY metadata: titles inside a stream of any codec, for players that send ``Icy-MetaData: 1``.

After every ``metaint`` bytes of audio there is one length byte (in units of 16) and ``StreamTitle='...';`` padded with
zeros. Length 0 means an unchanged title.
"""

from __future__ import annotations

from riffstream.audio.ogg import one_line

__all__ = ["METAINT", "IcyInserter", "icy_block"]

METAINT = 16_000  # bytes between blocks; one second at 128 kbit/s, and what Icecast uses
_LONGEST = 255 * 16


def icy_block(title: str) -> bytes:
    """Make a metadata block. Straight quotes in the title, which would end it, become curly quotes."""
    clean = one_line(title).replace("'", "’")
    while True:
        text = f"StreamTitle='{clean}';".encode()
        if len(text) <= _LONGEST:
            break
        clean = clean[: len(clean) - max(1, (len(text) - _LONGEST) // 4)]
    blocks = -(-len(text) // 16)
    return bytes([blocks]) + text.ljust(blocks * 16, b"\0")


class IcyInserter:
    """Insertion of title blocks into one listener's byte stream."""

    def __init__(self, metaint: int = METAINT) -> None:
        self.metaint = metaint
        self._left = metaint
        self._title: str | None = None
        self._sent: str | None = None

    def set_title(self, title: str) -> None:
        """Set the title from the next block on."""
        self._title = title

    def push(self, audio: bytes) -> bytes:
        """Return the audio with metadata blocks inserted."""
        if len(audio) < self._left:
            self._left -= len(audio)
            return audio
        parts = []
        at = 0
        while len(audio) - at >= self._left:
            parts.append(audio[at : at + self._left])
            at += self._left
            self._left = self.metaint
            if self._title is None or self._title == self._sent:
                parts.append(b"\0")
            else:
                parts.append(icy_block(self._title))
                self._sent = self._title
        parts.append(audio[at:])
        self._left -= len(audio) - at
        return b"".join(parts)
