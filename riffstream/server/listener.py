"""One connection's place in a stream, and when it loses audio.

Threading model: everything runs on the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["DropPolicy", "Listener"]


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
