"""Audio of a single seed image, rendered by the generator when no station needs it.

Threading model
  Event loop   makes every call. Nothing blocks.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from typing import Final

import numpy as np

from riffstream.errors import RiffstreamError
from riffstream.generator.messages import (
    NO_PCM,
    Done,
    DropTake,
    Failed,
    Forget,
    FromGenerator,
    Info,
    Job,
    Pcm,
    Piece,
    ToGenerator,
)
from riffstream.journey.journey import ClipSpec, Keyframe

__all__ = ["AUDITION", "AuditionError", "Auditions", "seed_job"]

AUDITION: Final = "~seed"  # instead of a station's name; no station may have it
LONGEST_S: Final = 20.0


class AuditionError(RiffstreamError):
    """The generator cannot render a seed image now."""


def seed_job(info: Info, name: str, *, bpm: float, key: float = 0.0, beats: int = 8, number: int = 0) -> Job:
    """Job of a seed image without denoising: a loop of the library sounds through codec and vocoder.

    Args:
        info: properties of the model.
        name: name of the seed image.
        bpm: tempo in beats per minute, for models with a beat grid.
        key: transposition in semitones.
        beats: beats in the seed image: 8, or 6 in 3/4.
        number: number of the take and clip.
    """
    frames, own = next((size for size in info.meters.values() if size[1] == beats), (info.frames, info.beats))
    hop = info.hop if info.bpm is None else info.hop * info.bpm / bpm
    keyframe = Keyframe.of("a seed image", seed_image=name, denoising=0.0, guidance=1.0)
    return Job(
        station=AUDITION,
        take=number,
        number=0,
        clip=number,
        spec=ClipSpec(keyframe, keyframe, 0.0),
        hops=(hop,) * own,
        frames=None if frames == info.frames else frames,
        key=key,
        final=True,
        speculative=True,
    )


class Auditions:
    """Renderer of seed images, one at a time, with the lowest priority.

    Args:
        send: function that sends messages to the generator.
        timeout_s: longest wait for the audio, seconds.
    """

    def __init__(self, send: Callable[[list[ToGenerator]], None], *, timeout_s: float = LONGEST_S) -> None:
        self._send = send
        self._timeout_s = timeout_s
        self._turn = asyncio.Lock()
        self._numbers = itertools.count()
        self._take = -1
        self._pieces: list[Pcm] = []
        self._waiting: asyncio.Future[Pcm] | None = None

    async def render(self, info: Info, name: str, *, bpm: float, key: float, beats: int) -> Pcm:
        """Audio of a seed image, [n, 2] float32 at 48 kHz; arguments as in :func:`seed_job`.

        Raises:
            AuditionError: the generator fails, ends or is too busy.
        """
        try:
            async with asyncio.timeout(self._timeout_s), self._turn:
                self._take = next(self._numbers)
                self._pieces = []
                self._waiting = asyncio.get_running_loop().create_future()
                try:
                    self._send([seed_job(info, name, bpm=bpm, key=key, beats=beats, number=self._take)])
                    return await self._waiting
                finally:
                    self._waiting = None
                    self._send([DropTake(AUDITION, self._take), Forget(AUDITION)])
        except TimeoutError:
            raise AuditionError(f"the generator is busy; it had no time for {name}") from None

    def report(self, message: FromGenerator, pcm: Pcm) -> None:
        """Handle a message of the generator about :data:`AUDITION`."""
        waiting = self._waiting
        if waiting is None or waiting.done() or getattr(message, "take", None) != self._take:
            return
        if isinstance(message, Piece):
            self._pieces.append(np.array(pcm))  # a view of the received message
        elif isinstance(message, Failed):
            waiting.set_exception(AuditionError(message.message))
        elif isinstance(message, Done):
            waiting.set_result(np.concatenate(self._pieces) if self._pieces else NO_PCM)

    def lost(self, reason: str) -> None:
        """Handle the end of the generator."""
        with contextlib.suppress(asyncio.InvalidStateError):
            if self._waiting is not None:
                self._waiting.set_exception(AuditionError(f"the generator ended: {reason}"))
