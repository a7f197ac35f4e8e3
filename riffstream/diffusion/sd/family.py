"""Stable Diffusion 1.x and 2.x checkpoints, such as ``riffusion/riffusion-model-v1``.

Rombach et al. 2022 (arXiv:2112.10752): a denoiser over the latents of an image autoencoder, conditioned on CLIP's text
tokens. The networks come from diffusers and transformers; the sampling is this package's.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from riffstream.diffusion.family import Defaults, Family, TextEmbedding, TrainingSchedule
from riffstream.diffusion.sd.codec import fit_image, image_to_pixels, mel_to_pixels, pixels_to_image, pixels_to_mel
from riffstream.diffusion.tokens import apply_weights, chunk_count, chunk_tokens, weigh_tokens
from riffstream.errors import CheckpointError, ParameterError
from riffstream.journey.prompts import WeightedText
from riffstream.spectrogram.params import SpectrogramParams

__all__ = ["SdOptions", "StableDiffusion"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SdOptions:
    """Options that trade load time, memory or accuracy for speed. docs/checkpoints.md describes when to use them.

    Attributes:
        channels_last: memory format of the convolutions; None: on for CUDA, off otherwise.
        fuse_qkv: one matrix product for query, key and value of each attention.
        compile: ``torch.compile`` the denoiser and the decoder; the first clips then take minutes.
        tiny_vae: folder of an ``AutoencoderTiny`` (https://github.com/madebyollin/taesd) to decode with.
        config: folder in the diffusers layout with the configs and the tokenizer for a single-file checkpoint.
    """

    channels_last: bool | None = None
    fuse_qkv: bool = False
    compile: bool = False
    tiny_vae: str | Path | None = None
    config: str | Path | None = None


class StableDiffusion(Family):
    """A loaded Stable Diffusion checkpoint. ``Checkpoint.load`` makes it.

    Args:
        unet, vae, text_encoder: modules of diffusers and transformers, in evaluation mode.
        tokenizer: CLIP tokenizer of transformers.
        schedule: training schedule, from ``scheduler/scheduler_config.json``.
        params: spectrogram parameters of its images.
        device: torch device of the modules.
        dtype: dtype of the modules.
        tiny_vae: an ``AutoencoderTiny`` to decode with, in place of ``vae``.
        options: speed switches.

    Raises:
        CheckpointError: the parts do not fit together.
    """

    name = "stable-diffusion"
    beats = None
    continues = False
    text_chunks = 3

    def __init__(
        self,
        *,
        unet: Any,
        vae: Any,
        text_encoder: Any,
        tokenizer: Any,
        schedule: TrainingSchedule,
        params: SpectrogramParams,
        device: torch.device,
        dtype: torch.dtype,
        tiny_vae: Any = None,
        options: SdOptions | None = None,
    ) -> None:
        options = options or SdOptions()
        self.params, self.schedule, self.device, self.dtype = params, schedule, device, dtype
        self.defaults = Defaults(sampler="dpm++", steps=20, guidance=7.0, denoising=0.75)
        self.tokenizer = tokenizer
        self.text_length = int(text_encoder.config.max_position_embeddings)
        self.scaling = float(vae.config.scaling_factor)
        self.reduction = 2 ** (len(vae.config.block_out_channels) - 1)
        self.frames = int(unet.config.sample_size) * self.reduction
        self._check_fit(unet, vae, text_encoder)
        last = device.type == "cuda" if options.channels_last is None else options.channels_last
        order = torch.channels_last if last else torch.preserve_format

        def place(module: nn.Module, memory_format: torch.memory_format = torch.preserve_format) -> Any:
            # diffusers' own ``to`` warns of modules to keep in float32 even if there are none.
            move: Any = nn.Module.to
            return move(module, device, dtype, memory_format=memory_format)

        self.unet, self.vae = place(unet, order), place(vae, order)
        self.tiny_vae = None if tiny_vae is None else place(tiny_vae, order)
        self.text_encoder = place(text_encoder)
        if options.fuse_qkv:
            self.unet.fuse_qkv_projections()
        self._unet, self._decoder = self.unet, (self.tiny_vae or self.vae).decode
        if options.compile:
            self._unet, self._decoder = torch.compile(self.unet), torch.compile(self._decoder)

    def _check_fit(self, unet: Any, vae: Any, text_encoder: Any) -> None:
        width, wanted = int(text_encoder.config.hidden_size), unet.config.cross_attention_dim
        if width != wanted:
            raise CheckpointError(f"text_encoder gives {width} numbers a token; unet takes {wanted}")
        channels = int(vae.config.latent_channels)
        if channels != unet.config.in_channels:
            raise CheckpointError(
                f"unet takes {unet.config.in_channels} channels and vae gives {channels}: inpainting, depth and "
                "upscaling checkpoints cannot be used"
            )
        if self.params.num_frequencies % 32:
            raise CheckpointError(
                f"spectrogram: num_frequencies is {self.params.num_frequencies}; images of this family need a multiple "
                "of 32"
            )

    def latent_shape(self, frames: int | None = None) -> tuple[int, int, int]:
        """Latent shape (C, h, w); ``frames`` is rounded up to a multiple of 32, as in ``decode_mel``."""
        count = self.frames if frames is None else frames
        if count < 1:
            raise ParameterError("frames", frames, "1 or more")
        rounded = -(-count // 32) * 32
        channels = int(self.unet.config.in_channels)
        return channels, self.params.num_frequencies // self.reduction, rounded // self.reduction

    # Text

    def tokenize(self, text: str) -> list[int]:
        """Token ids without start and end marks."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids
        return ids

    @torch.no_grad()
    def encode_tokens(self, ids: Tensor) -> Tensor:
        """Encode token ids int64 [B, text_length] with marks to embeddings [B, text_length, D] of the model's dtype."""
        hidden: Tensor = self.text_encoder(ids.to(self.device)).last_hidden_state
        return hidden

    def encode_text(self, texts: Sequence[str]) -> TextEmbedding:
        rows = [[WeightedText(text)] for text in texts]
        return TextEmbedding.stack([self.encode_weighted(row) for row in rows])

    def count_chunks(self, prompt: Sequence[WeightedText]) -> int:
        ids, _ = weigh_tokens(self.tokenize, prompt)
        return chunk_count(len(ids), self.text_length, self.text_chunks)

    def encode_weighted(self, prompt: Sequence[WeightedText], chunks: int = 1) -> TextEmbedding:
        ids, weights = weigh_tokens(self.tokenize, prompt)
        room = chunks * (self.text_length - 2)
        if len(ids) > room:
            log.warning("the prompt has %d tokens; those after %d are left out", len(ids), room)
        end = self.tokenizer.eos_token_id
        pad = end if self.tokenizer.pad_token_id is None else self.tokenizer.pad_token_id
        tokens, factors = chunk_tokens(
            ids, weights, chunks=chunks, length=self.text_length, start=self.tokenizer.bos_token_id, end=end, pad=pad
        )
        embedding = self.encode_tokens(tokens).flatten(0, 1).unsqueeze(0)
        if any(weight != 1 for weight in weights):
            embedding = apply_weights(embedding, factors.flatten())
        return TextEmbedding(embedding)

    # Denoiser

    @torch.no_grad()
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
        if previous is not None:
            raise ValueError("Stable Diffusion checkpoints do not support 'previous'; continue with a mask instead")
        prediction: Tensor = self._unet(
            x.to(self.device, self.dtype),
            t.to(self.device),
            encoder_hidden_states=text.tokens.to(self.device, self.dtype),
            encoder_attention_mask=None if text.mask is None else text.mask.to(self.device),
            return_dict=False,
        )[0]
        return prediction.float()

    # Latents

    @torch.no_grad()
    def moments(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation [B, C, h, w] of the posterior of ``pixels`` [B, 3, H, W] in [-1, 1], unscaled."""
        posterior = self.vae.encode(pixels.to(self.device, self.dtype)).latent_dist
        return posterior.mean, posterior.std

    @torch.no_grad()
    def pixels(self, latents: Tensor) -> Tensor:
        """Decode scaled latents [B, C, h, w] to pixels [B, 3, 8h, 8w], about [-1, 1], in the model's dtype."""
        latents = latents.to(self.device, self.dtype)
        if self.tiny_vae is None:
            latents = latents / self.scaling
        result: Tensor = self._decoder(latents, return_dict=False)[0]
        return result

    def _latents(self, pixels: Tensor, noise: Tensor | None) -> Tensor:
        mean, deviation = self.moments(pixels)
        if noise is not None:
            mean = mean + deviation * noise.to(mean)
        return mean.float() * self.scaling

    def encode_mel(self, mel: Tensor, *, noise: Tensor | None = None) -> Tensor:
        """Encode mel amplitudes; frames are repeated at the end up to a multiple of 32 (see ``latent_shape``)."""
        if mel.shape[-2] != self.params.num_frequencies:
            raise ParameterError("mel bins", mel.shape[-2], str(self.params.num_frequencies))
        missing = -mel.shape[-1] % 32
        if missing:
            mel = torch.cat([mel, mel[..., -1:].expand(*mel.shape[:-1], missing)], dim=-1)
        return self._latents(mel_to_pixels(mel, self.params), noise)

    def encode_image(self, image: np.ndarray, *, noise: Tensor | None = None) -> Tensor:
        """Encode an image after scaling its sides down to multiples of 32 (Lanczos)."""
        return self._latents(image_to_pixels(fit_image(image)), noise)

    def decode_mel(self, latents: Tensor) -> Tensor:
        return pixels_to_mel(self.pixels(latents), self.params)

    def decode_image(self, latents: Tensor) -> np.ndarray:
        return pixels_to_image(self.pixels(latents))

    def warm_up(self) -> None:
        text = self.encode_text(["", "warm up"])
        latents = torch.zeros(2, *self.latent_shape(), device=self.device)
        self.denoise(latents[:1], torch.zeros(1), text.row(0))
        self.denoise(latents, torch.zeros(2), text)
        self.decode_mel(latents[:1])
