"""Boundaries between the audio files of a joined file, as made with ``cat``.

Web radio recorders, splitters and users join files end to end. No decoder reads all kinds of joined files: libsndfile
stops after the first part, libav misreads the second FLAC, WAV, MP4 or Vorbis stream. So each part is decoded by
itself. In formats that state their size, the size leads to the next part. Other formats are searched for headers of
eight bytes or more, which do not occur in audio data by chance.
"""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

__all__ = ["Part", "Section", "begins_as_sound", "parts_of"]

CHUNK = 1 << 20
OVERLAP = 64  # bytes inspected around a match
SMALLEST = 32  # bytes; less is padding
OPEN_END = 0x7FFF0000  # a WAV file written to a pipe states 0, or a size above this and beyond the end of the file
FLAC = b"fLaC\0\0\0\x22"
OGG = b"OggS\0"
MATROSKA = b"\x1a\x45\xdf\xa3"
W64 = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
CAF = b"caff\0\1\0\0desc"
ASF = b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c"
VOC = b"Creative Voice File\x1a"
FLV = b"FLV\1"
TTA = b"TTA1"
AU = b".snd"
WAVPACK = b"wvpk"
WAVPACK_FIRST = 0x800  # flag of the first block of a group
XING = (b"Xing", b"Info")
WAVES = (b"RIFF", b"RF64", b"BW64")
SHORT = (AU, FLV, TTA, WAVPACK)  # magic numbers too short to be sure: the next fields are checked too
LITERALS = (FLAC, OGG, MATROSKA, W64, CAF, ASF, VOC, *SHORT, b"ID3", b"WAVE", b"AIF", b"ftyp", *XING)


class Part(NamedTuple):
    """One audio file within a joined file.

    Attributes:
        start: first byte.
        end: byte after the last.
        counted: True for an MP3 file that states its length.
        missing: bytes missing at its end, by its stated size.
    """

    start: int
    end: int
    counted: bool = False
    missing: int = 0


class Section(io.RawIOBase):
    """Read-only view of a part of a binary file. The caller closes the file."""

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        self._file, self._start, self._size = file, start, end - start
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        size = max(0, min(len(buffer), self._size - self._position))
        self._file.seek(self._start + self._position)
        data = self._file.read(size)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def parts_of(file: BinaryIO) -> list[Part]:
    """The audio files inside a file, in order; one part, the whole file, if it was not joined.

    Trailing bytes that are not audio are left out. Formats without a stated size take the time of reading the file
    once.
    """
    size = file.seek(0, io.SEEK_END)
    found: list[Part] = []
    at = 0
    while size - at >= SMALLEST:
        body = _after_tags(file, at, size)
        head = _read(file, body, 64)
        end = _stated_end(file, head, body, size)
        if end is None:
            starts = [at, *_headers(file, at, body, size), size]
            found += [
                Part(start, stop, _has_length(file, start, size))
                for start, stop in itertools.pairwise(starts)
                if stop - _after_tags(file, start, stop) >= SMALLEST
            ]
            break
        following = next((start for start in (end, end + 1) if begins_as_sound(_read(file, start, 64))), None)
        found.append(Part(at, size if following is None else following, missing=max(0, end - size)))
        if following is None:
            break
        at = following
    return found or [Part(0, size)]


def _read(file: BinaryIO, at: int, size: int) -> bytes:
    file.seek(at)
    return file.read(size)


def _tag_size(head: bytes) -> int:
    """Size in bytes of the ID3v2 tag at the start of ``head``; 0 if there is none."""
    if len(head) < 10 or head[:3] != b"ID3" or head[3] not in (2, 3, 4) or max(head[6:10]) > 127 or head[5] & 15:
        return 0
    a, b, c, d = head[6:10]
    return (a << 21 | b << 14 | c << 7 | d) + (20 if head[5] & 16 else 10)


def _after_tags(file: BinaryIO, at: int, size: int) -> int:
    while at < size and (tag := _tag_size(_read(file, at, 10))):
        at += tag
    return min(at, size)


def begins_as_sound(head: bytes) -> bool:
    """Whether these first 64 bytes are certainly those of an audio file."""
    return (
        (head[:4] in WAVES and head[8:12] == b"WAVE")
        or (head[:4] == b"FORM" and head[8:11] == b"AIF")
        or head.startswith((W64, CAF, ASF, VOC, FLAC, OGG + b"\2", b"ID3\3\0", b"ID3\4\0"))
        or _has_header(head)
        or head[4:8] == b"ftyp"
        or (head.startswith(MATROSKA) and (b"matroska" in head or b"webm" in head))
        or _xing(head, 0)
    )


def _has_header(head: bytes) -> bool:
    """Whether these are the first bytes of an AU, FLV, TTA or WavPack file, by the fields after the magic number."""
    if len(head) < 32:
        return False
    if head.startswith(AU):
        offset, _, coding, _, channels = struct.unpack(">5I", head[4:24])
        au: bool = 24 <= offset < CHUNK and 1 <= coding <= 27 and 1 <= channels <= 64
        return au
    if head.startswith(FLV):
        return head[4] in (1, 4, 5) and head[5:13] == b"\0\0\0\x09\0\0\0\0"
    if head.startswith(TTA):
        return zlib.crc32(head[:18]) == int.from_bytes(head[18:22], "little")
    if head.startswith(WAVPACK):
        index, samples, flags = struct.unpack("<3I", head[16:28])
        first: bool = head[9] == 4 and index == head[10] == 0 and samples > 0 and flags & WAVPACK_FIRST > 0
        return first
    return False


def _stated_end(file: BinaryIO, head: bytes, at: int, size: int) -> int | None:
    """Position of the stated end of a file; None if its format states none."""
    end: int | None = None
    if head[:4] in WAVES and head[8:12] == b"WAVE":
        (stated,) = struct.unpack("<I", head[4:8])
        if head[:4] != b"RIFF" and head[12:16] == b"ds64":
            (stated,) = struct.unpack("<Q", head[20:28])
        open_end = not stated or (OPEN_END <= stated < 2**32 and at + 8 + stated > size)
        end = None if open_end else at + 8 + stated
    elif head[:4] == b"FORM" and head[8:11] == b"AIF":
        end = at + 8 + int(struct.unpack(">I", head[4:8])[0])
    elif head.startswith(AU) and _has_header(head):
        offset, length = struct.unpack(">2I", head[4:12])
        end = None if length == 2**32 - 1 else at + offset + length
    elif head.startswith(W64):
        end = at + int(struct.unpack("<Q", head[16:24])[0])
    elif head.startswith(b"caff"):
        end = _walk(file, at + 8, size, ">4sq")
    elif head[4:8] == b"ftyp":
        end = _walk(file, at, size, ">I4s")
    return end if end is None or at < end else size


def _walk(file: BinaryIO, at: int, size: int, form: str) -> int:
    """Follow the chunks of a CAF file (">4sq"), or the boxes of an MP4 file (">I4s"), to the next file or the end."""
    begin, header = at, struct.calcsize(form)
    while at + header <= size:
        head = _read(file, at, 64)
        if at > begin and begins_as_sound(head):
            return at
        if form == ">4sq":
            length = struct.unpack(form, head[:header])[1]
            if length < 0:  # -1: the data extends to the end of the file
                return size
            length += header
        else:
            length = struct.unpack(form, head[:header])[0]
            if length == 1:
                (length,) = struct.unpack(">Q", head[8:16].ljust(8, b"\0"))
        if length < header:
            return size
        at += length
    return size


def _headers(file: BinaryIO, start: int, body: int, size: int) -> list[int]:
    """Start positions of further files after the one at ``start``, whose tags end at ``body``."""
    found: list[int] = []
    busy = body + 1  # end of the known headers so far
    for at in sorted(set(_candidates(file, body, size))):
        if at < busy:
            continue
        head = _read(file, at, 64)
        busy = at + 1
        if head.startswith(OGG):
            busy = _ogg_starts_end(file, at, size)
        elif head[:3] == b"ID3":
            content = _after_tags(file, at, size)
            if not begins_as_sound(_read(file, content, 64)):
                continue  # tags within a stream, as in HLS segments: the decoder reads on
            busy = content + 1
        found.append(at)
    if found and _read(file, body, 5) == OGG:
        inside = _ogg_starts_end(file, body, size)
        found = [at for at in found if at >= inside]
    return found


def _candidates(file: BinaryIO, at: int, size: int) -> Iterator[int]:
    """Yield positions of headers, unordered and with duplicates."""
    while at < size:
        data = _read(file, at, CHUNK + OVERLAP)
        if not data:
            return
        for literal in LITERALS:
            place = data.find(literal)
            while place >= 0:
                begin = _begin(data, place, literal)
                if begin is not None:
                    yield at + begin
                place = data.find(literal, place + 1)
        if at + len(data) >= size:
            return
        at += len(data) - OVERLAP


def _begin(data: bytes, place: int, literal: bytes) -> int | None:
    """Start of the header with ``literal`` at ``place``; None if it is not a header."""
    if literal == OGG:
        # The first page of a stream: flag 2, position 0.
        return place if data[place + 5 : place + 14] == b"\2" + bytes(8) else None
    if literal == MATROSKA:
        head = data[place : place + OVERLAP]
        return place if b"matroska" in head or b"webm" in head else None
    if literal == b"ID3":
        return place if _tag_size(data[place : place + 10]) and data[place + 4] == 0 else None
    if literal == b"WAVE":
        after = (b"fmt ", b"ds64", b"JUNK", b"bext", b"LIST")
        good = place >= 8 and data[place - 8 : place - 4] in WAVES and data[place + 4 : place + 8] in after
        return place - 8 if good else None
    if literal == b"AIF":
        return place - 8 if place >= 8 and data[place - 8 : place - 4] == b"FORM" else None
    if literal == b"ftyp":
        return place - 4 if place >= 4 and data[place - 4 : place - 1] == bytes(3) and data[place - 1] >= 16 else None
    if literal in SHORT:
        return place if _has_header(data[place : place + OVERLAP]) else None
    if literal in XING:
        return next((place - gap for gap in (36, 21, 13) if place >= gap and _xing(data, place - gap)), None)
    return place


def _xing(data: bytes, at: int) -> bool:
    """Whether an MP3 frame at ``at`` states the length of the file."""
    head = data[at : at + 4]
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:  # not layer III
        return False
    first_version, mono = head[1] >> 3 & 3 == 3, head[3] >> 6 == 3
    gap = 36 if first_version and not mono else 13 if mono and not first_version else 21
    return data[at + gap : at + gap + 4] in XING


def _has_length(file: BinaryIO, start: int, size: int) -> bool:
    return _xing(_read(file, _after_tags(file, start, size), 64), 0)


def _ogg_starts_end(file: BinaryIO, at: int, size: int) -> int:
    """End of the first pages of the parallel streams that begin at ``at``."""
    while at < size:
        head = _read(file, at, 27)
        if len(head) < 27 or not head.startswith(OGG) or not head[5] & 2:
            break
        at += 27 + head[26] + sum(_read(file, at + 27, head[26]))
    return at
