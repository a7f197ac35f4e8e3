"""Fan-out of audio frames: one frame of bytes, written unchanged to every listener's transport.

A frame's bytes (WebSocket header, audio header and payload, or the bare payload) are built once per codec, wire format
and frame length. Delivery is then one ``transport.write`` per listener: no task, no queue and no copy for each of them.

``WebSocketResponse.send_bytes`` would build a header and join it to the payload for every listener in a coroutine (35
to 43 us of CPU per listener-second at two frames a second, against 27 to 29 for the direct write).
``request.transport`` is public API in aiohttp. The sockets are opened with ``compress=False``: aiohttp then writes each
control frame (pong, close) in synchronous ``transport.write`` calls, so that frames cannot interleave.

Threading model
  Event loop     makes every call.
  push()         returns at once; the delivery to the listeners runs in slices, so that 2,000 writes block the loop for
                 no longer than one slice.
  Slow listener  never awaited: it is skipped, then closed (see ``Fanout``).
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
    """Build an unmasked, final WebSocket frame (RFC 6455, section 5.2): 1 is text, 2 binary, 8 close, 9 ping."""
    size = len(payload)
    first = 0x80 | opcode
    if size < 126:
        return struct.pack("!BB", first, size) + payload
    if size < 65536:
        return struct.pack("!BBH", first, 126, size) + payload
    return struct.pack("!BBQ", first, 127, size) + payload


@dataclass(slots=True, eq=False)
class Frame:
    """A frame of encoded audio. Its bytes are built on first use and then shared.

    Attributes:
        sample_pos: the station's sample clock at its first sample.
        n_samples: samples per channel.
        rev: the station's revision at its end.
        build: function that returns the bytes to write and the position of the flags byte (None without flags).
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
        """The bytes to write with the discontinuity flag."""
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
        """Free the bytes; they are built again if needed."""
        self._built = self._after_gap = None


@dataclass(frozen=True, slots=True)
class DropPolicy:
    """Limits for listeners that read too slowly.

    Attributes:
        skip_bytes: unsent bytes above which no frames are sent until half is left; the listener then skips to live.
        close_bytes: unsent bytes above which the connection is closed.
        close_s: time with a full buffer until the connection is closed, seconds.
    """

    skip_bytes: int = 64 * 1024
    close_bytes: int = 256 * 1024
    close_s: float = 10.0


@dataclass(slots=True, eq=False)
class Listener:
    """State of one listener's delivery.

    Attributes:
        transport: transport of the connection.
        cursor: sequence number of the next frame to send.
        gap: True if frames are missing before the next one.
        policy: limits for slow reading.
        on_closed: called once with the reason when the fan-out closes the connection.
        bursting: True while it receives its initial burst or its resumption.
        steady: True if it is attached, up to date and not late: the next frame is written without further checks.
        alive: True after a sign of life since ``heartbeat.py`` last set it to False.
        late_since: time at which its buffer became full (``time.monotonic``); None if it is not full.
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
        """Write a control message. It is never dropped: with a full buffer the connection is closed instead.

        Returns:
            False if the connection is closed, or was closed because of unread data.
        """
        if self.is_closing():
            return False
        if self.buffered() > self.policy.close_bytes:
            self.close("slow")
            return False
        self.write(data)
        return True

    def close(self, reason: str) -> None:
        """Close the connection at once and discard its buffer."""
        self.transport.abort()
        if self.on_closed is not None:
            callback, self.on_closed = self.on_closed, None
            callback(reason)


@dataclass(slots=True)
class FanoutStats:
    """Counters of a fan-out since its start."""

    frames: int = 0
    deliveries: int = 0
    bytes: int = 0
    skips: int = 0
    skipped_frames: int = 0
    closed_slow: int = 0

    def add(self, other: FanoutStats) -> None:
        """Add the counters of another fan-out."""
        self.frames += other.frames
        self.deliveries += other.deliveries
        self.bytes += other.bytes
        self.skips += other.skips
        self.skipped_frames += other.skipped_frames
        self.closed_slow += other.closed_slow


class Fanout:
    """Delivery of the frames of one codec in one wire format to its listeners.

    A listener with a full write buffer (``DropPolicy``) gets no frames until the buffer has drained. It continues with
    the newest frame, flagged as a discontinuity. A burst or a resumption loses nothing: its frames are sent as fast as
    the buffer accepts them. Control messages are never dropped; a listener without room for them is closed.

    Args:
        capacity: number of frames kept for bursts and resumption.
        fresh: number of newest frames that keep their bytes; None: all. Older ones are needed only for long bursts and
            resumption.
        label: name in metrics and logs.
        first: number of the first frame.

    Attributes:
        number: unique number in this process.
    """

    _numbers = itertools.count(1)

    def __init__(self, *, capacity: int, fresh: int | None = None, label: str = "", first: int = 0) -> None:
        self.label = label
        self.number = next(self._numbers)
        self.stats = FanoutStats()
        self.listeners: dict[Listener, None] = {}  # in order of joining
        self._frames: deque[Frame] = deque(maxlen=max(1, capacity))
        self._fresh = capacity if fresh is None else fresh
        self._next = first
        self._unbroken = first - 1  # the oldest frame after which nothing is missing
        self._round: list[Listener] = []
        self._round_handle: asyncio.Handle | None = None
        self._again = False

    @property
    def next_seq(self) -> int:
        """Sequence number of the next frame."""
        return self._next

    @property
    def first_seq(self) -> int:
        """Sequence number of the oldest kept frame."""
        return self._next - len(self._frames)

    def frame(self, seq: int) -> Frame:
        """The kept frame ``seq``; IndexError outside ``first_seq <= seq < next_seq``."""
        index = seq - self.first_seq
        if not 0 <= index < len(self._frames):
            raise IndexError(f"frame {seq} is not kept ({self.first_seq} to {self._next - 1} are)")
        return self._frames[index]

    def attach(self, listener: Listener, *, burst_samples: int = 0) -> None:
        """Start delivery with a burst of the last ``burst_samples`` samples, then live."""
        cursor, samples = self._next, 0
        while cursor > self.first_seq and samples < burst_samples:
            cursor -= 1
            samples += self.frame(cursor).n_samples
        listener.cursor = cursor
        self._add(listener)

    def resume(self, listener: Listener, last_seq: int) -> bool:
        """Resume after frame ``last_seq`` without a gap.

        Returns:
            False if the next frame is no longer kept or was never sent; the listener is then not attached.
        """
        if not self.can_resume(last_seq):
            return False
        listener.cursor = last_seq + 1
        self._add(listener)
        return True

    def can_resume(self, last_seq: int) -> bool:
        """Whether all frames after frame ``last_seq`` are kept."""
        return max(self.first_seq - 1, self._unbroken) <= last_seq < self._next

    def seq_before(self, sample_pos: int) -> int | None:
        """Number of the kept frame that ends at ``sample_pos``; None if there is none."""
        for frame_seq in range(self._next - 1, self.first_seq - 1, -1):
            frame = self.frame(frame_seq)
            if frame.sample_pos + frame.n_samples <= sample_pos:
                return frame_seq if frame.sample_pos + frame.n_samples == sample_pos else None
        return None

    def jump(self, seq: int) -> None:
        """Continue with frame number ``seq`` after missing audio. The kept frames are discarded."""
        if self._round_handle is not None:
            self._round_handle.cancel()
            self._round_handle = None
        self._round.clear()
        self._again = False
        self._frames.clear()
        self._next = self._unbroken = seq
        for listener in self.listeners:
            listener.cursor, listener.gap, listener.steady = seq, True, False

    def detach(self, listener: Listener) -> None:
        """Stop delivery. Idempotent."""
        self.listeners.pop(listener, None)
        listener.attached = listener.steady = False
        if listener.retry is not None:
            listener.retry.cancel()
            listener.retry = None

    def push(self, frame: Frame) -> None:
        """Append a frame and start its delivery to all listeners."""
        self._frames.append(frame)
        self._next += 1
        self.stats.frames += 1
        if len(self._frames) > self._fresh:
            self._frames[-1 - self._fresh].forget()
        if self._round_handle is not None:
            self._again = True  # a second round serves the listeners that this round has passed
            return
        if self.listeners:
            self._start_round()

    def close(self) -> None:
        """Discard the frames and detach the listeners, whose handlers own the connections."""
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
        """Send frames from the cursor on as far as the buffer accepts them; skip or close a slow listener."""
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
        """Wait for a listener with a full buffer, or close it after too long."""
        listener.steady = False
        now = time.monotonic()
        if listener.late_since is None:
            listener.late_since = now
        elif now - listener.late_since > listener.policy.close_s:
            self.stats.closed_slow += 1
            self.detach(listener)
            listener.close("slow")
            return
        if listener.bursting:  # a burst is faster than live audio, so it does not wait for the next frame
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
