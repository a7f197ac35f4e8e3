"""Files made of archived audio, in parts: tags, chapters and a cover, then the audio as it was encoded.

Threading model: one thread at a time for each file.
"""

from __future__ import annotations

import base64
import importlib
import io
import math
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any, Final

import av
import numpy as np
from numpy.typing import NDArray

from riffstream.audio.aac import FRAME as AAC_FRAME
from riffstream.audio.fmp4 import ADTS_BYTES, split_adts
from riffstream.audio.mp3 import split_frames
from riffstream.protocol import CHANNELS, SAMPLE_RATE, join_packets, split_packets
from riffstream.server.archive.spans import Chapter
from riffstream.server.archive.store import Piece

__all__ = ["CONTENT_TYPES", "ENDINGS", "audio_of", "decoded", "file_parts", "head_of", "trimmed"]

ENDINGS: Final = {"mp3": "mp3", "aac": "aac", "opus": "ogg"}
CONTENT_TYPES: Final = {"mp3": "audio/mpeg", "aac": "audio/aac", "opus": "audio/ogg"}
_FRAME: Final = {"mp3": 1152, "aac": AAC_FRAME, "opus": 960}
_FRONT_COVER: Final = 3


def head_of(tags: Mapping[str, str], found: Sequence[Chapter], seconds: float, cover: bytes) -> bytes:
    """ID3 tag at the start of an MP3 or AAC file.

    Args:
        tags: title, artist, date.
        found: its chapters.
        seconds: its length.
        cover: JPEG, or empty.
    """
    id3 = _mutagen("id3")
    tag = id3.ID3()
    tag.add(id3.TIT2(encoding=3, text=tags["title"]))
    tag.add(id3.TPE1(encoding=3, text=tags["artist"]))
    tag.add(id3.TDRC(encoding=3, text=tags["date"]))
    if cover:
        tag.add(id3.APIC(encoding=3, mime="image/jpeg", type=_FRONT_COVER, desc="spectrogram", data=cover))
    names = [f"c{number}" for number in range(len(found))]
    for name, each, end in zip(names, found, _ends(found, seconds), strict=True):
        titled = [id3.TIT2(encoding=3, text=each.title)]
        tag.add(
            id3.CHAP(
                element_id=name,
                start_time=round(each.at_s * 1000),
                end_time=round(end * 1000),
                start_offset=0xFFFFFFFF,
                end_offset=0xFFFFFFFF,
                sub_frames=titled,
            )
        )
    if names:
        tag.add(id3.CTOC(element_id="toc", flags=3, child_element_ids=names[:255], sub_frames=[]))
    target = io.BytesIO()
    tag.save(target, padding=lambda _: 0)
    return target.getvalue()


def _ends(found: Sequence[Chapter], seconds: float) -> list[float]:
    return [each.at_s for each in found[1:]] + [seconds] * bool(found)


def trimmed(piece: Piece, first: float, last: float) -> Piece:
    """The frames of a piece that overlap its samples [first, last)."""
    size = _FRAME[piece.codec]
    begin = max(0, math.floor(first / size) * size)
    end = piece.n if last >= piece.n else min(piece.n, math.ceil(last / size) * size)
    return replace(piece, pos=piece.pos + begin, n=end - begin, wall=piece.wall + begin / SAMPLE_RATE, skip=begin)


def audio_of(piece: Piece, data: bytes) -> bytes:
    """The audio of a piece in the data of its row."""
    size = _FRAME[piece.codec]
    if piece.codec == "mp3":
        frames = split_frames(data)[0]
    elif piece.codec == "opus":
        frames = [join_packets([packet]) for packet in split_packets(data)]
    else:
        frames, at = [], 0
        for frame in split_adts(data):
            frames.append(data[at : at + ADTS_BYTES + len(frame)])
            at += ADTS_BYTES + len(frame)
    return b"".join(frames[piece.skip // size : (piece.skip + piece.n) // size])


def file_parts(
    codec: str,
    header: bytes,
    audio: Iterable[bytes],
    *,
    tags: Mapping[str, str],
    found: Sequence[Chapter],
    seconds: float,
    cover: bytes,
) -> Generator[bytes]:
    """Parts of a file.

    Args:
        codec: mp3, aac or opus.
        header: of the encoder.
        audio: encoded audio, one row at a time.
        tags, found, seconds, cover: as in :func:`head_of`.
    """
    if codec == "opus":
        yield from _ogg(header, audio, tags, found, seconds, cover)
        return
    yield head_of(tags, found, seconds, cover)
    yield from audio


class _Parts:
    """A file for libav that cannot seek and keeps what has been written since the last read."""

    def __init__(self) -> None:
        self._data = bytearray()

    def write(self, data: bytes) -> int:
        self._data += data
        return len(data)

    def taken(self) -> bytes:
        data, self._data = bytes(self._data), bytearray()
        return data


def _ogg(
    header: bytes,
    audio: Iterable[bytes],
    tags: Mapping[str, str],
    found: Sequence[Chapter],
    seconds: float,
    cover: bytes,
) -> Generator[bytes]:
    parts = _Parts()
    container = av.open(parts, "w", format="ogg")
    try:
        stream: Any = container.add_stream("libopus", rate=SAMPLE_RATE)
        stream.layout = "stereo" if CHANNELS == 2 else "mono"
        stream.codec_context.open()
        stream.metadata.update(tags)
        if cover:
            picture = _mutagen("flac").Picture()
            picture.type, picture.mime, picture.desc, picture.data = _FRONT_COVER, "image/jpeg", "spectrogram", cover
            stream.metadata["METADATA_BLOCK_PICTURE"] = base64.b64encode(picture.write()).decode()
        if found:
            container.set_chapters(
                [
                    {
                        "id": number,
                        "start": round(each.at_s * 1000),
                        "end": round(end * 1000),
                        "time_base": Fraction(1, 1000),
                        "metadata": {"title": each.title},
                    }
                    for number, (each, end) in enumerate(zip(found, _ends(found, seconds), strict=True))
                ]
            )
        container.start_encoding()
        at = 0
        for row in audio:
            for data in split_packets(row):
                packet = av.Packet(data)
                packet.stream = stream
                packet.time_base = Fraction(1, SAMPLE_RATE)
                packet.pts = packet.dts = at
                packet.duration = _FRAME["opus"]
                at += _FRAME["opus"]
                container.mux(packet)
            yield parts.taken()
    finally:
        container.close()
    yield parts.taken()


def decoded(codec: str, header: bytes, rows: Sequence[bytes]) -> NDArray[np.float32]:
    """Decode rows, [n] float32, mono at 48 kHz. Raises av.FFmpegError."""
    tags = dict.fromkeys(("title", "artist", "date"), "")
    data = b"".join(file_parts(codec, header, rows, tags=tags, found=(), seconds=0, cover=b""))
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=SAMPLE_RATE)
    with av.open(io.BytesIO(data), "r") as container:
        frames = [part for frame in container.decode(audio=0) for part in resampler.resample(frame)]
    return np.concatenate([frame.to_ndarray()[0] for frame in frames])


def _mutagen(module: str) -> Any:
    # Untyped: mutagen ships annotations for some of its functions only.
    return importlib.import_module(f"mutagen.{module}")
