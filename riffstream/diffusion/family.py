"""The common interface of all model families.

Samplers, engine and station use a model only through :class:`Family`: text encoder, denoiser, latent codec, training
schedule and spectrogram parameters. Stable Diffusion (``sd/``) and the embedded model (``mini/``) implement it.

Threading model
  One thread (the generator's, or the caller's) makes every call; a family holds no locks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from riffstream.diffusion.seed_clip import SeedClip
from riffstream.journey.conditions import Levels
from riffstream.journey.journey import DRIFT
from riffstream.journey.prompts import WeightedText
from riffstream.spectrogram.params import SpectrogramParams

__all__ = ["Defaults", "Ear", "Family", "Runtime", "TextEmbedding", "TrainingSchedule"]


@dataclass(frozen=True, slots=True)
class TrainingSchedule:
    """Training target and noise schedule of a denoiser.

    ``kind="ddpm"``: betas as in diffusers' ``scheduler_config.json``. ``kind="flow"``: rectified flow,
    ``x_t = (1 - t) x_0 + t noise`` with t in [0, 1] and the prediction ``noise - x_0`` (Liu et al. 2022,
    arXiv:2209.03003). ``shift`` of a flow above 1 places more steps near noise, which decides the structure of a clip
    (Esser et al. 2024, arXiv:2403.03206, section 5.3.2); 1 spaces steps evenly in t.
    """

    kind: Literal["ddpm", "flow"]
    prediction: Literal["epsilon", "v_prediction", "sample", "flow"]
    train_steps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "scaled_linear"
    set_alpha_to_one: bool = False
    steps_offset: int = 1
    shift: float = 1.0


@dataclass(frozen=True, slots=True)
class Defaults:
    """A model's recommended parameters."""

    sampler: str
    steps: int
    guidance: float
    denoising: float
    bpm: float | None = None  # None: the clip's tempo is fixed by its frames
    seed_image: str | None = None  # "auto": the library's nearest loop; "none": noise alone; None: with opening sounds
    drift: int = DRIFT  # clips from one seed to the next (``Journey.drift``)
    silence: float = 0.0  # emphasis of silent parts, and of the density (``mini/emphasis.py``)
    contrast: float = 1.0
    # Guidance applies at times above this (a rectified flow's: 1 is noise). The model does without it where time is
    # short. None: at all times, and the model needs it.
    above: float | None = None
    tries: int = 4  # noises that a clip tries in its first step where music begins or changes, for models with an ear


@dataclass(frozen=True, slots=True)
class TextEmbedding:
    """Embeddings of a batch of prompts.

    Attributes:
        tokens: [B, S, D] float, one vector a token.
        mask: [B, S] float32 >= 0, weight of each token: 0 ignores it, 1 is normal, other values occur in prompt mixes
            and for emphasis. Attention multiplies the exponentiated scores by it (adds ``log(mask)`` to the scores). A
            pooled embedding is the mean weighted by it. None: all weights are 1 (Stable Diffusion).
    """

    tokens: Tensor
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        if self.mask is not None and self.mask.dtype != torch.float32:
            object.__setattr__(self, "mask", self.mask.float())

    @property
    def bias(self) -> Tensor | None:
        """Addend of the attention scores, [B, 1, S] float32: ``log(mask)``, or -10000 for ignored tokens."""
        if self.mask is None:
            return None
        return self.mask.clamp_min(1e-30).log().masked_fill(self.mask <= 0, -1e4).unsqueeze(1)

    def pooled(self) -> Tensor:
        """Mean of the tokens weighted by the mask, [B, D]."""
        if self.mask is None:
            return self.tokens.mean(1)
        return (self.tokens * self.mask[..., None]).sum(1) / self.mask.sum(1, keepdim=True).clamp_min(1e-6)

    def __len__(self) -> int:
        return self.tokens.shape[0]

    def row(self, index: int) -> TextEmbedding:
        """Embedding of one row of the batch, [1, S, D]."""
        return TextEmbedding(
            self.tokens[index : index + 1], None if self.mask is None else self.mask[index : index + 1]
        )

    @staticmethod
    def stack(rows: Sequence[TextEmbedding]) -> TextEmbedding:
        """Join embeddings along the batch; shorter ones are padded with ignored tokens."""
        if not rows:
            raise ValueError("stack needs at least one embedding")
        length = max(row.tokens.shape[1] for row in rows)
        if all(row.mask is None and row.tokens.shape[1] == length for row in rows):
            return TextEmbedding(torch.cat([row.tokens for row in rows]))
        tokens = [F.pad(row.tokens, (0, 0, 0, length - row.tokens.shape[1])) for row in rows]
        ones = [row.tokens.new_ones(row.tokens.shape[:2], dtype=torch.float32) for row in rows]
        masks = [own if row.mask is None else row.mask.float() for own, row in zip(ones, rows, strict=True)]
        return TextEmbedding(torch.cat(tokens), torch.cat([F.pad(mask, (0, length - mask.shape[1])) for mask in masks]))


@dataclass(frozen=True, slots=True)
class Runtime:
    """What evaluates the network now.

    Attributes:
        name: ``torch`` or ``openvino``.
        note: why torch evaluates it although another runtime is set; "" otherwise.
        fault: True if the reason is a fault, after which torch stays.
    """

    name: str = "torch"
    note: str = ""
    fault: bool = False


class OpeningSounds(Protocol):
    """Sounds that a first clip continues, unheard.

    Attributes:
        identity: fingerprint of the set.
    """

    identity: str

    def choose(
        self,
        vector: Tensor,
        pick: int,
        *,
        beats: float,
        asked: Levels | None = None,
        besides: Collection[int] | None = None,
        like: int | None = None,
    ) -> int | None:
        """Index of a sound for a prompt with sentence vector [D] of length 1; None: there is none.

        Args:
            pick: any number; another one may choose another sound among those that fit nearly as well.
            beats: length of the clip.
            asked: parts and levels of the clip; None: words alone.
            besides: sounds that are not chosen; the choice may be wider. None: the usual choice.
            like: a sound with the same style, and similar drums, bass and levels; None: any.
        """

    def latents(self, index: int) -> Tensor:
        """Latents of a sound, float32 [C, h, w]."""

    def lean(self, text: TextEmbedding) -> TextEmbedding:
        """A prompt [1, S, D], nearer to the captions of sounds that fit it."""


class Ear(Protocol):
    """A judge of first estimates of a clip.

    Attributes:
        identity: fingerprint of the judge.
    """

    identity: str

    def fit(self, clips: Tensor, vector: Tensor | None, conditions: Tensor | None) -> Tensor:
        """How well each estimate [B, C, h, w] of one clip has what is asked, [B] on the CPU; larger is better.

        Args:
            vector: sentence vector [D] of the words, of length 1; None: no words.
            conditions: of the clip, [columns, conditions]; None: none.
        """


class Family(ABC):
    """A loaded model: the base class of all families.

    Shape letters: B clips, C latent channels, h x w latent grid, A audio channels, M mel bins, T frames.
    """

    name: str
    params: SpectrogramParams
    schedule: TrainingSchedule
    defaults: Defaults
    device: torch.device
    dtype: torch.dtype
    frames: int  # T of a clip at the model's own size
    beats: int | None  # beats in a clip; None where a clip has no fixed musical length
    continues: bool  # True if ``denoise`` accepts ``previous``
    text_length: int  # S of one chunk of text, start and end marks included
    # Evaluate both rows of a guided clip that is alone one after the other. The rounding of a batch of two depends on
    # the number of threads; a row alone is the same with any number, so a server's log replays exactly elsewhere.
    exact_alone: bool = False
    noise_limit: float | None = None  # standard deviations at which noise is clipped (see ``NoiseStream``)
    context: int = 0  # latent columns of the previous clip that influence the decoding of a clip's beginning
    low_first: bool = False  # True if the first latent row holds the lowest notes (in pictures it holds the highest)
    conditions: int = 0  # number of conditions for each column of tokens; 0: none
    condition_columns: int = 0  # columns of tokens in a clip of the model's own size
    bars: int = 2  # in a clip
    text_chunks: int = 1  # maximum chunks of ``encode_weighted`` and ``denoise``
    sounds: OpeningSounds | None = None  # for families with native continuation
    ear: Ear | None = None  # for rectified flows

    @abstractmethod
    def latent_shape(self, frames: int | None = None) -> tuple[int, int, int]:
        """Latent shape (C, h, w) of a clip of ``frames`` frames (the model's own size by default)."""

    @abstractmethod
    def encode_text(self, texts: Sequence[str]) -> TextEmbedding:
        """Encode prompts without weights, each in one chunk; longer text is cut with a warning."""

    def count_chunks(self, prompt: Sequence[WeightedText]) -> int:
        """Number of chunks of ``text_length`` tokens that a prompt fills, 1 to ``text_chunks``."""
        return 1

    def encode_weighted(self, prompt: Sequence[WeightedText], chunks: int = 1) -> TextEmbedding:
        """Encode one prompt with its weights in ``chunks`` chunks.

        ``text.PromptEncoder`` calls it. Families with access to the tokens of their text encoder override it and
        ``count_chunks`` (``tokens.py`` has the chunking). This default ignores weights inside a prompt.

        Args:
            prompt: the parts from ``prompts.parse_weights``.
            chunks: 1 to ``text_chunks``; shorter text is padded, longer text is cut with a warning.

        Returns:
            [1, S, D]; S = chunks * text_length for families without a mask.
        """
        return self.encode_text(["".join(run.text for run in prompt)])

    def lean(self, text: TextEmbedding) -> TextEmbedding:
        """The embedding of one prompt [1, S, D] for a clip that words alone lead: nearer to the wording of a caption,
        where the family has one. By default unchanged."""
        return text

    @abstractmethod
    def denoise(
        self,
        x: Tensor,
        t: Tensor,
        text: TextEmbedding,
        *,
        previous: Tensor | None = None,
        previous_mask: Tensor | None = None,
        conditions: Tensor | None = None,
    ) -> Tensor:
        """One evaluation of the network.

        Args:
            x: [B, C, h, w] noisy latents.
            t: [B] timesteps: the training index (ddpm) or t in [0, 1] (flow). Each clip may have its own.
            text: B embeddings.
            previous: [B, C, h, w] clean latents of the previous clips, for continuation.
            previous_mask: [B] bool, False for a clip without a previous one (its row of ``previous`` is ignored).
            conditions: [B, columns of tokens, ``conditions``], zeros for a clip without; only for families with
                conditions.

        Returns:
            [B, C, h, w] float32 prediction of the kind ``schedule.prediction``.
        """

    @abstractmethod
    def encode_mel(self, mel: Tensor, *, noise: Tensor | None = None) -> Tensor:
        """Encode mel amplitudes [B, A, M, T] to latents [B, C, h, w]; ``noise`` samples the posterior, if any."""

    @abstractmethod
    def encode_image(self, image: np.ndarray, *, noise: Tensor | None = None) -> Tensor:
        """Encode a spectrogram image, uint8 [H, W, 3], to latents [1, C, h, w]."""

    @abstractmethod
    def decode_mel(self, latents: Tensor) -> Tensor:
        """Decode latents [B, C, h, w] to mel amplitudes [B, A, M, T], float32, >= 0."""

    def seed_clip(self, mel: Tensor) -> SeedClip:
        """Encode a seed image, mel amplitudes [A, M, T]. Families that restore also keep the sound."""
        return SeedClip(self.encode_mel(mel[None])[0])

    def picture_clip(self, image: np.ndarray) -> SeedClip:
        """:meth:`seed_clip` of a spectrogram image, uint8 [H, W, 3]."""
        return SeedClip(self.encode_image(image)[0])

    def start_time(self, denoising: float) -> float:
        """Part of the schedule, 0 to 1, for a distance of ``denoising`` from the seed image. By default equal."""
        return denoising

    def distance(self, start: float) -> float:
        """Inverse of :meth:`start_time`."""
        return start

    def restore(self, mel: Tensor, decoded: Tensor, sound: Tensor, share: Tensor) -> Tensor:
        """Give a decoded clip back what the codec lost of its seed image. By default nothing.

        Args:
            mel: [A, M, T] amplitudes of the clip.
            decoded: [A, M, T] amplitudes of the seed image's latents, decoded in the same way.
            sound: [A, M, T] amplitudes of the seed image.
            share: [M, T], 0 to 1: how much of the difference between the last two the clip gets.

        Returns:
            [A, M, T] amplitudes. Where ``mel`` is ``decoded`` and the share is 1, they are ``sound``.
        """
        return mel

    @abstractmethod
    def decode_image(self, latents: Tensor) -> np.ndarray:
        """Decode latents [B, C, h, w] to spectrogram images, uint8 [B, H, W, 3]."""

    @property
    def runtime(self) -> Runtime:
        """What evaluates the network now."""
        return Runtime()

    def warm_up(self) -> None:  # noqa: B027  (optional: most families need none)
        """Run each part once, so that the first clip is as fast as later ones."""
