"""One bit rate of a station's HLS stream: encoded audio to segments of two seconds.

Threading model: everything runs on the event loop. A segment takes about a millisecond to write.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from riffstream.audio.aac import FRAME
from riffstream.audio.fmp4 import Fmp4Muxer, split_adts
from riffstream.protocol import CHANNELS, SAMPLE_RATE, Flags
from riffstream.station.outlet import Chunk

__all__ = ["KEPT", "SEGMENT_S", "Rendition", "Segment"]

SEGMENT_S = 2
SLOT = SEGMENT_S * SAMPLE_RATE
KEPT = 20  # segments in memory: those of the playlist, and more for late players (RFC 8216, 6.2.2)


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment of two seconds.

    Attributes:
        number: position in units of two seconds on the station's clock.
        sample_pos: first sample on the station's clock.
        n_samples: samples per channel.
        broken: True if it does not continue the previous segment.
        data: ``moof`` and ``mdat``; empty if the audio is missing.
    """

    number: int
    sample_pos: int
    n_samples: int
    broken: bool
    data: bytes


class Rendition:
    """The segments of one bit rate. Their borders lie on the first frame at or after every second second of the
    station's clock, so that renditions of encoders that began together have the same borders.

    Args:
        bit_rate: bits a second.

    Attributes:
        init: the initialisation segment.
        segments: the newest segments, oldest first, with consecutive numbers.
        breaks: number of broken segments that were dropped.
    """

    def __init__(self, bit_rate: int) -> None:
        self.bit_rate = bit_rate
        self.segments: deque[Segment] = deque()
        self.breaks = 0
        self._muxer = Fmp4Muxer(SAMPLE_RATE, CHANNELS, bit_rate)
        self.init = self._muxer.init
        self._frames: list[bytes] = []
        self._begin = 0
        self._end: int | None = None  # position after the last frame; None before the first
        self._slot = 0  # of the last frame
        self._waiting = True  # for the first border
        self._broken = False

    def push(self, chunk: Chunk) -> None:
        """Add the next chunk of ADTS frames.

        Raises:
            ValueError: not ADTS frames.
        """
        pos = chunk.sample_pos
        if chunk.flags & Flags.DISCONTINUITY or (self._end is not None and abs(pos - self._end) >= FRAME):
            self._break(pos)
        for frame in split_adts(chunk.payload):
            if self._end is not None and pos // SLOT != self._slot:
                self._cut()
            if not self._frames:
                self._begin = pos
            self._frames.append(frame)
            self._slot = pos // SLOT
            pos += FRAME
            self._end = pos

    def segment(self, number: int) -> Segment | None:
        """Segment by number; None if it is not kept."""
        index = number - self.segments[0].number if self.segments else -1
        return self.segments[index] if 0 <= index < len(self.segments) else None

    def _break(self, pos: int) -> None:
        """Continue at another position. No segment contains audio from both sides of a break."""
        if self._end is None:
            return
        if pos // SLOT == self._slot:
            self._frames = []
        else:
            self._cut()
            self._slot = pos // SLOT
        self._waiting = self._waiting or (not self._frames and pos % SLOT >= FRAME)
        self._broken = True

    def _cut(self) -> None:
        """End the current segment."""
        frames, self._frames = self._frames, []
        if self._waiting:  # its beginning is missing
            self._waiting = False
            if not self.segments:
                return
            frames = []
        number = self._slot
        if self.segments:
            for missing in range(self.segments[-1].number + 1, number):
                self._add(Segment(missing, missing * SLOT, SLOT, False, b""))
        if not frames:
            self._add(Segment(number, number * SLOT, SLOT, False, b""))
            return
        data = self._muxer.segment(number, self._begin, frames)
        self._add(Segment(number, self._begin, len(frames) * FRAME, self._broken and bool(self.segments), data))
        self._broken = False

    def _add(self, segment: Segment) -> None:
        self.segments.append(segment)
        while len(self.segments) > KEPT:
            self.breaks += self.segments.popleft().broken
