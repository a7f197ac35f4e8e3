"""What one player's bytes go through: its Ogg pages, its titles and its range.

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

_WAV_FRAME = 4  # bytes of a sample of both channels


class Body:
    """The body of one response: :meth:`begin` and :meth:`push` give the bytes to write.

    An Ogg stream carries the title in its comments, and begins a new link when it changes. A player that asks for ICY
    titles gets them in Ogg as well, and no new links: it was built to show those, and some (GStreamer's
    ``uridecodebin``, VLC when it records) stop at the end of a link.

    Args:
        codec: mp3, aac, ogg or wav.
        icy: weaves titles in; None: the player did not ask for them.
        asked: the range that is sent; None: everything. A range that begins behind the header begins with the sound of
            now, since a live stream has no past to seek in; in WAV at the place in a sample that the range has.
        artist: what the comments of an Ogg stream name as such.
    """

    def __init__(self, codec: str, icy: IcyInserter | None, asked: ByteRange | None, *, artist: str = "") -> None:
        self._codec, self._icy, self._asked, self._artist = codec, icy, asked, artist
        self._title = ""
        self._links: OggOpusLinks | None = None
        self._skip = 0
        self._left = None if asked is None else asked.length

    @property
    def is_plain(self) -> bool:
        """Whether the sound goes out as it comes, so that :meth:`push` need not be called."""
        return self._icy is None and self._asked is None and self._codec != "ogg"

    @property
    def is_complete(self) -> bool:
        """Whether the range has been sent."""
        return self._left == 0

    def set_title(self, title: str) -> None:
        """What plays from now on."""
        if self._icy is not None:
            self._icy.set_title(title)
        elif self._links is not None and title != self._title:
            self._links.retitle(self._tags(title))
        self._title = title

    def _tags(self, title: str) -> dict[str, str]:
        return {"title": title, "artist": self._artist}

    def begin(self, header: bytes) -> bytes:
        """What comes before the sound.

        Args:
            header: of the encoder.
        """
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
