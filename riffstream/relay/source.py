"""The upstream's audio of one station in one codec: one connection for all that need it.

Threading model: everything runs on the event loop. :meth:`Source.recent` may be called by any thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from riffstream import protocol
from riffstream.protocol import SAMPLE_RATE
from riffstream.relay.link import Link
from riffstream.relay.upstreams import Upstreams
from riffstream.station.outlet import Chunk

__all__ = ["KEPT_S", "Source"]

log = logging.getLogger(__name__)

KEPT_S = 15.0  # audio for consumers that come later, and requested at the first connection
PRIMED_S = 5.0  # longest wait for the first audio
REPEATED_S = 1.0  # audio before the end of the last frame that may be a repetition; more is another clock
LONGEST_FRAME = 5 * SAMPLE_RATE
MOST_POS = 2**53  # 6,000 years
PCM_BYTES = 4  # of a sample, two channels

Consumer = Callable[[Chunk], None]


class Source:
    """One codec of a station. It is connected while it has consumers.

    Args:
        upstreams: the servers.
        station: name of the station.
        codec: opus or pcm_s16.
        token: token for listening.
        epoch: called with the epoch of the upstream's audio at each connection.
        ended: called with the reason when the other server has ended the station.

    Attributes:
        codec: the codec.
        end: sample clock after the last received audio; 0 before the first.
        skipped: times that audio was missing after a reconnection or from a slow connection.
    """

    def __init__(
        self,
        upstreams: Upstreams,
        station: str,
        codec: protocol.CodecName,
        *,
        token: str | None,
        epoch: Callable[[str], None],
        ended: Callable[[str], None],
    ) -> None:
        self.codec = codec
        self.end = 0
        self.skipped = 0
        self._upstreams, self._station, self._token = upstreams, station, token
        self._epoch, self._ended = epoch, ended
        self._consumers: dict[object, Consumer] = {}
        self._kept: deque[Chunk] = deque()
        self._kept_samples = 0
        self._session = ""
        self._last_seq: int | None = None
        self._gap = False
        self._repeated = 0  # samples of frames before the end, in a row
        self._unusable = False  # the last frame was no audio of this codec
        self._newest = 0  # position of the upstream's newest frame at the welcome
        self._primed = asyncio.Event()
        self._link: Link | None = None
        self._connects = self._bytes = 0  # of former links

    @property
    def running(self) -> bool:
        """Whether the source has consumers."""
        return bool(self._consumers)

    @property
    def connected(self) -> bool:
        """Whether its connection is open."""
        return self._link is not None and self._link.connected

    @property
    def connects(self) -> int:
        """Connections made since the start."""
        return self._connects + (0 if self._link is None else self._link.connects)

    @property
    def bytes(self) -> int:
        """Received bytes since the start."""
        return self._bytes + (0 if self._link is None else self._link.bytes)

    def recent(self) -> list[Chunk]:
        """The kept chunks, the oldest first."""
        return list(self._kept.copy())

    async def attach(self, owner: object, consumer: Consumer) -> None:
        """Give a consumer the recent audio, when there is some, and then every chunk, until :meth:`detach`."""
        self._consumers[owner] = lambda chunk: None  # keeps the connection
        if self._link is None:
            self._primed.clear()
            self._link = Link(
                self._upstreams,
                self._station,
                hello=self._hello,
                welcomed=self._welcomed,
                take=self._take,
                lost=lambda reason: None,
                ended=self._ended,
            )
            self._link.start()
        try:
            async with asyncio.timeout(PRIMED_S):
                await self._primed.wait()
        except TimeoutError:
            pass  # the upstream is lost, or the station rests: audio comes later
        except BaseException:
            self.detach(owner)
            raise
        if owner in self._consumers:
            for chunk in self.recent():
                consumer(chunk)
            self._consumers[owner] = consumer

    def detach(self, owner: object) -> None:
        """End a consumer's delivery. Idempotent."""
        self._consumers.pop(owner, None)
        if not self._consumers and self._link is not None:
            self._connects, self._bytes = self.connects, self.bytes
            self._link.stop()
            self._link = None
            self._kept.clear()
            self._kept_samples = 0
            self._session, self._last_seq = "", None
            self._gap = False

    def drop(self, reason: str) -> None:
        """Give up a connection without audio."""
        if self._link is not None:
            self._link.drop(reason)

    def _hello(self) -> protocol.Hello:
        resume = None
        if self._session and self._last_seq is not None:
            resume = protocol.Resume(session=self._session, last_seq=self._last_seq, sample_pos=self.end)
        return protocol.Hello(
            v=protocol.VERSION,
            codecs=(self.codec,),
            token=self._token,
            resume=resume,
            steer=True,  # short frames
            burst_ms=round(KEPT_S * 1000),
            relay=self._upstreams.server_id,
        )

    def _welcomed(self, welcome: protocol.Welcome) -> None:
        self._session = welcome.session
        self._epoch(welcome.session.rpartition(".")[0])
        self._newest = welcome.sample_pos
        if not welcome.resumed:
            self._gap = self._last_seq is not None

    def _is_usable(self, frame: protocol.AudioFrame) -> bool:
        """Whether a frame is audio in this codec, with a length and a position that a station can have."""
        if frame.codec.name.lower() != self.codec or not 0 < frame.n_samples <= LONGEST_FRAME or not frame.payload:
            return False
        if frame.sample_pos > MOST_POS:
            return False
        return self.codec != "pcm_s16" or len(frame.payload) == PCM_BYTES * frame.n_samples

    def _take(self, message: protocol.ServerMessage | protocol.AudioFrame) -> None:
        if not isinstance(message, protocol.AudioFrame):
            return
        frame = message
        if not self._is_usable(frame):
            if not self._unusable:  # once for frames in a row
                log.warning("station %s: the upstream sends frames that are no %s", self._station, self.codec)
            self._unusable = True
            return  # the next frame announces the gap
        self._unusable = False
        flags = frame.flags
        if self._kept and frame.sample_pos < self.end and not self._gap and not flags & protocol.Flags.DISCONTINUITY:
            self._repeated += frame.n_samples
            if self._repeated <= REPEATED_S * SAMPLE_RATE:
                return  # repeated after a reconnection
            flags |= protocol.Flags.DISCONTINUITY  # another clock without a word
        self._repeated = 0
        if self._gap or (self._kept and frame.sample_pos != self.end):
            flags |= protocol.Flags.DISCONTINUITY
        if flags & protocol.Flags.DISCONTINUITY:
            self.skipped += 1
            if frame.sample_pos < self.end:  # another sample clock
                self._kept.clear()
                self._kept_samples = 0
        self._gap = False
        self._last_seq, self.end = frame.seq, frame.sample_pos + frame.n_samples
        chunk = Chunk(frame.sample_pos, frame.n_samples, frame.rev, flags, frame.payload, frame.seq)
        self._kept.append(chunk)
        self._kept_samples += chunk.n_samples
        while self._kept_samples > KEPT_S * SAMPLE_RATE:
            self._kept_samples -= self._kept.popleft().n_samples
        for consumer in tuple(self._consumers.values()):
            consumer(chunk)
        if frame.sample_pos >= self._newest:
            self._primed.set()
