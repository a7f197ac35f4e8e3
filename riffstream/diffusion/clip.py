"""What goes into the engine and what comes out. Importing this needs no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from riffstream.journey.journey import ClipSpec
from riffstream.journey.ranges import check

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from torch import Tensor

__all__ = ["Clip", "ClipRequest"]


@dataclass(frozen=True, slots=True, eq=False)
class ClipRequest:
    """One clip to render.

    Attributes:
        spec: prompts, seeds, guidance, denoising and seed images, with the place between two keyframes.
        steps: denoising steps of the full schedule, 1 to 1000; None: the engine's.
        sampler: a name in ``samplers.SAMPLERS``; None: the engine's.
        previous: [C, h, w] latents of the clip before this one (``Clip.latents``), for continuation.
        seed_image: what img2img starts from, in place of the keyframes' ``seed_image``: latents [C, h, w] (a tensor), a
            spectrogram image (an array uint8 [H, W, 3]), the bytes or the path of an image or audio file, or a name in
            the seed library.
        mask: which part is repainted: a name (see ``masks.py``), an array or tensor [H, W] of 0 to 1 or of uint8, or
            the bytes or the path of an image; 1 or white is repainted, 0 or black keeps the seed image.
        frames: T of the clip; None: the model's own.
        conditions: what each column of the model's tokens should play, [columns, conditions of the model] (see
            ``conditions.py``), in place of what the keyframes say.
        key: semitones by which the sound will be transposed, for chords that keyframes name; None: the keyframes' key.
        deadline: when the clip is needed, in any clock that only has to be the same for all requests; inf: whenever.
        guided: False leaves guidance out and so halves the work: what a station does when it falls behind.
        speculative: insurance that gives way to every request that is not.
        rev: the station's revision, carried through.
        station: the station's name, carried through.

    Raises:
        ParameterError: naming the field and its range.
    """

    spec: ClipSpec
    steps: int | None = None
    sampler: str | None = None
    previous: Tensor | None = None
    seed_image: Tensor | np.ndarray | bytes | Path | str | None = None
    mask: Tensor | np.ndarray | bytes | Path | str | None = None
    frames: int | None = None
    conditions: Tensor | np.ndarray | None = None
    key: float | None = None
    deadline: float = math.inf
    guided: bool = True
    speculative: bool = False
    rev: int = 0
    station: str = ""

    def __post_init__(self) -> None:
        for name in ("steps", "frames", "key"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, check(name, getattr(self, name)))


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """One rendered clip.

    Attributes:
        request: what was asked.
        mel: [A, M, T] float32 mel amplitudes, >= 0, on the CPU.
        latents: [C, h, w] clean latents on the model's device: ``previous`` of the next clip.
        seconds: engine time spent on this clip, its share of each batch it was in.
        evaluations: rows of the denoiser that it took (a guided step takes two).
        overlap_frames: leading frames of ``mel`` that repeat the end of ``request.previous``; the renderer drops or
            crossfades them. 0 for families that continue by themselves.
    """

    request: ClipRequest
    mel: Tensor
    latents: Tensor
    seconds: float
    evaluations: int
    overlap_frames: int = 0
