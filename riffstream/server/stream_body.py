"""The body of one player's stream: Ogg pages, titles and byte range.

Threading model: everything runs on the event loop.
"""

from __future__ import annotations

from riffstream import protocol
from riffstream.audio.ogg import OggOpusLinks
from riffstream.audio.pcm import wav_header
from riffstream.server.feeds import OggPackets
from riffstream.server.icy import IcyInserter
from riffstream.server.ranges import ByteRange

__all__ = ["Body"]

_WAV_FRAME = 4  # bytes of one sample of both channels


class Body:
    """The body of one response: :meth:`begin` and :meth:`push` return the bytes to write.

    An Ogg stream has the title in its comments, and a new title begins a new link. A player that requests ICY titles
    gets them in Ogg too, and no new links, because some players (GStreamer's ``uridecodebin``, VLC while recording)
    stop at the end of a link.

    Args:
        codec: mp3, aac, ogg or wav.
        icy: inserter of ICY titles; None if the player did not request them.
        asked: byte range to send; None: everything. A range that begins after the header begins with live audio,
            because a live stream has no past; in WAV at the range's position within a sample.
        artist: artist in the comments of an Ogg stream.
    """

    def __init__(self, codec: str, icy: IcyInserter | None, asked: ByteRange | None, *, artist: str = "") -> None:
        self._codec, self._icy, self._asked, self._artist = codec, icy, asked, artist
        self._title = ""
        self._links: OggOpusLinks | None = None
        self._skip = 0
        self._left = None if asked is None else asked.length

    @property
    def is_plain(self) -> bool:
        """Whether the audio is sent unchanged, without calls of :meth:`push`."""
        return self._icy is None and self._asked is None and self._codec != "ogg"

    @property
    def is_complete(self) -> bool:
        """Whether the range has been sent."""
        return self._left == 0

    def set_title(self, title: str) -> None:
        """Set the title from now on."""
        if self._icy is not None:
            self._icy.set_title(title)
        elif self._links is not None and title != self._title:
            self._links.retitle(self._tags(title))
        self._title = title

    def _tags(self, title: str) -> dict[str, str]:
        return {"title": title, "artist": self._artist}

    def begin(self, header: bytes) -> bytes:
        """Bytes before the audio; ``header`` is that of the encoder."""
        if self._codec == "ogg":
            self._links = OggOpusLinks(header)
            header = self._links.begin(self._tags(self._title))
        elif self._codec == "wav":
            header = wav_header(protocol.SAMPLE_RATE, protocol.CHANNELS)
        first = 0 if self._asked is None else self._asked.first
        behind = max(0, first - len(header))
        self._skip = min(first, len(header)) + (behind % _WAV_FRAME if self._codec == "wav" else 0)
        return self._cut(header)

    def push(self, wire: bytes) -> bytes:
        """The next frame."""
        if self._links is not None:
            assert isinstance(wire, OggPackets)
            wire = b"".join(map(self._links.push, wire.bodies))
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
