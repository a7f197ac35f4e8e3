"""Ogg pages of one running Opus encoder, numbered for each listener (RFC 3533, RFC 7845).

Each listener has an Ogg stream of its own: its time begins at 0, and a change of title ends one link and begins the
next. What costs time is shared: the packets of a page (:class:`PageBody`) are put together once, and a listener's page
is a header of 26 bytes before them. The checksum covers the whole page, but it is linear, so it follows from that of
the header by a few table lookups.
"""

from __future__ import annotations

import struct
import unicodedata
import zlib
from collections import deque
from collections.abc import Mapping, Sequence

from riffstream.errors import ParameterError

__all__ = ["FIRST_PAGE", "LAST_PAGE", "PRE_SKIP", "OggOpusLinks", "PageBody", "one_line", "page_bodies"]

FIRST_PAGE, LAST_PAGE = 2, 4  # flags of a page
PRE_SKIP = 3840  # samples at 48 kHz (80 ms) in which a decoder that begins in mid-stream converges: RFC 7845, 4.2
_LACING = 255  # lacing values of a page at most
_COMMENT_BYTES = 4000  # of one comment; two of them fit into one page with room to spare
_HEAD = struct.Struct("<4sBBqII4x")
_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))
_POLYNOMIAL = 0xEDB88320  # of Ogg and of zlib, lowest bit first
_ONES = 0xFFFFFFFF


def _checksum(data: bytes, begin: int = 0) -> int:
    """Ogg's checksum with its bits in reverse, going on from ``begin``: zlib's without the inversions."""
    return zlib.crc32(data.translate(_REVERSED), begin ^ _ONES) ^ _ONES


class PageBody:
    """The packets of one page, shared by the pages of all listeners.

    Args:
        packets: whole packets; at most 255 lacing values in all (a packet of n bytes takes n // 255 + 1).
        n_samples: that they decode to, at 48 kHz.
    """

    __slots__ = ("_bytes", "_checksum", "_tables", "n_samples", "packets")

    def __init__(self, packets: Sequence[bytes], n_samples: int) -> None:
        lacing = b"".join(b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255]) for packet in packets)
        if len(lacing) > _LACING:
            raise ParameterError("packets", f"{len(lacing)} lacing values", "255 or fewer; use fewer packets a page")
        self.packets, self.n_samples = tuple(packets), n_samples
        self._bytes = bytes([len(lacing)]) + lacing + b"".join(packets)
        self._checksum = _checksum(self._bytes)
        self._tables: list[list[int]] | None = None

    def page(self, *, serial: int, sequence: int, granule: int, flags: int = 0) -> bytes:
        """The whole page.

        Args:
            serial, sequence: of the link and of the page in it.
            granule: position at the end of the page's last packet.
            flags: ``FIRST_PAGE``, ``LAST_PAGE`` or neither.
        """
        head = _HEAD.pack(b"OggS", 0, flags, granule, serial, sequence)
        tables = self._tables
        if tables is None:
            tables = self._tables = self._shift()
        value = _checksum(head)
        # The checksum of the header, moved on by the length of the body: one table for each half byte.
        value = (
            self._checksum
            ^ tables[0][value & 15]
            ^ tables[1][value >> 4 & 15]
            ^ tables[2][value >> 8 & 15]
            ^ tables[3][value >> 12 & 15]
            ^ tables[4][value >> 16 & 15]
            ^ tables[5][value >> 20 & 15]
            ^ tables[6][value >> 24 & 15]
            ^ tables[7][value >> 28]
        )
        return head[:22] + value.to_bytes(4, "big").translate(_REVERSED) + self._bytes

    def _shift(self) -> list[list[int]]:
        """What each half byte of a checksum becomes when the body's length of zeros follows."""
        bit = _checksum(bytes(len(self._bytes)), 1 << 31)  # the polynomial 1, whose bit is the highest
        images = []
        for _ in range(32):
            images.append(bit)
            bit = bit >> 1 ^ (_POLYNOMIAL if bit & 1 else 0)  # times x
        images.reverse()
        tables = []
        for first in range(0, 32, 4):
            table = [0]
            for image in images[first : first + 4]:
                table += [value ^ image for value in table]
            tables.append(table)
        return tables


def page_bodies(packets: Sequence[bytes], packet_samples: int) -> list[PageBody]:
    """As few pages as hold these packets of ``packet_samples`` samples (at 48 kHz) each."""
    bodies: list[PageBody] = []
    held: list[bytes] = []
    lacing = 0
    for packet in packets:
        size = len(packet) // 255 + 1
        if held and lacing + size > _LACING:
            bodies.append(PageBody(held, len(held) * packet_samples))
            held, lacing = [], 0
        held.append(packet)
        lacing += size
    if held:
        bodies.append(PageBody(held, len(held) * packet_samples))
    return bodies


class OggOpusLinks:
    """One listener's Ogg stream: links that follow each other without a gap, each with its tags.

    A link's decoder begins anew. So a link begins with the last 80 ms of the one before, in which the decoder converges
    and which its pre-skip drops, and goes on with the sample after the last.

    Args:
        head: the encoder's ``OpusHead`` record.
        serial: of the first link; the next ones count on.
    """

    def __init__(self, head: bytes, serial: int = 1) -> None:
        self._head = PageBody([head[:10] + PRE_SKIP.to_bytes(2, "little") + head[12:]], 0)
        self._serial = serial
        self._sequence = 0
        self._granule = 0
        self._recent: deque[PageBody] = deque(maxlen=4)  # each holds at least one packet of 20 ms
        self._tags: Mapping[str, str] | None = None

    def begin(self, tags: Mapping[str, str]) -> bytes:
        """The first link's header pages, with comments such as ``{"title": "lo-fi rain"}``."""
        self._sequence = self._granule = 0
        return self._page(self._head, FIRST_PAGE) + self._page(PageBody([_comments(tags)], 0))

    def retitle(self, tags: Mapping[str, str]) -> None:
        """Begin a new link with these tags behind the next page."""
        self._tags = tags

    def push(self, body: PageBody) -> bytes:
        """The next page, and where the tags have changed, the beginning of the next link."""
        self._recent.append(body)
        if self._tags is None:
            return self._page(body)
        tags, self._tags = self._tags, None
        page = self._page(body, LAST_PAGE)
        self._serial += 1
        return page + self.begin(tags) + b"".join(self._page(each) for each in self._preroll())

    def _preroll(self) -> list[PageBody]:
        """The last 80 ms again."""
        packets = [packet for body in self._recent for packet in body.packets]
        packet_samples = self._recent[-1].n_samples // len(self._recent[-1].packets)
        return page_bodies(packets[-PRE_SKIP // packet_samples :], packet_samples)

    def _page(self, body: PageBody, flags: int = 0) -> bytes:
        self._granule += body.n_samples
        page = body.page(serial=self._serial, sequence=self._sequence, granule=self._granule, flags=flags)
        self._sequence += 1
        return page


def _comments(tags: Mapping[str, str]) -> bytes:
    """The ``OpusTags`` record. Each comment is one line; a long one is cut rather than refused."""

    def text(value: bytes) -> bytes:
        return len(value).to_bytes(4, "little") + value

    comments = [f"{key.upper()}={one_line(value)}".encode()[:_COMMENT_BYTES] for key, value in tags.items()]
    comments = [comment.decode(errors="ignore").encode() for comment in comments]  # no character is cut in two
    return b"OpusTags" + text(b"riffstream") + len(comments).to_bytes(4, "little") + b"".join(map(text, comments))


def one_line(text: str) -> str:
    """Text for a header, a title or a comment: without control characters, line ends and lone surrogates."""
    bare = "".join(" " if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in text)
    return " ".join(bare.split())
