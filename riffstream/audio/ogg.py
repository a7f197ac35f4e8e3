"""Ogg pages from one shared Opus encoder, numbered for each listener (RFC 3533, RFC 7845).

Each listener has its own Ogg stream: its time begins at 0, and each new title begins a new link. The expensive part is
shared: the packets of a page (:class:`PageBody`) are assembled once, and each listener gets its own page header of 26
bytes. The checksum covers the whole page. It is linear, so it follows from that of the header by a few table lookups.
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
PRE_SKIP = 3840  # samples at 48 kHz (80 ms) until a decoder that joins mid-stream has converged: RFC 7845, 4.2
_LACING = 255  # maximum lacing values of a page
_COMMENT_BYTES = 4000  # maximum of one comment, so that two fit into one page
_HEAD = struct.Struct("<4sBBqII4x")
_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))
_POLYNOMIAL = 0xEDB88320  # of Ogg and of zlib, lowest bit first
_ONES = 0xFFFFFFFF


def _checksum(data: bytes, begin: int = 0) -> int:
    """Ogg checksum with reversed bits, continued from ``begin``: zlib's CRC without the inversions."""
    return zlib.crc32(data.translate(_REVERSED), begin ^ _ONES) ^ _ONES


class PageBody:
    """The packets of one page, shared by the pages of all listeners.

    Args:
        packets: whole packets; at most 255 lacing values in all (a packet of n bytes takes n // 255 + 1).
        n_samples: decoded length at 48 kHz.
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
        """Bytes of the whole page.

        Args:
            serial: serial number of the link.
            sequence: number of the page in the link.
            granule: position after the page's last packet, in samples at 48 kHz.
            flags: ``FIRST_PAGE``, ``LAST_PAGE`` or neither.
        """
        head = _HEAD.pack(b"OggS", 0, flags, granule, serial, sequence)
        tables = self._tables
        if tables is None:
            tables = self._tables = self._shift()
        value = _checksum(head)
        # The checksum of the header, advanced by the length of the body: one table for each half byte.
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
        """For each half byte of a checksum, its value after as many zeros as the body is long."""
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
    """Pack packets of ``packet_samples`` samples (at 48 kHz) each into as few pages as possible."""
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
    """One listener's Ogg stream: gapless links, each with its own tags.

    The decoder restarts with each link. So a link begins with the last 80 ms of the previous one. The decoder converges
    during this time, and the pre-skip drops it.

    Args:
        head: the encoder's ``OpusHead`` record.
        serial: serial number of the first link; each further link adds 1.
    """

    def __init__(self, head: bytes, serial: int = 1) -> None:
        self._head = PageBody([head[:10] + PRE_SKIP.to_bytes(2, "little") + head[12:]], 0)
        self._serial = serial
        self._sequence = 0
        self._granule = 0
        self._recent: deque[PageBody] = deque(maxlen=4)  # each holds at least one packet of 20 ms
        self._tags: Mapping[str, str] | None = None

    def begin(self, tags: Mapping[str, str]) -> bytes:
        """Header pages of the first link, with comments such as ``{"title": "lo-fi rain"}``."""
        self._sequence = self._granule = 0
        return self._page(self._head, FIRST_PAGE) + self._page(PageBody([_comments(tags)], 0))

    def retitle(self, tags: Mapping[str, str]) -> None:
        """Begin a new link with these tags after the next page."""
        self._tags = tags

    def push(self, body: PageBody) -> bytes:
        """Bytes of the next page, followed by the start of a new link if the tags have changed."""
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
    """The ``OpusTags`` record. Each comment is one line; a long comment is cut."""

    def text(value: bytes) -> bytes:
        return len(value).to_bytes(4, "little") + value

    comments = [f"{key.upper()}={one_line(value)}".encode()[:_COMMENT_BYTES] for key, value in tags.items()]
    comments = [comment.decode(errors="ignore").encode() for comment in comments]  # no character is cut in two
    return b"OpusTags" + text(b"riffstream") + len(comments).to_bytes(4, "little") + b"".join(map(text, comments))


def one_line(text: str) -> str:
    """Clean text for a header, a title or a comment: no control characters, line ends or lone surrogates."""
    bare = "".join(" " if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in text)
    return " ".join(bare.split())
