"""Outlets: the encoder of one codec of a station, from committed blocks to chunks of encoded audio for one taker.

Threading model
  Event loop       makes every call; the taker is called there.
  Encoder thread   one for each running outlet; only caller of its encoder.
  Hand-over        blocks in: a queue of ``BEHIND_S`` (an encoder needs a fraction of a block's time). Full: the oldest
                   block is dropped, and after the gap a new encoder begins with a discontinuity. Chunks out:
                   call_soon_threadsafe.
  Failure          an encoder that fails is replaced at the next block. One that cannot be made, or that fails at once
                   again, ends the thread: the taker is notified, and the next start waits 1 s, then 2 s, up to 30 s.
  stop(), close()  idempotent; the thread ends by itself within a block.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from riffstream.audio.encoders import Encoder, make_encoder
from riffstream.errors import RiffstreamError
from riffstream.protocol import SAMPLE_RATE, Flags, join_packets
from riffstream.station.block import Block

__all__ = ["CODECS", "HLS_KBPS", "SHARED", "Chunk", "EncoderError", "Outlet", "StationEndedError", "hls_codec"]

log = logging.getLogger(__name__)

HLS_KBPS: Final = (64, 128, 256)  # AAC of HLS


def hls_codec(kbps: int) -> str:
    """The codec of an HLS rendition, one of :data:`HLS_KBPS`."""
    return f"aac-{kbps}"


CODECS: Final = ("opus", "pcm_s16", "mp3", "aac", "ogg", "wav", *map(hls_codec, HLS_KBPS))
SHARED: Final = {"ogg": "opus", "wav": "pcm_s16"}  # containers of the same encoded audio
_ENCODERS: Final = SHARED | {hls_codec(kbps): "aac" for kbps in HLS_KBPS}
BEHIND_S: Final = 10.0  # largest backlog of an encoder on a busy machine
RETRY_S, RETRY_MAX_S = 1.0, 30.0  # delay until a failed encoder is tried again; doubles each time


@dataclass(frozen=True, slots=True)
class Chunk:
    """Encoded audio of one block.

    Attributes:
        sample_pos: sample clock of its first sample.
        n_samples: samples per channel.
        rev: the station's revision at its end.
        flags: discontinuity, silence.
        payload: encoded bytes (for Opus, packets after their lengths).
        seq: number of the frame at the server that a relay has it from; None: encoded here.
    """

    sample_pos: int
    n_samples: int
    rev: int
    flags: Flags
    payload: bytes
    seq: int | None = None


class StationEndedError(RiffstreamError):
    """The station has been closed."""

    def __init__(self) -> None:
        super().__init__("this station has ended")


class EncoderError(RiffstreamError):
    """The encoder of a codec cannot run.

    Attributes:
        retry_s: seconds until the next attempt.
    """

    def __init__(self, codec: str, retry_s: float) -> None:
        super().__init__(f"the encoder for {codec} is not available at the moment; see the server's log")
        self.retry_s = retry_s


Taker = Callable[[Chunk | None], None]
_Item = Block | None


class Outlet:
    """The encoder of one codec. It runs from :meth:`start` to :meth:`stop` for one taker.

    The taker is ``server/feeds.py``, which keeps the audio and serves it to all listeners.

    Args:
        codec: one of :data:`CODECS`.
        recent: function that returns the newest committed blocks, with which each run of the encoder begins.
        bit_rate: bits a second; None: the codec's default.

    Attributes:
        header: header of the encoder (``OpusHead``) once it runs; empty for codecs without one.
        closed: True if the station has ended.
    """

    def __init__(self, codec: str, recent: Callable[[], list[Block]], *, bit_rate: int | None = None) -> None:
        self.codec = codec
        self.header = b""
        self.closed = False
        self._recent = recent
        self._bit_rate = bit_rate
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[_Item] | None = None
        self._take: Taker | None = None
        self._primed = asyncio.Event()
        self._gap = False
        self._retry_s = 0.0
        self._retry_at = 0.0

    @property
    def running(self) -> bool:
        """Whether the encoder runs."""
        return self._queue is not None

    async def start(self, take: Taker) -> None:
        """Start encoding; return when the recent audio has been encoded and taken.

        Args:
            take: called with every chunk, and with None if the outlet ends by itself: the station has ended
                (``closed``), or the encoder cannot run any longer.

        Raises:
            EncoderError: the encoder cannot run.
            StationEndedError: the station has ended.
            RuntimeError: the encoder runs already.
        """
        if self._queue is not None:
            raise RuntimeError(f"the encoder for {self.codec} runs already")
        if not self.closed and self._loop.time() >= self._retry_at:
            source = self._run(take)
            try:
                await self._primed.wait()
            except BaseException:
                self.stop()
                raise
            if self._queue is source:
                return
        if self.closed:
            raise StationEndedError
        raise EncoderError(self.codec, max(0.1, self._retry_at - self._loop.time()))

    def stop(self) -> None:
        """Stop encoding; ``take`` is not called again. Idempotent."""
        if self._queue is not None:
            self._queue.put(None)
        self._queue = self._take = None
        self._primed.set()

    def push(self, block: Block) -> None:
        """Encode a newly committed block (called by the station)."""
        if self._queue is not None:
            if self._queue.qsize() * len(block.pcm) > BEHIND_S * SAMPLE_RATE:
                with contextlib.suppress(queue.Empty):
                    self._queue.get_nowait()
            self._queue.put(block)

    def close(self) -> None:
        """End the outlet: stop encoding and notify the taker."""
        if not self.closed:
            self.closed = True
            self._end()

    def _run(self, take: Taker) -> queue.SimpleQueue[_Item]:
        self._queue = source = queue.SimpleQueue[_Item]()
        self._take = take
        self._gap = False
        self._primed.clear()
        recent = self._recent()
        thread = threading.Thread(target=self._work, args=(source, recent), name=f"encoder-{self.codec}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the limit of threads is reached
            self._failed(error)
        return source

    def _end(self) -> None:
        take = self._take
        self.stop()
        if take is not None:
            self._give(take, None)

    # -- encoder thread -------------------------------------------------------------------------------------------

    def _work(self, source: queue.SimpleQueue[_Item], recent: list[Block]) -> None:
        encoder: Encoder | None = None
        waiting = deque(recent)
        expected = -1
        begun = primed = sound = False
        while True:
            if not waiting and not primed:
                primed = True
                self._post(source, self._primed.set)
            block = waiting.popleft() if waiting else source.get()
            if block is None:
                return
            try:
                if encoder is None or block.pos != expected:
                    sound = False
                    name = _ENCODERS.get(self.codec, self.codec)
                    encoder = make_encoder(name, start=block.pos, bit_rate=self._bit_rate)
                    self._post(source, self._describe, encoder.header, begun)
                    begun = True
                packets = encoder.push(block.pcm)
                expected, sound = block.pos + len(block.pcm), True
            except Exception as error:  # libav has many exceptions; the thread must survive them
                if not sound:
                    self._post(source, self._failed, error)
                    return
                log.warning("encoder %s failed and is replaced: %s: %s", self.codec, type(error).__name__, error)
                encoder, sound = None, False
                continue
            # There is no position for priming samples before sample 0.
            packets = [packet for packet in packets if packet.sample_pos >= 0]
            if not packets:
                continue
            if self.codec in ("opus", "ogg"):
                payload = join_packets([packet.data for packet in packets])
            else:
                payload = b"".join(packet.data for packet in packets)
            n_samples = sum(packet.n_samples for packet in packets)
            self._post(source, self._publish, block, packets[0].sample_pos, n_samples, payload)

    def _post(self, source: queue.SimpleQueue[_Item], call: Callable[..., None], *args: object) -> None:
        def run() -> None:
            if self._queue is source:  # not stopped in the meantime
                call(*args)

        try:
            self._loop.call_soon_threadsafe(run)
        except RuntimeError:  # the loop is closed: the process is leaving
            source.put(None)

    # -- event loop -----------------------------------------------------------------------------------------------

    def _describe(self, header: bytes, anew: bool) -> None:
        self.header = header
        self._gap = self._gap or anew

    def _failed(self, error: Exception) -> None:
        self._retry_s = min(2 * self._retry_s or RETRY_S, RETRY_MAX_S)
        self._retry_at = self._loop.time() + self._retry_s
        cause = f"{type(error).__name__}: {error}"
        log.error("encoder %s cannot run, next try in %g s at the earliest: %s", self.codec, self._retry_s, cause)
        self._end()

    def _publish(self, block: Block, sample_pos: int, n_samples: int, payload: bytes) -> None:
        flags = Flags.SILENCE if block.silent else Flags.NONE
        if self._gap:
            flags |= Flags.DISCONTINUITY
            self._gap = False
        self._retry_s = 0.0
        assert self._take is not None
        self._give(self._take, Chunk(sample_pos, n_samples, block.rev, flags, payload))

    def _give(self, take: Taker, chunk: Chunk | None) -> None:
        try:
            take(chunk)
        except Exception:  # an error of the taker must not stop the encoder or the end of a station
            log.exception("the taker of %s failed", self.codec)
