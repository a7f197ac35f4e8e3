"""What the server's process and the generator's say to each other over their pipe.

A message is one of ``channel.py``'s: u32 little-endian length of the MessagePack header, the header, then raw
bytes (float32 interleaved PCM, for :class:`Piece`; nothing otherwise). Nothing is pickled.
"""

from __future__ import annotations

import math
import struct
from typing import Any, Final

import msgspec
import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

from riffstream.errors import ParameterError
from riffstream.journey.journey import DRIFT, ClipSpec

__all__ = [
    "NO_PCM",
    "Cancel",
    "Cancelled",
    "Configure",
    "Done",
    "DropTake",
    "Failed",
    "Forget",
    "FromGenerator",
    "Heartbeat",
    "Info",
    "Job",
    "Loading",
    "Pcm",
    "Piece",
    "Ready",
    "Shutdown",
    "ToGenerator",
    "Trial",
    "pack",
    "unpack_command",
    "unpack_report",
]

Pcm = NDArray[np.float32]  # [n, 2], interleaved in memory, in [-1, 1]

_LENGTH: Final = struct.Struct("<I")


class Configure(Struct, frozen=True, tag=True):
    """First message: how to make the renderer. ``factory`` is ``module:function``, called with ``options``."""

    factory: str
    options: dict[str, Any]
    threads: int = 0


class Job(Struct, frozen=True, kw_only=True, tag=True):
    """Render one clip of a take.

    Attributes:
        station, take: which stream of sound it belongs to; jobs of a take arrive in order and their audio is adjacent.
        number: of the clip within its take, from 0.
        clip: identity of the clip within its station. A clip made before under this number is not sampled again, only
            turned into audio again (tempo and key changes).
        spec: what to play.
        frames: of the clip, where they are not as many as the model has by itself.
        previous: the clip that this one continues, or None.
        steps: of the sampler; None: the renderer's own.
        hops: samples (48 kHz, fractional) from frame to frame, one for each beat of the clip.
        key: semitones.
        start_frame: first frame turned into audio; not 0 only where number is 0.
        final: nothing follows in this take: include what the vocoder holds back.
        deadline: monotonic time at which its first sample is needed.
        speculative: insurance, gives way to everything else.
        rev: the station's revision.
        suspect: the generator ended while it worked on this before: it is worked on alone, after a :class:`Trial`.
    """

    station: str
    take: int
    number: int
    clip: int
    spec: ClipSpec
    hops: tuple[float, ...]
    frames: int | None = None
    previous: int | None = None
    steps: int | None = None
    key: float = 0.0
    start_frame: int = 0
    final: bool = False
    deadline: float = math.inf
    speculative: bool = False
    rev: int = 0
    suspect: bool = False


class Cancel(Struct, frozen=True, tag=True):
    """Drop a job whose audio has not begun; answered with :class:`Cancelled` unless it comes too late."""

    station: str
    take: int
    number: int


class DropTake(Struct, frozen=True, tag=True):
    """A take will not be continued: forget its stream and its jobs."""

    station: str
    take: int


class Forget(Struct, frozen=True, tag=True):
    """A station is gone: forget everything about it."""

    station: str


class Shutdown(Struct, frozen=True, tag=True):
    """Leave."""


class Loading(Struct, frozen=True, tag=True):
    """The generator is alive and still loading; ``what`` is for people."""

    what: str


class Info(Struct, frozen=True, kw_only=True):
    """What a renderer makes.

    Attributes:
        model: its name.
        frames, beats: of a clip. Where a model's clips have no musical length, ``beats`` divides them evenly.
        beats_per_bar: of the meter that these are for. meters: beats of a bar -> frames and beats of a clip (two bars).
        hop: samples at 48 kHz from frame to frame where the tempo is not set.
        bpm: the model's tempo where none is set; None: unknown.
        continues: clips may continue one another.
        steps, guidance, denoising, seed_image, drift: the model's defaults.
        conditions: whether keyframes may name chords, parts, energy, density and brightness.
        weights: a fingerprint of the parameters, for logs; "" where there are none.
    """

    model: str
    frames: int = 512
    beats: int = 8
    beats_per_bar: int = 4
    meters: dict[int, tuple[int, int]] = field(default_factory=lambda: {4: (512, 8), 3: (384, 6)})
    hop: float = 375.0
    bpm: float | None = 120.0
    continues: bool = True
    steps: int = 20
    guidance: float = 3.0
    denoising: float = 1.0
    seed_image: str | None = None
    drift: int = DRIFT
    device: str = "cpu"
    conditions: bool = False
    weights: str = ""

    def in_meter(self, beats_per_bar: int) -> Info:
        """The same for a station that plays so many beats to the bar. Raises ParameterError: the model cannot."""
        if beats_per_bar not in self.meters:
            allowed = f"with the model {self.model}: {', '.join(map(str, self.meters))}"
            raise ParameterError("beats_per_bar", beats_per_bar, allowed)
        frames, beats = self.meters[beats_per_bar]
        return msgspec.structs.replace(self, frames=frames, beats=beats, beats_per_bar=beats_per_bar)


class Ready(Struct, frozen=True, tag=True):
    """Warm: jobs may be sent."""

    info: Info
    seconds: float


class Heartbeat(Struct, frozen=True, tag=True):
    """The generator's main loop turns. ``pending``: jobs in hand; ``step_s``: its slowest step since the last one."""

    pending: int
    rss_mb: float = 0.0
    step_s: float = 0.0


class Piece(Struct, frozen=True, tag=True):
    """Some audio of a take: the samples that follow those of the piece before.

    ``at``: how many samples of the take came before; None: the sender keeps no account.
    """

    station: str
    take: int
    number: int
    at: int | None = None


class Trial(Struct, frozen=True, tag=True):
    """Work on a suspect begins now, and on nothing else: if the generator ends before the job does, it is at fault."""

    station: str
    take: int
    number: int


class Done(Struct, frozen=True, tag=True):
    """All audio of a job was sent. ``sampling_s``, ``vocoder_s``: what it cost; ``evaluations``: 0 for a known clip."""

    station: str
    take: int
    number: int
    sampling_s: float = 0.0
    vocoder_s: float = 0.0
    evaluations: int = 0


class Cancelled(Struct, frozen=True, tag=True):
    """A job was dropped before any of its audio was made."""

    station: str
    take: int
    number: int


class Failed(Struct, frozen=True, tag=True):
    """A job (or, with an empty station, the renderer) failed.

    Attributes:
        kind: parameter, memory or internal.
        message: one line, for people.
        detail: a traceback for the log; "" where there is none or it was sent before.
    """

    station: str
    take: int
    number: int
    kind: str
    message: str
    detail: str = ""


ToGenerator = Configure | Job | Cancel | DropTake | Forget | Shutdown
FromGenerator = Loading | Ready | Heartbeat | Trial | Piece | Done | Cancelled | Failed

_encoder = msgspec.msgpack.Encoder()
_commands = msgspec.msgpack.Decoder(ToGenerator)
_reports = msgspec.msgpack.Decoder(FromGenerator)
NO_PCM: Final = np.zeros((0, 2), np.float32)


def pack(message: ToGenerator | FromGenerator, pcm: Pcm | None = None) -> bytes:
    """A message, with its audio [n, 2] float32, as bytes."""
    header = _encoder.encode(message)
    body = b"" if pcm is None else np.ascontiguousarray(pcm, np.float32).tobytes()
    return _LENGTH.pack(len(header)) + header + body


def _split(data: bytes) -> tuple[memoryview, memoryview]:
    view = memoryview(data)
    (size,) = _LENGTH.unpack_from(view)
    return view[_LENGTH.size : _LENGTH.size + size], view[_LENGTH.size + size :]


def unpack_command(data: bytes) -> ToGenerator:
    """Bytes as a message to the generator. Raises msgspec.ValidationError."""
    command: ToGenerator = _commands.decode(_split(data)[0])
    return command


def unpack_report(data: bytes) -> tuple[FromGenerator, Pcm]:
    """Bytes as a message from the generator and its audio [n, 2] (a view). Raises msgspec.ValidationError."""
    header, body = _split(data)
    pcm = np.frombuffer(body, np.float32).reshape(-1, 2) if len(body) else NO_PCM
    return _reports.decode(header), pcm
