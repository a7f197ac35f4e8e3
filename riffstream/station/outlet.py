"""One encoder for each codec of a station, and the ring of what it made, from which listeners are served.

Threading model
  Event loop       creates, attaches, reads the ring; sinks are called there.
  Encoder thread   one for each running outlet; only caller of its encoder.
  Hand-over        blocks in: a queue of ``BEHIND_S`` (an encoder needs a fraction of a block's time). Full: the oldest
                   block is dropped, and after the gap a new encoder begins with a discontinuity. Chunks out:
                   call_soon_threadsafe.
  Failure          an encoder that fails is replaced at the next block. One that cannot be made, or that fails at once
                   again, ends the thread: the sinks are told, and the next start waits 1 s, then 2 s, up to 30 s.
  close()          idempotent; the thread ends by itself within a block.
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

__all__ = ["CODECS", "Chunk", "EncoderError", "Outlet"]

log = logging.getLogger(__name__)

CODECS: Final = ("opus", "pcm_s16", "mp3", "aac", "ogg", "wav")
KEPT_S: Final = 10.0  # encoded audio kept for the bursts of wire formats that are asked for later (timeline.burst_ms)
LINGER_S: Final = 20.0  # an encoder goes on so long without listeners
BEHIND_S: Final = 10.0  # audio that waits for an encoder on a machine that is too busy
RETRY_S, RETRY_MAX_S = 1.0, 30.0  # until an encoder that could not run is tried again; doubles from time to time


@dataclass(frozen=True, slots=True)
class Chunk:
    """Encoded audio, as it goes to every listener.

    Attributes:
        sample_pos, n_samples: place on the sample clock.
        rev: heard at its end.
        flags: discontinuity, silence.
        payload: the codec's bytes (for opus and ogg, packets after their lengths).
    """

    sample_pos: int
    n_samples: int
    rev: int
    flags: Flags
    payload: bytes


class EncoderError(RiffstreamError):
    """An encoder that cannot run.

    Attributes:
        retry_s: seconds until it is worth another try.
    """

    def __init__(self, codec: str, retry_s: float) -> None:
        super().__init__(f"the encoder for {codec} does not run here at the moment; the server's log says why")
        self.retry_s = retry_s


Sink = Callable[[Chunk | None], None]
_Item = Block | None
_ENCODERS: Final = {"ogg": "opus"}  # the server puts its packets into pages, for each listener anew


class Outlet:
    """See the module.

    Args:
        codec: one of :data:`CODECS`.
        recent: called when the encoder starts: the newest committed blocks, with which the ring is filled.
        bit_rate: bits a second; None: the codec's own.
        linger_s: see :data:`LINGER_S`.
    """

    def __init__(
        self,
        codec: str,
        recent: Callable[[], list[Block]],
        *,
        bit_rate: int | None = None,
        linger_s: float = LINGER_S,
    ) -> None:
        self.codec = codec
        self.header = b""
        self.closed = False
        self._recent = recent
        self._bit_rate = bit_rate
        self._linger_s = linger_s
        self._loop = asyncio.get_running_loop()
        self._ring: deque[Chunk] = deque()
        self._sinks: dict[int, Sink] = {}
        self._next_sink = 0
        self._queue: queue.SimpleQueue[_Item] | None = None
        self._primed = asyncio.Event()
        self._broken = False
        self._awaited = 0
        self._linger: asyncio.TimerHandle | None = None
        self._retry_s = 0.0
        self._retry_at = 0.0

    @property
    def running(self) -> bool:
        """Whether the encoder runs."""
        return self._queue is not None

    @property
    def sinks(self) -> int:
        """Attached listeners."""
        return len(self._sinks)

    async def started(self) -> None:
        """Start the encoder where it does not run, and wait until the ring holds the recent past.

        Raises:
            EncoderError: it cannot run.
        """
        self._start()
        self._awaited += 1
        try:
            await self._primed.wait()
        finally:
            self._awaited -= 1
        if self._queue is None and not self.closed:
            raise EncoderError(self.codec, max(0.1, self._retry_at - self._loop.time()))

    def attach(self, sink: Sink) -> Callable[[], None]:
        """Have ``sink`` called with every new chunk, and with None when the station has ended (``closed``) or the
        encoder cannot run. Returns what detaches it."""
        self._start()
        if self._queue is None:
            self._loop.call_soon(sink, None)
            return lambda: None
        key, self._next_sink = self._next_sink, self._next_sink + 1
        self._sinks[key] = sink

        def detach() -> None:
            if self._sinks.pop(key, None) is not None and not self._sinks:
                self._schedule_stop()

        return detach

    def burst(self, seconds: float) -> list[Chunk]:
        """The newest chunks, at least ``seconds`` of them where there are so many."""
        need = round(seconds * SAMPLE_RATE)
        found: list[Chunk] = []
        for chunk in reversed(self._ring):
            if need <= 0:
                break
            found.append(chunk)
            need -= chunk.n_samples
        return found[::-1]

    def push(self, block: Block) -> None:
        """Newly committed audio (called by the station)."""
        if self._queue is not None:
            if self._queue.qsize() * len(block.pcm) > BEHIND_S * SAMPLE_RATE:
                with contextlib.suppress(queue.Empty):
                    self._queue.get_nowait()
            self._queue.put(block)

    def close(self) -> None:
        """The station is gone: tell the sinks, stop the encoder."""
        if not self.closed:
            self.closed = True
            self._stop()
            self._primed.set()
            self._hand_over(None)
            self._sinks.clear()

    def _start(self) -> None:
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        if self._queue is None and not self.closed and self._loop.time() >= self._retry_at:
            self._run()
        if self._queue is not None and not self._sinks:
            self._schedule_stop()

    def _run(self) -> None:
        self._queue = source = queue.SimpleQueue[_Item]()
        self._broken = self._broken or bool(self._ring)
        self._ring.clear()  # what is encoded anew would overlap it
        self._primed.clear()
        recent = self._recent()
        thread = threading.Thread(target=self._work, args=(source, recent), name=f"encoder-{self.codec}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no thread is left
            self._failed(error)

    def _schedule_stop(self) -> None:
        if self._linger is None:
            self._linger = self._loop.call_later(self._linger_s, self._stop_if_unused)

    def _stop_if_unused(self) -> None:
        self._linger = None
        if self._awaited:  # a machine so busy that the burst takes longer than the linger
            self._schedule_stop()
        elif not self._sinks:
            self._stop()

    def _stop(self) -> None:
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        if self._queue is not None:
            self._queue.put(None)
            self._queue = None

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
                    encoder = make_encoder(
                        _ENCODERS.get(self.codec, self.codec), start=block.pos, bit_rate=self._bit_rate
                    )
                    self._post(source, self._describe, encoder.header, begun)
                    begun = True
                packets = encoder.push(block.pcm)
                expected, sound = block.pos + len(block.pcm), True
            except Exception as error:  # libav has dozens of kinds; the thread must live to encode what follows
                if not sound:
                    self._post(source, self._failed, error)
                    return
                log.warning("encoder %s failed, a new one takes over: %s: %s", self.codec, type(error).__name__, error)
                encoder, sound = None, False
                continue
            if self.codec in ("opus", "ogg"):  # on its wire, what primes the encoder has no place before sample 0
                packets = [packet for packet in packets if packet.sample_pos >= 0]
            if not packets:
                continue
            if self.codec in ("opus", "ogg"):
                payload = join_packets([packet.data for packet in packets])
            else:
                payload = b"".join(packet.data for packet in packets)
            n_samples = sum(packet.n_samples for packet in packets)
            self._post(source, self._publish, block, max(0, packets[0].sample_pos), n_samples, payload)

    def _post(self, source: queue.SimpleQueue[_Item], call: Callable[..., None], *args: object) -> None:
        def run() -> None:
            if self._queue is source:  # not stopped meanwhile
                call(*args)

        try:
            self._loop.call_soon_threadsafe(run)
        except RuntimeError:  # the loop is closed: the process is leaving
            source.put(None)

    # -- event loop -----------------------------------------------------------------------------------------------

    def _describe(self, header: bytes, anew: bool) -> None:
        self.header = header
        self._broken = self._broken or anew

    def _failed(self, error: Exception) -> None:
        self._retry_s = min(2 * self._retry_s or RETRY_S, RETRY_MAX_S)
        self._retry_at = self._loop.time() + self._retry_s
        cause = f"{type(error).__name__}: {error}"
        log.error("encoder %s cannot run, next try in %g s at the earliest: %s", self.codec, self._retry_s, cause)
        self._stop()
        self._primed.set()
        self._hand_over(None)
        self._sinks.clear()

    def _publish(self, block: Block, sample_pos: int, n_samples: int, payload: bytes) -> None:
        flags = Flags.SILENCE if block.silent else Flags.NONE
        if self._broken:
            flags |= Flags.DISCONTINUITY
            self._broken = False
        chunk = Chunk(sample_pos, n_samples, block.rev, flags, payload)
        self._ring.append(chunk)
        self._retry_s = 0.0
        while self._ring[0].sample_pos < sample_pos - KEPT_S * SAMPLE_RATE:
            self._ring.popleft()
        self._hand_over(chunk)

    def _hand_over(self, chunk: Chunk | None) -> None:
        for sink in list(self._sinks.values()):
            try:
                sink(chunk)
            except Exception:  # one listener's fault must not reach the others
                log.exception("a listener of %s failed", self.codec)
