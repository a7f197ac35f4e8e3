"""Latent codec of the embedded model: stereo mel clips to a small latent grid and back.

A linear part (principal components of patches) carries most of the signal, and convolutions on the patch grid refine
both directions. Training therefore starts at the quality of the linear code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Codec", "CodecConfig", "features_to_mel", "mel_to_features"]


MAX_DB = 66.0  # limit for decoded outliers; a full-scale sine has 57 dB


@dataclass(frozen=True, slots=True, kw_only=True)
class CodecConfig:
    """Sizes and scales of the codec (``codec/config.json``).

    Attributes:
        floor_db: level of silence, in dB relative to amplitude 1.
        span_db: dB per unit of a feature.
        balance: weight of the stereo balance relative to the level.
        detail_width: channels of the decoder's finest stage (4 x 4 mel frames a cell); 0 omits it.
        row_biases: each stage of the decoder has a bias for each of its rows, so it knows low rows from high ones.
    """

    mels: int = 256
    patch: int = 16
    channels: int = 20
    width: int = 128
    encoder_blocks: int = 1
    decoder_blocks: int = 1
    fine_width: int = 48
    fine_blocks: int = 1
    detail_width: int = 0
    detail_blocks: int = 1
    row_biases: bool = False
    floor_db: float = -30.0
    span_db: float = 20.0
    balance: float = 0.5
    balance_limit_db: float = 30.0


def mel_to_features(mel: Tensor, config: CodecConfig) -> Tensor:
    """Convert stereo mel amplitudes [B, 2, M, T] to features [B, 2, M, T]: level and balance, both in dB / span.

    The level is the root mean square of both channels above the floor (>= 0). The balance fades to 0 at the floor.
    """
    floor = 10 ** (config.floor_db / 20)
    left, right = mel[:, 0].float(), mel[:, 1].float()
    level = (0.5 * (left.square() + right.square())).sqrt().clamp_min(floor)
    balance = ((left + floor) / (right + floor)).log10() * 20
    limit = config.balance_limit_db
    return torch.stack(
        [
            (20 * level.log10() - config.floor_db) / config.span_db,
            balance.clamp(-limit, limit) * (config.balance / config.span_db),
        ],
        dim=1,
    )


def features_to_mel(features: Tensor, config: CodecConfig) -> Tensor:
    """Inverse of :func:`mel_to_features`: amplitudes [B, 2, M, T] float32, >= 0, exactly 0 below the floor."""
    features = features.float()
    decibels = (features[:, 0] * config.span_db).clamp_max(MAX_DB - config.floor_db)
    level = torch.exp((decibels + config.floor_db) * (math.log(10) / 20)) * (decibels / 3).clamp(0, 1)
    limit = config.balance_limit_db
    balance = (features[:, 1] * (config.span_db / config.balance)).clamp(-limit, limit)
    ratio = torch.exp(balance * (math.log(10) / 20))
    right = level * (2 / (1 + ratio.square())).sqrt()
    return torch.stack([right * ratio, right], dim=1)


class _Residual(nn.Module):
    """Residual block of two 3x3 convolutions; the second one is initialised with zeros."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        assert self.second.bias is not None
        nn.init.zeros_(self.second.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.silu(self.first(F.silu(x))))  # type: ignore[no-any-return]


def _row_bias(width: int, rows: int, config: CodecConfig) -> nn.Parameter | None:
    """A bias [width, rows, 1] for each row of a stage; starts at zero."""
    return nn.Parameter(torch.zeros(width, rows, 1)) if config.row_biases else None


def _biased(x: Tensor, bias: nn.Parameter | None) -> Tensor:
    return x if bias is None else x + bias.to(x.dtype)


class _Detail(nn.Module):
    """The decoder's finest stage: noise-like detail that the latents cannot represent (noise, hi-hats, room sound).

    It modulates a fixed noise plane (one value for each mel frame of a cell, repeated every ``TILE`` cells in time) by
    the output of the coarser stages. Without a noise source a network can only blur or repeat a pattern here.
    """

    TILE = 32

    noise: Tensor

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        side = config.patch // 4
        width, rows = config.detail_width, config.mels // side
        noise = torch.randn(side * side, rows, self.TILE, generator=torch.Generator().manual_seed(1))
        self.register_buffer("noise", noise)
        self.inner = nn.Conv2d(config.fine_width, 4 * width, 1)
        self.join = nn.Conv2d(width + side * side, width, 3, padding=1)
        self.blocks = nn.Sequential(*(_Residual(width) for _ in range(config.detail_blocks)))
        self.outer = nn.Conv2d(width, 2 * side * side, 3, padding=1)
        self.side = side
        self.rows = _row_bias(width, rows, config)
        nn.init.zeros_(self.outer.weight)
        assert self.outer.bias is not None
        nn.init.zeros_(self.outer.bias)

    def forward(self, fine: Tensor) -> Tensor:
        """Correction [B, 2, M, T] from the features of the previous stage [B, fine_width, h, w]."""
        x = F.pixel_shuffle(self.inner(fine), 2)
        noise = self.noise.repeat(1, 1, -(-x.shape[-1] // self.TILE))[..., : x.shape[-1]].to(x.dtype)
        x = _biased(self.join(torch.cat([x, noise.expand(len(x), -1, -1, -1)], dim=1)), self.rows)
        x = self.blocks(x)
        return F.pixel_shuffle(self.outer(F.silu(x)), self.side)


class Codec(nn.Module):
    """Encoder and decoder between features [B, 2, M, T] and latents [B, C, M / patch, T / patch].

    The latents have about unit variance over all channels.
    """

    mean: Tensor
    basis: Tensor
    latent_mean: Tensor
    latent_scale: Tensor

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        size, rows = 2 * config.patch**2, config.mels // config.patch
        self.register_buffer("mean", torch.zeros(2, config.mels))
        self.register_buffer("basis", torch.eye(config.channels, size))
        self.register_buffer("latent_mean", torch.zeros(config.channels, rows))
        self.register_buffer("latent_scale", torch.ones(config.channels))
        w, f = config.width, config.fine_width
        self.encoder_in = nn.Conv2d(size, w, 1)
        self.encoder = nn.Sequential(*(_Residual(w) for _ in range(config.encoder_blocks)))
        self.encoder_out = nn.Conv2d(w, config.channels, 3, padding=1)
        self.decoder_in = nn.Conv2d(config.channels, w, 3, padding=1)
        self.decoder = nn.Sequential(*(_Residual(w) for _ in range(config.decoder_blocks)))
        self.fine_in = nn.Conv2d(w, 4 * f, 1)
        self.fine = nn.Sequential(*(_Residual(f) for _ in range(config.fine_blocks)))
        self.fine_out = nn.Conv2d(f, size // 4, 3, padding=1)
        self.detail = _Detail(config) if config.detail_width else None
        self.rows = _row_bias(w, rows, config)
        self.fine_rows = _row_bias(f, 2 * rows, config)
        for layer in (self.encoder_out, self.fine_out):
            nn.init.zeros_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def encode(self, features: Tensor) -> Tensor:
        """Encode features [B, 2, M, T], T a multiple of the patch, to latents."""
        dtype = self.encoder_in.weight.dtype
        centred = features.float() - self.mean[:, :, None]
        patches = F.pixel_unshuffle(centred, self.config.patch)
        with torch.autocast(features.device.type, enabled=False):  # bfloat16 would cost 0.4 dB here
            linear = torch.einsum("cp,bphw->bchw", self.basis, patches)
        linear = (linear - self.latent_mean[..., None]) / self.latent_scale[:, None, None]
        refined = self.encoder_out(F.silu(self.encoder(self.encoder_in(patches.to(dtype)))))
        return linear + refined.float()  # type: ignore[no-any-return]

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents to features, float32."""
        dtype = self.decoder_in.weight.dtype
        latents = latents.float()
        linear = latents * self.latent_scale[:, None, None] + self.latent_mean[..., None]
        with torch.autocast(latents.device.type, enabled=False):
            patches = torch.einsum("cp,bchw->bphw", self.basis, linear)
        coarse = self.decoder(_biased(self.decoder_in(latents.to(dtype)), self.rows))
        fine = self.fine(_biased(F.pixel_shuffle(self.fine_in(F.silu(coarse)), 2), self.fine_rows))
        refined = F.pixel_shuffle(self.fine_out(F.silu(fine)), self.config.patch // 2)
        if self.detail is not None:
            refined = refined + self.detail(F.silu(fine))
        return F.pixel_shuffle(patches, self.config.patch) + refined.float() + self.mean[:, :, None]

    @torch.no_grad()
    def fit_linear(self, features: Tensor, power: float = 0.4) -> None:
        """Set the linear part to the principal components of ``features`` [B, 2, M, T].

        ``power`` scales the channels: each is divided by sd ** (1 - power), then all by one number. Large components
        stay larger and are determined earlier in sampling.
        """
        config = self.config
        self.mean.copy_(features.float().mean(dim=(0, 3)))
        patches = F.pixel_unshuffle(features.float() - self.mean[:, :, None], config.patch)
        flat = patches.permute(0, 2, 3, 1).flatten(0, 2)
        _, vectors = torch.linalg.eigh(flat.T @ flat / len(flat))
        self.basis.copy_(vectors.T.flip(0)[: config.channels])
        code = torch.einsum("cp,bphw->bchw", self.basis, patches)
        self.latent_mean.copy_(code.mean(dim=(0, 3)))
        code -= self.latent_mean[..., None]
        deviation = code.square().mean(dim=(0, 2, 3)).sqrt().clamp_min(1e-4)
        scaled = deviation**power
        self.latent_scale.copy_(deviation ** (1 - power) * scaled.square().mean().sqrt())
