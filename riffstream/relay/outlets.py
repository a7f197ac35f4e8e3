"""Outlets of a relayed station: Opus and PCM as received, other codecs encoded from the upstream's PCM.

Threading model: everything runs on the event loop; encoders run in the threads of their outlets.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from riffstream.audio.aac import FRAME as AAC_FRAME
from riffstream.audio.opus import OpusEncoder
from riffstream.protocol import SAMPLE_RATE, Flags
from riffstream.relay.source import Source
from riffstream.station.block import Block
from riffstream.station.outlet import Chunk, Outlet, StationEndedError
from riffstream.station.output import BURST_S, HLS_BURST_S

__all__ = ["EncodedOutlet", "PassedOutlet", "block_of"]

Taker = Callable[[Chunk | None], None]


def block_of(chunk: Chunk) -> Block:
    """The PCM of a chunk, as committed audio."""
    pcm = np.frombuffer(chunk.payload, "<i2").reshape(-1, 2).astype(np.float32) / np.float32(32767.0)
    return Block(chunk.sample_pos, pcm, chunk.rev, bool(chunk.flags & Flags.SILENCE))


class PassedOutlet:
    """A codec whose frames are passed on without decoding. The interface is that of ``Outlet``.

    Args:
        source: the upstream's audio in this codec.

    Attributes:
        closed: True if the station has ended.
    """

    def __init__(self, source: Source) -> None:
        self.codec: str = source.codec
        self.closed = False
        self._source = source
        self._take: Taker | None = None
        self._header: bytes | None = None

    @property
    def header(self) -> bytes:
        """Header for containers: that of our own Opus encoder, because the protocol carries none."""
        if self._header is None:
            self._header = OpusEncoder().header if self.codec == "opus" else b""
        return self._header

    @property
    def running(self) -> bool:
        """Whether it has a taker."""
        return self._take is not None

    async def start(self, take: Taker) -> None:
        """Give the recent and all further audio to ``take``, and None when the station ends.

        Raises:
            StationEndedError: the station has ended.
            RuntimeError: it has a taker already.
        """
        if self._take is not None:
            raise RuntimeError(f"the outlet of {self.codec} runs already")
        if self.closed:
            raise StationEndedError
        self._take = take
        try:
            await self._source.attach(self, self._pass)
        except BaseException:
            self.stop()
            raise
        if self.closed:
            raise StationEndedError

    def stop(self) -> None:
        """Stop; ``take`` is not called again. Idempotent."""
        self._take = None
        self._source.detach(self)

    def close(self) -> None:
        """End the outlet and notify the taker."""
        if not self.closed:
            self.closed = True
            take = self._take
            self.stop()
            if take is not None:
                take(None)

    def _pass(self, chunk: Chunk) -> None:
        if self._take is not None:
            self._take(chunk)


class EncodedOutlet(Outlet):
    """A codec that the protocol does not carry, encoded here.

    Args:
        codec: mp3, aac, ogg with a bit rate of its own, or one of HLS.
        source: the upstream's PCM.
        bit_rate: bits a second.
    """

    def __init__(self, codec: str, source: Source, *, bit_rate: int | None) -> None:
        super().__init__(codec, self._recent_blocks, bit_rate=bit_rate)
        self._pcm = source

    async def start(self, take: Taker) -> None:
        """Start encoding; see ``Outlet.start``."""
        begun = False

        def push(chunk: Chunk) -> None:
            if begun:  # the recent audio is encoded by the start
                self.push(block_of(chunk))

        await self._pcm.attach(self, push)
        begun = True
        try:
            await super().start(take)
        except BaseException:
            self._pcm.detach(self)
            raise

    def stop(self) -> None:
        """Stop encoding. Idempotent."""
        super().stop()
        self._pcm.detach(self)

    def _recent_blocks(self) -> list[Block]:
        is_hls = self.codec.startswith("aac-")
        chunks = self._pcm.recent()
        gap = max((n for n, chunk in enumerate(chunks) if chunk.flags & Flags.DISCONTINUITY), default=0)
        first = chunks[-1].sample_pos - (HLS_BURST_S if is_hls else BURST_S) * SAMPLE_RATE if chunks else 0
        blocks = [block_of(chunk) for chunk in chunks[gap:] if chunk.sample_pos >= first]
        if is_hls:  # renditions begin at a common border of blocks and AAC frames
            return list(itertools.dropwhile(lambda block: block.pos % AAC_FRAME, blocks)) or blocks
        return blocks
