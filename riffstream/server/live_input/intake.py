"""Live inputs of a server: one for each station, their limits, and the image of their last beats for the station.

Threading model
  Event loop     every method; nothing here waits.
  Threads        make and write an image at each beat, one at a time for each input.
  Process        decodes Opus (``decoder.py``).
  close()        idempotent; ends every input.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from aiohttp import web
from numpy.typing import NDArray

from riffstream import protocol
from riffstream.generator.messages import InputImage
from riffstream.models.uploads import BEATS
from riffstream.protocol import SAMPLE_RATE, Codec, ProtocolError
from riffstream.server import logs
from riffstream.server.broadcast import Broadcast, Member
from riffstream.server.live_input.decoder import Decoder, OpusDecoder, PcmDecoder, samples_of
from riffstream.server.live_input.images import InputImages
from riffstream.server.live_input.loops import Loop, make_loop
from riffstream.server.live_input.ring import InputRing

__all__ = ["LIVE_INPUTS", "LiveInputs"]

STALL_S: Final = 15.0  # time without frames until the input ends
POLL_S: Final = 0.03
BEHIND: Final = SAMPLE_RATE * 15 // 100  # time from the performer to the server: capture and network
EARLIEST, LATEST = 10 * SAMPLE_RATE, 2 * SAMPLE_RATE  # valid positions, before and after the audible one
SLIP: Final = SAMPLE_RATE * 3 // 2  # distance from the sender's clock at which its audio gets a new position
# Real time and 10 % more, three seconds at once; a frame counts as 5 ms or more.
RATE, BURST, LEAST = 1.1 * SAMPLE_RATE, 3.0 * SAMPLE_RATE, SAMPLE_RATE // 200
FAREWELL_S: Final = 5.0  # frames of an ended input may still be on their way
FLOOD: Final = 10 * SAMPLE_RATE  # dropped samples until the input ends


class _Input:
    """One open input.

    Args:
        broadcast: the station's.
        member: the connection that sends it.
        message: the request.
        images: writer of its images.
        ended: called once with the reason when it ends by itself.
    """

    def __init__(
        self,
        broadcast: Broadcast,
        member: Member,
        message: protocol.Input,
        images: InputImages,
        ended: Callable[[_Input, str], None],
    ) -> None:
        self.broadcast, self.member = broadcast, member
        self.strength = message.strength
        self.status: protocol.InputStatus = "quiet"
        self._images, self._ended = images, ended
        self._codec = Codec.OPUS if message.codec == "opus" else Codec.PCM_S16
        self._channels = message.channels
        self._ring = InputRing(message.channels)
        self._decoder: Decoder = (
            OpusDecoder(message.channels, self._ring.write, self._fail)
            if self._codec is Codec.OPUS
            else PcmDecoder(message.channels, self._ring.write)
        )
        self._next: int | None = None  # position after the last frame without one of its own
        self._tokens, self._refilled = BURST, time.monotonic()
        self._dropped = 0.0
        self._arrived = time.monotonic()
        self._image: str | None = None
        broadcast.station.hear(None)
        self._task = asyncio.create_task(self._listen(), name=f"live-input-{broadcast.station.name}")

    def matches(self, message: protocol.Input) -> bool:
        """Whether a request keeps codec and channels."""
        return (message.codec == "opus") == (self._codec is Codec.OPUS) and message.channels == self._channels

    def frame(self, data: bytes) -> None:
        """Receive a binary frame. Raises ProtocolError if it is invalid; drops it if it comes too fast."""
        frame = protocol.unpack_frame(data)
        n = samples_of(frame, self._codec, self._channels)
        now = time.monotonic()
        self._arrived = now
        pos = self._place(frame.sample_pos, n)
        self._tokens = min(BURST, self._tokens + (now - self._refilled) * RATE)
        self._refilled = now
        cost = max(n, LEAST)
        if cost > self._tokens:
            self._dropped += cost
            if self._dropped > FLOOD:
                self._fail("frames come faster than real time")
            return
        self._tokens -= cost
        self._dropped = max(0.0, self._dropped - cost / 2)
        self._decoder.push(frame, pos)

    def _place(self, given: int, n: int) -> int:
        """Position of a frame on the station's clock."""
        here = self.broadcast.station.sample_pos
        if given and here - EARLIEST <= given <= here + LATEST:
            self._next = None
            return given
        arrived = here - n
        if self._next is None or not -SLIP <= arrived - self._next <= SLIP:
            self._next = max(0, arrived)
        pos = self._next
        self._next += n
        return pos

    async def _listen(self) -> None:
        """Make the image of the last beats at each beat until the input ends."""
        station, last = self.broadcast.station, None
        try:
            while True:
                await asyncio.sleep(POLL_S)
                if time.monotonic() - self._arrived > STALL_S:
                    self._fail(f"no audio for {STALL_S:g} s")
                    return
                beats = station.last_beats(BEHIND)
                if beats is None or beats.first == last:
                    continue
                last = beats.first
                recorded = self._ring.read(beats.edges[0], beats.edges[-1])
                lengths = [end - begin for begin, end in itertools.pairwise(beats.edges)]
                loop, name = await asyncio.to_thread(self._make, recorded, lengths, beats.bpm, beats.key)
                if self._image is not None and self._image not in (name, station.input_used):
                    await asyncio.to_thread(self._images.delete, self._image)
                self._image = name
                station.hear(None if name is None else InputImage(name=name, strength=self.strength), beats.first)
                self._tell(loop)
        except Exception:  # the station continues without the input
            logs.event("a live input failed", level=logging.ERROR, station=station.name, exc_info=True)
            self._fail("an internal error; see the server's log")

    def _make(self, recorded: NDArray[np.int16], lengths: list[int], bpm: float, key: float) -> tuple[Loop, str | None]:
        """Make and write the image. Runs in a thread."""
        loop = make_loop(recorded, lengths)
        if loop.samples is None:
            return loop, None
        missing = (BEATS - len(lengths)) * lengths[-1]  # clips in 3/4 have 6 beats, images have 8
        samples = np.concatenate([loop.samples, loop.samples[:missing]]) if missing > 0 else loop.samples
        return loop, self._images.write(samples, bpm, key)

    def _tell(self, loop: Loop) -> None:
        if loop.status != self.status:
            self.status = loop.status
            self.member.tell(protocol.InputState(status=loop.status, level_db=round(loop.level_db, 1)))

    def _fail(self, reason: str) -> None:
        self._ended(self, reason)

    def close(self) -> None:
        """End it. The station's next clips are without it."""
        self._task.cancel()
        self._decoder.close()
        self.broadcast.station.hear(None, live=False)

    async def wait_closed(self) -> None:
        """Wait for its tasks and its process, after :meth:`close`."""
        await asyncio.gather(self._task, return_exceptions=True)
        await self._decoder.wait_closed()


class LiveInputs:
    """The live inputs of a server, at most one for each station.

    Args:
        folder: folder of uploads, which the generator reads; None: there is none.
        most: inputs at once; 0: none are accepted.
    """

    def __init__(self, folder: Path | None, most: int) -> None:
        self._folder, self._most = folder, most
        self._images: InputImages | None = None
        self._open: dict[str, _Input] = {}
        self._closing: set[asyncio.Task[None]] = set()  # ended inputs whose process still runs
        self._farewells: dict[Member, float] = {}  # connection -> end of the time in which frames are ignored

    @property
    def open(self) -> int:
        """Number of open inputs."""
        return len(self._open)

    def handle(self, broadcast: Broadcast, member: Member, message: protocol.Input) -> None:
        """Handle a request of a connection that may steer; it is answered with ``input``.

        Raises:
            ProtocolError: the server takes no input, or another client's is open.
        """
        name = broadcast.station.name
        current = self._open.get(name)
        if message.action == "stop":
            if current is None or current.member is not member:
                raise ProtocolError("bad_request", "this connection has no live input", id=message.id)
            self._end(current, "stopped", ident=message.id)
            return
        if current is not None and current.member is member and current.matches(message):
            current.strength = message.strength
            member.tell(protocol.InputState(status=current.status, id=message.id))
            return
        if current is not None and current.member is not member and not message.takeover:
            text = "another client's live input is open on this station; takeover ends it"
            raise ProtocolError("busy", text, field="takeover", id=message.id)
        if self._folder is None or not self._most:
            why = "limits.inputs is 0" if not self._most else "it has no writable folder (server.state_dir)"
            raise ProtocolError("forbidden", f"this server takes no live input: {why}", id=message.id)
        if current is not None:
            self._end(current, "taken over by another client" if current.member is not member else "started again")
        if len(self._open) >= self._most:
            text = f"{len(self._open)} live inputs are open already; allowed: {self._most} (limits.inputs)"
            raise ProtocolError("busy", text, id=message.id, retry_after_ms=10_000)
        try:
            self._images = self._images or InputImages(self._folder)
        except OSError as error:
            raise ProtocolError("internal", f"the live input has no folder: {error.strerror}", id=message.id) from None
        self._farewells.pop(member, None)
        self._open[name] = _Input(broadcast, member, message, self._images, self._end)
        member.tell(protocol.InputState(status="quiet", id=message.id))
        broadcast.tell(protocol.Event(kind="input", reason="live"))
        logs.event("live input begins", station=name, codec=message.codec, strength=message.strength)

    def takes(self, broadcast: Broadcast, member: Member) -> bool:
        """Whether a connection's binary frames belong to an input, open or just ended."""
        current = self._open.get(broadcast.station.name)
        if current is not None and current.member is member:
            return True
        return time.monotonic() < self._farewells.get(member, 0.0)

    def frame(self, broadcast: Broadcast, member: Member, data: bytes) -> None:
        """Receive a binary frame. Frames of an ended input are ignored; an invalid frame ends the input."""
        current = self._open.get(broadcast.station.name)
        if current is None or current.member is not member:
            return
        try:
            current.frame(data)
        except ProtocolError as error:
            self._end(current, error.message)

    def leave(self, broadcast: Broadcast, member: Member) -> None:
        """End the input of a closed connection, if it has one."""
        self._farewells.pop(member, None)
        current = self._open.get(broadcast.station.name)
        if current is not None and current.member is member:
            self._end(current, "disconnected")
            self._farewells.pop(member, None)

    async def close(self) -> None:
        """End every input, and wait for the processes of all that have ended. Idempotent."""
        for current in tuple(self._open.values()):
            self._end(current, "the server ends")
        await asyncio.gather(*self._closing)

    def _end(self, current: _Input, reason: str, *, ident: str = "") -> None:
        name = current.broadcast.station.name
        if self._open.get(name) is not current:
            return
        del self._open[name]
        current.close()
        closing = asyncio.create_task(current.wait_closed(), name="live-input-end")
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
        self._farewells[current.member] = time.monotonic() + FAREWELL_S
        current.member.tell(protocol.InputState(status="ended", id=ident, reason=reason))
        current.broadcast.tell(protocol.Event(kind="input", reason="ended"))
        logs.event("live input ends", station=name, reason=reason)


LIVE_INPUTS = web.AppKey("riffstream-live-inputs", LiveInputs)
