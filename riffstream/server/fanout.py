"""One frame of bytes, written as it is to every listener's transport.

A frame's bytes (WebSocket header, audio header and payload, or the bare payload) are built once per codec, wire format
and frame length. Delivery is then one ``transport.write`` per listener: no task, no queue and no copy for each of them.

Why the transport and not ``WebSocketResponse.send_bytes``: that call builds a header and joins it to the payload anew
for every listener, inside a coroutine (35-43 us of CPU per listener-second at two frames a second, against 27-29 for
the bare write). ``request.transport`` is public API in aiohttp, and the sockets here are opened with
``compress=False``, where aiohttp itself writes each control frame (pong, close) in synchronous ``transport.write``
calls; two whole frames can therefore never interleave.

Threading model
  Event loop     the only caller of everything here.
  push()         returns at once; the round over the listeners runs in slices, so that 2,000 writes never hold the
                 loop for longer than one slice.
  Slow listener  never awaited: it is skipped, then closed (the class ``Fanout`` says when).
"""

from __future__ import annotations

import asyncio
import itertools
import struct
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from riffstream.protocol import Flags

__all__ = ["DropPolicy", "Fanout", "FanoutStats", "Frame", "Listener", "websocket_frame"]

SLICE = 256  # about 4 ms of writes
RETRY_S = 0.05
DISCONTINUITY = int(Flags.DISCONTINUITY)


def websocket_frame(opcode: int, payload: bytes) -> bytes:
    """One unmasked, final WebSocket frame (RFC 6455, section 5.2): 1 is text, 2 binary, 8 close, 9 ping."""
    size = len(payload)
    first = 0x80 | opcode
    if size < 126:
        return struct.pack("!BB", first, size) + payload
    if size < 65536:
        return struct.pack("!BBH", first, 126, size) + payload
    return struct.pack("!BBQ", first, 127, size) + payload


@dataclass(slots=True, eq=False)
class Frame:
    """A stretch of encoded audio, as the transports take it. Its bytes are built when first needed, then shared.

    Attributes:
        sample_pos: the station's sample clock at its first sample.
        n_samples: samples per channel.
        rev: the station's revision at its end.
        build: makes the bytes to write, and the place of the flags byte in them (None in formats that have none).
    """

    sample_pos: int
    n_samples: int
    rev: int
    build: Callable[[], tuple[bytes, int | None]]
    _built: tuple[bytes, int | None] | None = None
    _after_gap: bytes | None = None

    @property
    def wire(self) -> bytes:
        """The bytes to write."""
        if self._built is None:
            self._built = self.build()
        return self._built[0]

    @property
    def wire_after_gap(self) -> bytes:
        """``wire`` with the discontinuity flag."""
        if self._after_gap is None:
            wire = self.wire
            assert self._built is not None
            flags_at = self._built[1]
            if flags_at is None:
                return wire
            flagged = bytearray(wire)
            flagged[flags_at] |= DISCONTINUITY
            self._after_gap = bytes(flagged)
        return self._after_gap

    def forget(self) -> None:
        """Free the bytes; who still needs them has them built again."""
        self._built = self._after_gap = None


@dataclass(frozen=True, slots=True)
class DropPolicy:
    """When a listener that does not read loses audio.

    Attributes:
        skip_bytes: with more than this unsent it gets no frames until half of it is left, then skips to live.
        close_bytes: with more than this unsent it is closed.
        close_s: after so long without room it is closed.
    """

    skip_bytes: int = 64 * 1024
    close_bytes: int = 256 * 1024
    close_s: float = 10.0


@dataclass(slots=True, eq=False)
class Listener:
    """One connection's place in the stream.

    Attributes:
        transport: where the bytes go.
        cursor: sequence number of the next frame to send.
        gap: the next frame does not follow what was sent before.
        bursting: still receiving the burst or the resumption that it began with.
        steady: attached, up to date and not late: the next frame can be written without another look.
        alive: it gave a sign of life since this was last set to False (``heartbeat.py``).
        late_since: when its buffer filled up (``time.monotonic``), None while it keeps up.
        policy: when it loses audio.
        on_closed: called once when the fan-out gives the listener up, with the reason.
    """

    transport: asyncio.Transport
    cursor: int = 0
    gap: bool = False
    policy: DropPolicy = DropPolicy()
    on_closed: Callable[[str], None] | None = None
    skips: int = 0
    skipped_frames: int = 0
    attached: bool = False
    steady: bool = False
    bursting: bool = True
    alive: bool = True
    late_since: float | None = None
    retry: asyncio.TimerHandle | None = None
    skip_bytes: int = field(init=False, repr=False)
    write: Callable[[bytes], None] = field(init=False, repr=False)
    buffered: Callable[[], int] = field(init=False, repr=False)
    is_closing: Callable[[], bool] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.skip_bytes = self.policy.skip_bytes
        self.write = self.transport.write
        self.buffered = self.transport.get_write_buffer_size
        self.is_closing = self.transport.is_closing

    def send_control(self, data: bytes) -> bool:
        """Write a control message. It is never dropped: a listener with no room for it is closed instead.

        Returns:
            False where the connection is gone, or has been closed for all that it has not read.
        """
        if self.is_closing():
            return False
        if self.buffered() > self.policy.close_bytes:
            self.close("slow")
            return False
        self.write(data)
        return True

    def close(self, reason: str) -> None:
        """Drop the connection now, with whatever its buffer still holds."""
        self.transport.abort()
        if self.on_closed is not None:
            callback, self.on_closed = self.on_closed, None
            callback(reason)


@dataclass(slots=True)
class FanoutStats:
    """Counters since the fan-out began."""

    frames: int = 0
    deliveries: int = 0
    bytes: int = 0
    skips: int = 0
    skipped_frames: int = 0
    closed_slow: int = 0

    def add(self, other: FanoutStats) -> None:
        """Count another fan-out's deliveries in."""
        self.frames += other.frames
        self.deliveries += other.deliveries
        self.bytes += other.bytes
        self.skips += other.skips
        self.skipped_frames += other.skipped_frames
        self.closed_slow += other.closed_slow


class Fanout:
    """The frames of one codec in one wire format, and the listeners that take them.

    A listener with a full write buffer (``DropPolicy``) gets nothing until it has drained, then goes on with the
    newest frame, flagged as a discontinuity. A burst or a resumption loses nothing: its frames go out as fast as the
    buffer takes them. Control messages are never dropped; a listener with no room for them is closed.

    Args:
        capacity: frames kept for bursts and resumption.
        fresh: how many of them keep their bytes after they were sent; None: all. Older ones are needed for long bursts
            and resumption only.
        label: what metrics and logs call it.

    Attributes:
        number: no other fan-out of this process has it.
    """

    _numbers = itertools.count(1)

    def __init__(self, *, capacity: int, fresh: int | None = None, label: str = "") -> None:
        self.label = label
        self.number = next(self._numbers)
        self.stats = FanoutStats()
        self.listeners: dict[Listener, None] = {}  # in the order of joining, which is that of memory
        self._frames: deque[Frame] = deque(maxlen=max(1, capacity))
        self._fresh = capacity if fresh is None else fresh
        self._next = 0
        self._round: list[Listener] = []
        self._round_handle: asyncio.Handle | None = None
        self._again = False

    @property
    def next_seq(self) -> int:
        """Sequence number that the next frame will get; frames are numbered from 0."""
        return self._next

    @property
    def first_seq(self) -> int:
        """Sequence number of the oldest frame still kept."""
        return self._next - len(self._frames)

    def frame(self, seq: int) -> Frame:
        """The kept frame ``seq``; IndexError outside ``first_seq <= seq < next_seq``."""
        index = seq - self.first_seq
        if not 0 <= index < len(self._frames):
            raise IndexError(f"frame {seq} is not kept ({self.first_seq} to {self._next - 1} are)")
        return self._frames[index]

    def attach(self, listener: Listener, *, burst_samples: int = 0) -> None:
        """Start delivery with a burst of the last ``burst_samples`` samples; the rest follows live."""
        cursor, samples = self._next, 0
        while cursor > self.first_seq and samples < burst_samples:
            cursor -= 1
            samples += self.frame(cursor).n_samples
        listener.cursor = cursor
        self._add(listener)

    def resume(self, listener: Listener, last_seq: int) -> bool:
        """Go on behind frame ``last_seq`` without a gap.

        Returns:
            False, with nothing attached, where the next frame is no longer kept or was never sent.
        """
        if not self.first_seq - 1 <= last_seq < self._next:
            return False
        listener.cursor = last_seq + 1
        self._add(listener)
        return True

    def detach(self, listener: Listener) -> None:
        """Stop delivery; harmless when repeated."""
        self.listeners.pop(listener, None)
        listener.attached = listener.steady = False
        if listener.retry is not None:
            listener.retry.cancel()
            listener.retry = None

    def push(self, frame: Frame) -> None:
        """Append a frame and begin its delivery to everyone."""
        self._frames.append(frame)
        self._next += 1
        self.stats.frames += 1
        if len(self._frames) > self._fresh:
            self._frames[-1 - self._fresh].forget()
        if self._round_handle is not None:
            self._again = True  # cursors carry the running round on; a second one picks up who is already past
            return
        if self.listeners:
            self._start_round()

    def close(self) -> None:
        """Forget the listeners, whose connections belong to their handlers, and the frames."""
        if self._round_handle is not None:
            self._round_handle.cancel()
            self._round_handle = None
        self._round.clear()
        for listener in tuple(self.listeners):
            self.detach(listener)
        self._frames.clear()

    def _add(self, listener: Listener) -> None:
        self.listeners[listener] = None
        listener.attached = True
        self._catch_up(listener)

    def _start_round(self) -> None:
        self._round = list(self.listeners)
        self._slice()

    def _slice(self) -> None:
        self._round_handle = None
        newest = self._next - 1
        wire = self._frames[-1].wire
        following = self._next
        batch = self._round[-SLICE:]
        del self._round[-SLICE:]
        plain = 0
        for listener in batch:
            if (
                listener.steady
                and listener.cursor == newest
                and not listener.is_closing()
                and listener.buffered() <= listener.skip_bytes
            ):
                listener.write(wire)
                listener.cursor = following
                plain += 1
            else:
                self._catch_up(listener)
        self.stats.deliveries += plain
        self.stats.bytes += plain * len(wire)
        if self._round:
            self._round_handle = asyncio.get_running_loop().call_soon(self._slice)
        elif self._again:
            self._again = False
            self._start_round()

    def _catch_up(self, listener: Listener) -> None:
        """Send what the buffer takes from the cursor on; skip or close a listener that does not keep up."""
        if listener.retry is not None:
            listener.retry.cancel()
            listener.retry = None
        if not listener.attached or listener.is_closing():
            return
        if listener.late_since is not None:
            if listener.buffered() > listener.skip_bytes // 2:
                self._wait(listener)
                return
            listener.alive = True  # it has read half of a full buffer
            if not listener.bursting:
                self._skip_to_live(listener)
        if listener.cursor < self.first_seq:
            self._skip_to_live(listener)
        while listener.cursor < self._next:
            if listener.buffered() > listener.skip_bytes:
                self._wait(listener)
                return
            frame = self.frame(listener.cursor)
            data = frame.wire_after_gap if listener.gap else frame.wire
            listener.write(data)
            listener.gap = False
            listener.late_since = None
            listener.cursor += 1
            self.stats.deliveries += 1
            self.stats.bytes += len(data)
        listener.bursting = False
        listener.steady = True

    def _wait(self, listener: Listener) -> None:
        """Leave a full listener alone for now, or for good."""
        listener.steady = False
        now = time.monotonic()
        if listener.late_since is None:
            listener.late_since = now
        elif now - listener.late_since > listener.policy.close_s:
            self.stats.closed_slow += 1
            self.detach(listener)
            listener.close("slow")
            return
        if listener.bursting:  # a burst goes faster than live, so it does not wait for the next frame
            listener.retry = asyncio.get_running_loop().call_later(RETRY_S, self._catch_up, listener)

    def _skip_to_live(self, listener: Listener) -> None:
        missed = self._next - 1 - listener.cursor
        if missed > 0:
            listener.cursor = self._next - 1
            listener.gap = True
            listener.skips += 1
            listener.skipped_frames += missed
            self.stats.skips += 1
            self.stats.skipped_frames += missed
