"""Decoders of a live input's frames: PCM is checked here, Opus is decoded in a limited process (``opus_worker.py``).

Threading model
  Event loop     every method. ``push`` never waits: a decoder that falls behind loses frames.
  Process        one for each Opus input.
  close()        idempotent; kills the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from riffstream.protocol import AudioFrame, Codec, ProtocolError, split_packets
from riffstream.server.live_input.opus_worker import HEAD

__all__ = ["Decoder", "OpusDecoder", "PcmDecoder", "samples_of"]

LONGEST: Final = 9600  # samples of one frame: 200 ms
PACKET_SAMPLES: Final = 5760  # of the longest Opus packet: 120 ms
BACKLOG: Final = 64 * 1024  # bytes that wait for the decoder, about 4 s
WORKER: Final = (sys.executable, "-m", "riffstream.server.live_input.opus_worker")

Sink = Callable[[NDArray[np.int16], int], None]


class Decoder(Protocol):
    """Interface of a decoder: ``push`` passes frames on to its sink as (samples [n, channels], position)."""

    def push(self, frame: AudioFrame, pos: int) -> None: ...
    def close(self) -> None: ...
    async def wait_closed(self) -> None: ...


def samples_of(frame: AudioFrame, codec: Codec, channels: int) -> int:
    """Number of samples in a frame. Raises ProtocolError if the frame is invalid."""
    if frame.codec is not codec:
        given = frame.codec.name.lower()
        raise ProtocolError("bad_request", f"codec of a frame is {given}; allowed: {codec.name.lower()}", field="codec")
    if not 1 <= frame.n_samples <= LONGEST:
        raise ProtocolError(
            "bad_request", f"n_samples of a frame is {frame.n_samples}; allowed: 1 to {LONGEST}", field="n_samples"
        )
    if codec is Codec.PCM_S16 and len(frame.payload) != frame.n_samples * channels * 2:
        allowed = f"{frame.n_samples * channels * 2} bytes for n_samples {frame.n_samples}, channels {channels}"
        raise ProtocolError("bad_request", f"payload of a frame has {len(frame.payload)} bytes; allowed: {allowed}")
    return frame.n_samples


class PcmDecoder:
    """Decoder of 16-bit samples, interleaved."""

    def __init__(self, channels: int, sink: Sink) -> None:
        self._channels, self._sink = channels, sink

    def push(self, frame: AudioFrame, pos: int) -> None:
        """Pass a checked frame on."""
        self._sink(np.frombuffer(frame.payload, "<i2").reshape(-1, self._channels).astype(np.int16, copy=False), pos)

    def close(self) -> None:
        """Does nothing."""

    async def wait_closed(self) -> None:
        """Does nothing."""


class OpusDecoder:
    """Decoder of Opus packets in a process of its own.

    Args:
        channels: 1 or 2.
        sink: function that receives the samples.
        failed: function that is called once with the reason if the process ends by itself.
        command: command of the process; tests replace it.
    """

    def __init__(
        self, channels: int, sink: Sink, failed: Callable[[str], None], *, command: tuple[str, ...] = WORKER
    ) -> None:
        self._channels, self._sink, self._failed = channels, sink, failed
        self._command = command
        self._places: deque[tuple[int, int]] = deque()  # position and samples of each packet in the process
        self._process: asyncio.subprocess.Process | None = None
        self._early: list[tuple[AudioFrame, int]] = []
        self._task = asyncio.create_task(self._run(), name="live-input-opus")

    def push(self, frame: AudioFrame, pos: int) -> None:
        """Send a frame to the process; it is dropped if the process is behind. Raises ProtocolError."""
        packets = split_packets(frame.payload)
        share = frame.n_samples // max(1, len(packets))
        if not packets or share > PACKET_SAMPLES:
            raise ProtocolError("bad_request", f"a frame has {len(packets)} packets for {frame.n_samples} samples")
        if self._process is None:  # it starts within half a second
            self._early = [*self._early, (frame, pos)][-100:]
            return
        pipe = self._process.stdin
        if pipe is None or pipe.is_closing() or pipe.transport.get_write_buffer_size() > BACKLOG:
            return
        for packet in packets:
            self._places.append((pos, share))
            pipe.write(HEAD.pack(len(packet), share) + packet)
            pos += share

    def close(self) -> None:
        """End the process."""
        self._task.cancel()

    async def wait_closed(self) -> None:
        """Wait for the end of the process, after :meth:`close`."""
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        process = None
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                str(self._channels),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env={
                    "PATH": os.environ.get("PATH", ""),
                    "PYTHONPATH": os.pathsep.join(each for each in sys.path if each),
                },
                start_new_session=True,
            )
            assert process.stdout is not None
            self._process = process
            early, self._early = self._early, []
            for frame, pos in early:
                self.push(frame, pos)
            while True:
                head = await process.stdout.readexactly(2 * self._channels)
                pos, share = self._places.popleft()
                rest = await process.stdout.readexactly((share - 1) * 2 * self._channels)
                self._sink(np.frombuffer(head + rest, "<i2").reshape(-1, self._channels).astype(np.int16), pos)
        except (asyncio.IncompleteReadError, OSError, IndexError):
            self._failed("the Opus decoder ended")
        finally:
            self._process = None
            if process is not None and process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await asyncio.shield(process.wait())
