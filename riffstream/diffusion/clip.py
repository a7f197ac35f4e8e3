"""Input and output of the engine: ``ClipRequest`` and ``Clip``. Importing this needs no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from riffstream.errors import ParameterError
from riffstream.journey.journey import ClipSpec
from riffstream.ranges import check

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from torch import Tensor

    from riffstream.diffusion.seed_clip import SeedClip

__all__ = ["NEAR_NOISE", "Clip", "ClipRequest", "Evolution", "Opening"]

# Time of a rectified flow above which a step decides instruments, parts and levels: two of eight.
NEAR_NOISE: Final = 0.8


@dataclass(frozen=True, slots=True)
class Evolution:
    """What the next origin of a stream must have.

    Attributes:
        sounds: numbers of the newest sounds of the music, as in ``Opening.sounds``; another one is chosen.
        like: number of the sound that is the origin; another one with similar parts is chosen. None: it is a clip.
        treble_db: least and most treble (``mel.treble_db``).
    """

    sounds: tuple[int, ...] = ()
    like: int | None = None
    treble_db: tuple[float, float] = (-math.inf, math.inf)


@dataclass(frozen=True, slots=True, eq=False)
class ClipRequest:
    """Request to render one clip.

    Attributes:
        spec: prompts, seeds, guidance, denoising and seed images, with the position between two keyframes.
        steps: denoising steps of the full schedule, 1 to 1000; None: the engine's.
        sampler: a name in ``samplers.SAMPLERS``; None: the engine's.
        previous: [C, h, w] latents of the previous clip (``Clip.latents``), for continuation.
        anew: True hides ``previous`` from the network, so that its parts can rest or return; the join is still decoded
            with both clips. Families without native continuation ignore it.
        recalled: [C, h, w] latents of an earlier clip, which the network continues with ``anew``, also without
            ``previous``; None: nothing. Without all of these and a seed image the network continues an opening sound,
            if the model has any (``family.OpeningSounds``).
        opens: True continues an opening sound in place of ``previous`` and ``recalled``, where there is one for the
            words. The join is still decoded with both clips.
        origin: [C, h, w] latents of the sound with which the music began. In the steps near noise (time above
            ``NEAR_NOISE``) the network continues it in place of ``previous`` or ``recalled``; None: it continues the
            same in all steps. Ignored with ``late``, with a seed image, in another metre (another width), in the last
            step, and where the clip continues an opening sound.
        evolves: another opening sound for the words becomes the origin in place of ``origin``, where there is one that
            fits nearly as well; the clip continues it in one step more. None: the origin stays. Ignored with
            ``late``, with a seed image, in another metre, and where the clip begins with an opening sound.
        late: time of a rectified flow (1: noise, 0: clean) above which ``recalled`` is hidden from the network. The
            steps near noise decide parts, levels and chords, so these can change while the instruments stay.
        seed_image: start of img2img in place of the keyframes' ``seed_image``: an encoded seed, latents [C, h, w] (a
            tensor), a spectrogram image (an array uint8 [H, W, 3]), the bytes or the path of an image or audio file, or
            a name in the seed library.
        mask: region to repaint: a name (see ``masks.py``), an array or tensor [H, W] of 0 to 1 or of uint8, or the
            bytes or the path of an image. 1 or white is repainted, 0 or black keeps the seed image.
        frames: T of the clip; None: the model's own.
        span: first and last frame to decode (the last one excluded); None: all. ``Clip.mel`` has these frames only.
        conditions: [columns, conditions of the model], in place of the keyframes' (see ``conditions.py``).
        key: later transposition of the audio in semitones, needed for chords; None: the keyframes' key.
        deadline: time at which the clip is needed, in any clock common to all requests; inf: no deadline.
        turn: the try to go on with, 0 to the model's ``tries`` - 1, if its first step tries several noises: that of a
            draft (``Clip.turn``); None: the model's ear chooses. No effect on clips that try no other noise.
        guided: False omits guidance, for models that can do without: the first clip of a change, and stations that fall
            behind.
        speculative: True for a clip that may not be needed; all other requests come first.
        rev: the station's revision, passed through.
        station: the station's name, passed through.

    Raises:
        ParameterError: naming the field and its range.
    """

    spec: ClipSpec
    steps: int | None = None
    sampler: str | None = None
    previous: Tensor | None = None
    anew: bool = False
    recalled: Tensor | None = None
    opens: bool = False
    origin: Tensor | None = None
    evolves: Evolution | None = None
    late: float = math.inf
    seed_image: SeedClip | Tensor | np.ndarray | bytes | Path | str | None = None
    mask: Tensor | np.ndarray | bytes | Path | str | None = None
    frames: int | None = None
    span: tuple[int, int] | None = None
    conditions: Tensor | np.ndarray | None = None
    key: float | None = None
    deadline: float = math.inf
    turn: int | None = None
    guided: bool = True
    speculative: bool = False
    rev: int = 0
    station: str = ""

    def __post_init__(self) -> None:
        for name in ("steps", "frames", "key"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, check(name, getattr(self, name)))
        if self.turn is not None and self.turn < 0:
            raise ParameterError("turn", self.turn, "0 or more")
        if self.span is not None and not 0 <= self.span[0] < self.span[1]:
            raise ParameterError("span", self.span, "first and last frame, 0 <= first < last")


@dataclass(frozen=True, slots=True, eq=False)
class Opening:
    """The opening sound of a clip.

    Attributes:
        latents: [C, h, w], after the removal of drums and bass that rest; between two keyframes a mix of two sounds.
        sounds: numbers of the sounds in ``family.OpeningSounds``.
        evolved: False: the clip begins with it. True: it is the new origin, and the clip goes on from the clip before.
    """

    latents: Tensor
    sounds: tuple[int, ...]
    evolved: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """One rendered clip.

    Attributes:
        request: the request.
        mel: [A, M, T] float32 mel amplitudes, >= 0, on the CPU.
        latents: [C, h, w] clean latents on the model's device, for ``previous`` of the next clip.
        seconds: engine time of this clip: its share of each of its batches.
        opening: the opening sound with which the clip began, or to which its origin evolved; None: neither.
        turn: the chosen try; 0 is the noise of a clip that tries no other.
        prepare_s, decode_s: parts of ``seconds``: text and seed image, and decoding.
        evaluations: number of denoiser rows: one for each step, one more for each guided step and further try.
        overlap_frames: leading frames of ``mel`` that repeat the end of ``request.previous``; the renderer drops or
            crossfades them. 0 for families with native continuation.
    """

    request: ClipRequest
    mel: Tensor
    latents: Tensor
    seconds: float
    evaluations: int
    overlap_frames: int = 0
    prepare_s: float = 0.0
    decode_s: float = 0.0
    opening: Opening | None = None
    turn: int = 0
