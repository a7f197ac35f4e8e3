"""Messages between the server process and the generator process.

A message of ``channel.py`` contains the u32 little-endian length of the MessagePack header, the u8 number of columns of
its audio, the header, then raw bytes (float32 interleaved PCM for :class:`Piece`, otherwise nothing). Nothing is
pickled.
"""

from __future__ import annotations

import math
import struct
from typing import Any, Final

import msgspec
import numpy as np
from msgspec import Struct, field

from riffstream.audio.checks import Pcm
from riffstream.errors import ParameterError
from riffstream.journey.journey import DRIFT, ClipSpec
from riffstream.protocol import Likeness

__all__ = [
    "NO_PCM",
    "STILL_BPM",
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
    "InputImage",
    "Job",
    "Loading",
    "Pcm",
    "Picture",
    "Piece",
    "Ready",
    "Runtime",
    "Shutdown",
    "Stages",
    "ToGenerator",
    "Trial",
    "pack",
    "unpack_command",
    "unpack_report",
]


# Tempo at which the time of models without a tempo of their own is not stretched; others are relative to it.
STILL_BPM: Final = 120.0
_PREFIX: Final = struct.Struct("<IB")


class Configure(Struct, frozen=True, tag=True):
    """First message: the factory of the renderer, ``module:function``, which is called with ``options``."""

    factory: str
    options: dict[str, Any]
    threads: int = 0


class InputImage(Struct, frozen=True, kw_only=True):
    """Seed image made of a live input, for one clip.

    Attributes:
        name: name of the image in the folder of live inputs (``models/inputs.py``).
        strength: share of the image in the clip, 0 to 1; sampling starts at time 1 minus it.
        turn: beats by which the image is turned to the left, so that its beats are those of the clip.
    """

    name: str
    strength: float
    turn: int = 0


class Job(Struct, frozen=True, kw_only=True, tag=True):
    """Render one clip of a take.

    Attributes:
        station: name of the station.
        take: number of the take, one continuous audio stream; its jobs arrive in order and their audio is adjacent.
        number: index of the clip in its take, from 0.
        clip: identity of the clip in its station. A known clip is not sampled again but only converted to audio again
            (tempo and key changes).
        spec: musical parameters.
        frames: number of frames; None: the model's own.
        previous: the clip that this one continues, or None.
        sound: clip of another take whose sound the first clip of a take continues, without a join: the music before a
            steer without new words; None: there is none.
        steps: sampler steps; None: the renderer's own.
        guided: False omits guidance: the clip is needed soon, and the model can do without (``Info.spare``).
        draft_steps, draft_end: the audio up to frame ``draft_end`` comes from a draft of the clip with ``draft_steps``
            sampler steps, which is ready earlier; 0: no draft. Renderers without drafts ignore both.
        hops: samples (48 kHz, fractional) from frame to frame, one value for each beat of the clip.
        key: transposition in semitones.
        stems: True for audio of four columns: left, right, and their percussive parts.
        start_frame: first frame to convert to audio; not 0 only if number is 0.
        final: True for the last job of a take: include the samples held back by the vocoder.
        deadline: monotonic time at which its first sample is needed.
        speculative: True for a clip that may not be needed; all other jobs come first.
        rev: the station's revision.
        suspect: True if a generator process ended during this job: it runs alone, after a :class:`Trial`.
        single: True for a clip outside stations (``single_clips.py``): it has all of the model's frames, and a
            :class:`Picture` comes before its audio.
        mask: name of the region to repaint (``diffusion/masks.py``); None: the whole clip.
        input: live input in place of the keyframes' seed images and denoising; None: there is none.
        trace: W3C trace context of the steer that waits for this job; "" without one.
    """

    station: str
    take: int
    number: int
    clip: int
    spec: ClipSpec
    hops: tuple[float, ...]
    frames: int | None = None
    previous: int | None = None
    sound: int | None = None
    steps: int | None = None
    guided: bool = True
    draft_steps: int = 0
    draft_end: int = 0
    key: float = 0.0
    stems: bool = False
    start_frame: int = 0
    final: bool = False
    deadline: float = math.inf
    speculative: bool = False
    rev: int = 0
    suspect: bool = False
    single: bool = False
    mask: str | None = None
    input: InputImage | None = None
    trace: str = ""


class Cancel(Struct, frozen=True, tag=True):
    """Drop a job without audio so far; answered with :class:`Cancelled` unless it is too late."""

    station: str
    take: int
    number: int


class DropTake(Struct, frozen=True, tag=True):
    """Discard a take: its stream and its jobs."""

    station: str
    take: int


class Forget(Struct, frozen=True, tag=True):
    """Discard everything about a deleted station."""

    station: str


class Shutdown(Struct, frozen=True, tag=True):
    """Leave."""


class Loading(Struct, frozen=True, tag=True):
    """The generator is alive and still loading; ``what`` is the current activity for display."""

    what: str


class Runtime(Struct, frozen=True):
    """What evaluates the network now, as ``diffusion.family.Runtime``.

    Attributes:
        name: ``torch`` or ``openvino``; "": there is no network.
        note: why torch evaluates it although another runtime is set; "" otherwise.
        fault: True if the reason is a fault, after which torch stays.
    """

    name: str = ""
    note: str = ""
    fault: bool = False

    def __str__(self) -> str:
        return f"{self.name} ({self.note})" if self.note else self.name


class Info(Struct, frozen=True, kw_only=True):
    """Properties of a renderer and its model.

    Attributes:
        model: name of the model.
        frames: frames of a clip.
        beats: beats of a clip; clips without a musical length are divided evenly.
        beats_per_bar: meter of ``frames`` and ``beats``.
        meters: beats per bar -> frames and beats of a clip (two bars).
        hop: samples at 48 kHz from frame to frame without a set tempo.
        bpm: tempo of the model without a set tempo; None: unknown.
        continues: True if a clip can continue the previous one.
        steps, guidance, denoising, seed_image, drift: the model's defaults.
        spare: True if the model can do without its default guidance, which is for clips with time to spare.
        device: torch device of the model.
        drafts: True if the renderer makes drafts (``Job.draft_end``).
        conditions: True if keyframes may set chords, parts, energy, density and brightness.
        weights: fingerprint of the parameters for logs; "" without parameters.
        runtime: what evaluates the network now; it may change, see :class:`Heartbeat`.
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
    spare: bool = False
    device: str = "cpu"
    drafts: bool = False
    conditions: bool = False
    weights: str = ""
    runtime: Runtime = Runtime()

    def in_meter(self, beats_per_bar: int) -> Info:
        """The properties for another meter. Raises ParameterError if the model does not support it."""
        if beats_per_bar not in self.meters:
            allowed = f"with the model {self.model}: {', '.join(map(str, self.meters))}"
            raise ParameterError("beats_per_bar", beats_per_bar, allowed)
        frames, beats = self.meters[beats_per_bar]
        return msgspec.structs.replace(self, frames=frames, beats=beats, beats_per_bar=beats_per_bar)


class Ready(Struct, frozen=True, tag=True):
    """The generator is warmed up: jobs may be sent. ``seconds``: its loading time.

    A second one on the same pipe means that another generator has taken over, without the earlier one's jobs. The
    server answers with :class:`Configure`; its commands before that were for the earlier one and are dropped.
    """

    info: Info
    seconds: float


class Heartbeat(Struct, frozen=True, tag=True):
    """Sign of life from the generator's main loop.

    Attributes:
        pending: number of jobs in progress.
        rss_mb: resident memory, MB.
        step_s: slowest step since the last heartbeat, seconds.
        busy: share of the time since the last heartbeat in steps, 0 to 1.
        runtime: what evaluates the network now.
    """

    pending: int
    rss_mb: float = 0.0
    step_s: float = 0.0
    busy: float = 0.0
    runtime: Runtime = Runtime()


class Stages(Struct, frozen=True, kw_only=True):
    """Where the time to the first audio of a job went, seconds: waiting for other work, preparation (text and seed
    image), evaluations of the network, decoding, and the vocoder."""

    queue_s: float = 0.0
    text_s: float = 0.0
    denoise_s: float = 0.0
    decode_s: float = 0.0
    vocode_s: float = 0.0


class Piece(Struct, frozen=True, tag=True):
    """Audio of a take, adjacent to the previous piece.

    ``at``: number of samples of the take before this piece; None if the sender does not count them. ``likeness``: how
    near the clip's prompts are to known styles, with the first piece of a clip. ``stages``: of the
    first piece of a job. ``trace``: that of the job.
    """

    station: str
    take: int
    number: int
    at: int | None = None
    likeness: tuple[Likeness, ...] = ()
    stages: Stages | None = None
    trace: str = ""


class Picture(Struct, frozen=True, tag=True):
    """The spectrogram of a single clip; ``jpeg``: a JPEG file."""

    station: str
    take: int
    number: int
    jpeg: bytes


class Trial(Struct, frozen=True, tag=True):
    """A suspect job now runs alone. If the generator ends before the job does, the job is the cause."""

    station: str
    take: int
    number: int


class Done(Struct, frozen=True, tag=True):
    """All audio of a job was sent.

    Attributes:
        sampling_s: seconds of sampling.
        vocoder_s: seconds of the vocoder.
        evaluations: denoiser rows used; 0 for a known clip.
    """

    station: str
    take: int
    number: int
    sampling_s: float = 0.0
    vocoder_s: float = 0.0
    evaluations: int = 0


class Cancelled(Struct, frozen=True, tag=True):
    """A job was dropped before it had any audio."""

    station: str
    take: int
    number: int


class Failed(Struct, frozen=True, tag=True):
    """A job (or, with an empty station, the renderer) failed.

    Attributes:
        kind: parameter, memory, internal, or machine (of a renderer: its machine left, so no job is the cause).
        message: one line for users.
        detail: traceback for the log; "" if there is none or it was sent before.
    """

    station: str
    take: int
    number: int
    kind: str
    message: str
    detail: str = ""


ToGenerator = Configure | Job | Cancel | DropTake | Forget | Shutdown
FromGenerator = Loading | Ready | Heartbeat | Trial | Picture | Piece | Done | Cancelled | Failed

_encoder = msgspec.msgpack.Encoder()
_commands = msgspec.msgpack.Decoder(ToGenerator)
_reports = msgspec.msgpack.Decoder(FromGenerator)
NO_PCM: Final = np.zeros((0, 2), np.float32)


def pack(message: ToGenerator | FromGenerator, pcm: Pcm | None = None) -> bytes:
    """Encode a message with its audio [n, columns] float32."""
    header = _encoder.encode(message)
    body = b"" if pcm is None else np.ascontiguousarray(pcm, np.float32).tobytes()
    return _PREFIX.pack(len(header), 2 if pcm is None else pcm.shape[1]) + header + body


def _split(data: bytes) -> tuple[memoryview, memoryview, int]:
    view = memoryview(data)
    size, columns = _PREFIX.unpack_from(view)
    return view[_PREFIX.size : _PREFIX.size + size], view[_PREFIX.size + size :], columns


def unpack_command(data: bytes) -> ToGenerator:
    """Decode a message to the generator. Raises msgspec.ValidationError."""
    command: ToGenerator = _commands.decode(_split(data)[0])
    return command


def unpack_report(data: bytes) -> tuple[FromGenerator, Pcm]:
    """Decode a message from the generator and its audio [n, columns] (a view). Raises msgspec.ValidationError."""
    header, body, columns = _split(data)
    pcm = np.frombuffer(body, np.float32).reshape(-1, columns) if len(body) else NO_PCM
    return _reports.decode(header), pcm
