"""Single clips outside stations: one request, one clip with its picture, through the generator's batches.

A request survives the end of a generator process: the next process makes it alone (``isolation.py``). If that process
ends too, the request is the cause and fails.

Threading model
  Event loop   makes every call and receives every report.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

import msgspec
import numpy as np

from riffstream.audio.checks import Pcm
from riffstream.errors import RiffstreamError
from riffstream.generator.messages import (
    STILL_BPM,
    Cancel,
    Done,
    DropTake,
    Failed,
    Forget,
    FromGenerator,
    Info,
    Job,
    Picture,
    Piece,
    ToGenerator,
    Trial,
)
from riffstream.journey.keyframe import ClipSpec

__all__ = ["SingleClip", "SingleClipError", "SingleClips", "seat_name", "seat_of"]

PREFIX: Final = "/clips/"  # of the names that take a station's place in jobs; no station has such a name
PATIENCE_S: Final = 10.0  # deadline of a clip among the speculative clips of stations


def seat_name(model: str) -> str:
    """Name of the seat of a model's single clips. The name of a clip is this and its number."""
    return f"{PREFIX}{model}/"


def seat_of(name: str) -> str:
    """Name of the seat that a name in the messages belongs to: a station's own, or that of a clip's model."""
    return name[: name.rindex("/") + 1] if name.startswith(PREFIX) else name


class SingleClipError(RiffstreamError):
    """A clip that cannot be made. ``kind``: ``parameter`` (of the request), ``internal`` or ``lost``."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class SingleClip:
    """Audio [n, 2] float32 at 48 kHz, without a set level, and a JPEG file of the spectrogram."""

    pcm: Pcm
    picture: bytes


@dataclass(slots=True, eq=False)
class _Request:
    job: Job
    result: asyncio.Future[SingleClip]
    pieces: list[Pcm] = field(default_factory=list)
    picture: bytes = b""
    alone: bool = False  # True if it is the only clip in the generator


class SingleClips:
    """Requests for single clips of one model.

    Args:
        send: function that sends messages to the generator; it drops them without one.
        model: name of the model; "": that of ``[generator]``.
        clock: monotonic clock, seconds.
    """

    def __init__(
        self,
        send: Callable[[Iterable[ToGenerator]], None],
        model: str = "",
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._send, self._clock = send, clock
        self._requests: dict[str, _Request] = {}
        self._names = (f"{seat_name(model)}{number}" for number in itertools.count())
        self._ready = False

    @property
    def waiting(self) -> int:
        """Number of clips in progress."""
        return len(self._requests)

    async def render(
        self,
        spec: ClipSpec,
        info: Info,
        *,
        steps: int | None = None,
        guided: bool = True,
        mask: str | None = None,
        bpm: float | None = None,
        key: float = 0.0,
    ) -> SingleClip:
        """Make one clip. A cancelled call withdraws it from the generator.

        Args:
            spec: what to play.
            info: the generator's model.
            steps: sampler steps; None: the model's.
            guided: see ``Job``.
            mask: name of the region to repaint; None: all.
            bpm: tempo, for models without a beat grid relative to 120; None: the model's.
            key: transposition in semitones.

        Raises:
            SingleClipError: the generator cannot make it.
        """
        name = next(self._names)
        hop = info.hop if bpm is None else info.hop * (info.bpm or STILL_BPM) / bpm
        job = Job(
            station=name,
            take=0,
            number=0,
            clip=0,
            spec=spec,
            hops=(hop,) * info.beats,
            frames=info.frames if info.frames != info.meters[4][0] else None,
            steps=steps,
            guided=guided,
            key=key,
            final=True,
            deadline=self._clock() + PATIENCE_S,
            speculative=True,  # the music of stations comes first
            single=True,
            mask=mask,
        )
        request = self._requests[name] = _Request(job, asyncio.get_running_loop().create_future())
        if self._ready:
            self._send([job])
        try:
            return await request.result
        finally:
            del self._requests[name]
            if request.result.cancelled():
                self._send([Cancel(name, 0, 0), DropTake(name, 0)])
            self._send([Forget(name)])

    def connect(self) -> None:
        """Send all requests to a new generator."""
        self._ready = True
        self._send([request.job for request in self._requests.values()])

    def disconnect(self, *, blame: bool = True) -> None:
        """Keep the requests for the next generator, except one that was alone in this one.

        ``blame``: False if no clip can be the cause of the end.
        """
        self._ready = False
        for request in self._requests.values():
            request.pieces.clear()
            if not blame:
                request.alone = False
                continue
            request.job = msgspec.structs.replace(request.job, suspect=True)
            if request.alone:
                self._fail(request, SingleClipError("lost", "the generator ended twice while it made this clip"))

    def report(self, message: FromGenerator, pcm: Pcm) -> bool:
        """Take a report; False if it is not about a single clip."""
        name = getattr(message, "station", "")
        if not name.startswith(PREFIX):
            return False
        request = self._requests.get(name)
        if request is None or request.result.done():
            return True
        if isinstance(message, Trial):
            request.alone = True
        elif isinstance(message, Picture):
            request.picture = message.jpeg
        elif isinstance(message, Piece):
            request.pieces.append(pcm)
        elif isinstance(message, Failed):
            kind = "parameter" if message.kind == "parameter" else "internal"
            self._fail(request, SingleClipError(kind, message.message))
        elif isinstance(message, Done):
            request.result.set_result(SingleClip(np.concatenate(request.pieces), request.picture))
        return True

    def close(self) -> None:
        """Fail all requests, because the generator ends. Idempotent."""
        self._ready = False
        for request in self._requests.values():
            self._fail(request, SingleClipError("lost", "the server is about to restart"))

    @staticmethod
    def _fail(request: _Request, error: SingleClipError) -> None:
        if not request.result.done():
            request.result.set_exception(error)
