"""The one interface behind which every checkpoint family stands.

The sampler, the engine and the station know a model only through :class:`Family`: text encoder, denoiser, latent codec,
training schedule and spectrogram parameters. Stable Diffusion (``sd.py``) and the embedded model (``mini.py``)
implement it.

Threading model
  One thread (the generator's, or the caller's) makes every call; a family holds no locks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from riffstream.spectrogram.params import SpectrogramParams

__all__ = ["Defaults", "Family", "TextEmbedding", "TrainingSchedule"]


@dataclass(frozen=True, slots=True)
class TrainingSchedule:
    """What the denoiser was trained to predict, and along which noise schedule.

    ``kind="ddpm"``: betas as in diffusers' ``scheduler_config.json``. ``kind="flow"``: rectified flow,
    ``x_t = (1 - t) x_0 + t noise`` with t in [0, 1] and the prediction ``noise - x_0`` (Liu et al. 2022, arXiv:2209.03003).
    """

    kind: Literal["ddpm", "flow"]
    prediction: Literal["epsilon", "v_prediction", "sample", "flow"]
    train_steps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "scaled_linear"
    set_alpha_to_one: bool = False
    steps_offset: int = 1


@dataclass(frozen=True, slots=True)
class Defaults:
    """How this model sounds best when the caller does not say."""

    sampler: str
    steps: int
    guidance: float
    denoising: float
    bpm: float | None = None  # None: the clip's tempo is fixed by its frames


@dataclass(frozen=True, slots=True)
class TextEmbedding:
    """Encoded prompts.

    Attributes:
        tokens: [B, S, D] float, one vector a token.
        mask: [B, S] bool, True where a token counts; None: all count (Stable Diffusion).
    """

    tokens: Tensor
    mask: Tensor | None = None


class Family(ABC):
    """A loaded model.

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
    continues: bool  # whether ``denoise`` accepts ``previous``
    text_length: int  # S of one chunk of text, start and end marks included

    @abstractmethod
    def latent_shape(self, frames: int | None = None) -> tuple[int, int, int]:
        """(C, h, w) of a clip of ``frames`` frames (the model's own size by default)."""

    @abstractmethod
    def encode_text(self, texts: Sequence[str]) -> TextEmbedding:
        """Encode prompts without weights, each in one chunk; longer text is cut with a warning."""

    @abstractmethod
    def denoise(
        self,
        x: Tensor,
        t: Tensor,
        text: TextEmbedding,
        *,
        previous: Tensor | None = None,
        previous_mask: Tensor | None = None,
    ) -> Tensor:
        """One evaluation of the network.

        Args:
            x: [B, C, h, w] noisy latents.
            t: [B] timesteps: the training index (ddpm) or t in [0, 1] (flow). Each clip may have its own.
            text: B embeddings.
            previous: [B, C, h, w] clean latents of the clips before, for continuation.
            previous_mask: [B] bool, False where a clip has none before it (its row of ``previous`` is ignored).

        Returns:
            [B, C, h, w] float32 prediction, of the kind that ``schedule.prediction`` names.
        """

    @abstractmethod
    def encode_mel(self, mel: Tensor, *, noise: Tensor | None = None) -> Tensor:
        """Mel amplitudes [B, A, M, T] to latents [B, C, h, w]; ``noise`` samples the posterior where there is one."""

    @abstractmethod
    def encode_image(self, image: np.ndarray, *, noise: Tensor | None = None) -> Tensor:
        """Spectrogram image, uint8 [H, W, 3], to latents [1, C, h, w]."""

    @abstractmethod
    def decode_mel(self, latents: Tensor) -> Tensor:
        """Latents [B, C, h, w] to mel amplitudes [B, A, M, T], float32, >= 0."""

    @abstractmethod
    def decode_image(self, latents: Tensor) -> np.ndarray:
        """Latents [B, C, h, w] to spectrogram images, uint8 [B, H, W, 3]."""

    def warm_up(self) -> None:  # noqa: B027  (optional: most families need none)
        """Run everything once, so that the first clip is as fast as the rest."""
