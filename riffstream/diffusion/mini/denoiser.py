"""Denoiser of the embedded model: a small diffusion transformer over patches of the latent grid.

Blocks after Peebles & Xie 2022 (arXiv:2212.09748, adaptive layer norm) with cross-attention to the text tokens in every
other block, normalised queries and keys, squared ReLU (So et al. 2021, arXiv:2109.08668) and a 3x3 depthwise mix inside
each MLP. Trained as a rectified flow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from riffstream.errors import ParameterError

__all__ = ["Denoiser", "DenoiserConfig", "Entry"]

# Adam's step does not depend on the scale: larger inputs let the single layer of the conditions learn faster.
CONDITIONS_GAIN = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DenoiserConfig:
    """Sizes of the denoiser (``denoiser/config.json``).

    The latent grid has ``rows`` x ``columns`` cells of ``channels`` numbers (4/4 clips; 3/4 clips have
    ``columns_triple`` columns). A token is a ``patch`` x ``patch`` square of cells. ``context`` columns of tokens from
    the end of the previous clip precede those of the clip, so that sound across the bar line has its continuation next
    to it. Each column of tokens has ``conditions`` numbers (``conditions.py``); 0: no conditions.
    """

    channels: int = 20
    rows: int = 16
    columns: int = 32
    columns_triple: int = 24
    patch: int = 2
    width: int = 256
    layers: int = 8
    heads: int = 4
    mlp: int = 1024
    text_width: int = 384
    cross_every: int = 2
    context: int = 0
    conditions: int = 0

    def wide(self, width: int) -> DenoiserConfig:
        """The sizes with ``width`` channels, and heads and hidden units in proportion.

        Raises:
            ParameterError: ``width`` is no multiple of the size of a head, or outside 1 to 64 heads.
        """
        size = self.width // self.heads
        if width % size or not size <= width <= 64 * size:
            raise ParameterError("width", width, f"a multiple of {size}, {size} to {64 * size}")
        return replace(self, width=width, heads=width // size, mlp=self.mlp * width // self.width)


class _Attention(nn.Module):
    """Multi-head attention of x [B, N, D] to itself, or to y [B, S, D]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width, bias=False)
        self.k = nn.Linear(width, width, bias=False)
        self.v = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width)
        self.scale = nn.Parameter(torch.ones(width // heads))

    def _heads(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], x.shape[1], self.heads, -1)

    def forward(self, x: Tensor, y: Tensor, bias: Tensor | None) -> Tensor:
        size = x.shape[-1] // self.heads
        # Normalised before the transposition, which would cost a copy.
        q = (F.layer_norm(self._heads(self.q(x)), (size,)) * (self.scale * size**-0.5)).transpose(1, 2)
        k = F.layer_norm(self._heads(self.k(y)), (size,)).transpose(1, 2)
        v = self._heads(self.v(y)).transpose(1, 2)
        if torch.is_grad_enabled():  # the fused kernel's backward pass is slow on CPUs under bfloat16
            scores = (q @ k.transpose(-1, -2)).float()
            if bias is not None:
                scores = scores + bias
            mixed = scores.softmax(-1).to(v.dtype) @ v
        else:
            mixed = F.scaled_dot_product_attention(
                q, k, v, attn_mask=None if bias is None else bias.to(q.dtype), scale=1.0
            )
        return self.out(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class _Mix(nn.Module):
    """3x3 depthwise filter over the token grid [B, H, W, D] with zero padding.

    It is a sum of nine shifted products, because depthwise convolutions have a slow backward pass on CPUs.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        kernel = torch.zeros(9, width)
        kernel[4] = 1
        self.kernel = nn.Parameter(kernel)

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[1:3]
        padded = F.pad(x, (0, 0, 1, 1, 1, 1))
        kernel = self.kernel.to(x.dtype)
        total = padded[:, 0:h, 0:w] * kernel[0]
        for i in range(1, 9):
            total = torch.addcmul(total, padded[:, i // 3 : i // 3 + h, i % 3 : i % 3 + w], kernel[i])
        return total


def _modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return torch.addcmul(shift[:, None], F.layer_norm(x, x.shape[-1:]), 1 + scale[:, None])


class _Block(nn.Module):
    """Transformer block with adaptive layer norm, and cross-attention to the text if ``cross``."""

    def __init__(self, config: DenoiserConfig, cross: bool) -> None:
        super().__init__()
        d = config.width
        self.modulation = nn.Linear(d, 6 * d)
        self.attention = _Attention(d, config.heads)
        self.cross = _Attention(d, config.heads) if cross else None
        self.mix = _Mix(d)
        self.up = nn.Linear(d, config.mlp)
        self.down = nn.Linear(config.mlp, d)

    def forward(
        self, x: Tensor, condition: Tensor, text: Tensor, text_bias: Tensor, cells: tuple[int, int],
        valid: Tensor | None, bias: Tensor | None,
    ) -> Tensor:  # fmt: skip
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition).chunk(6, dim=-1)
        h = _modulate(x, shift1, scale1)
        x = x + gate1[:, None] * self.attention(h, h, bias)
        if self.cross is not None:
            x = x + self.cross(F.layer_norm(x, x.shape[-1:]), text, text_bias)
        h = _modulate(x, shift2, scale2)
        if valid is not None:
            h = h * valid
        h = self.mix(h.reshape(h.shape[0], *cells, -1)).flatten(1, 2)
        return x + gate2[:, None] * self.down(F.relu(self.up(h)).square())  # type: ignore[no-any-return]


class Entry(NamedTuple):
    """Inputs of the blocks of a :class:`Denoiser`.

    Attributes:
        h: tokens [B, N, width], with the context.
        condition: vector of time and text, [B, width].
        text: text tokens, [B, S, width].
        text_bias: attention bias of the text tokens, [B, 1, 1, S].
        cells: rows and columns of the token grid, with the context.
        valid: weight of each token, [B, N, 1]; None: all 1.
        bias: attention bias of the tokens, [B, 1, 1, N]; None: none.
    """

    h: Tensor
    condition: Tensor
    text: Tensor
    text_bias: Tensor
    cells: tuple[int, int]
    valid: Tensor | None
    bias: Tensor | None


class Denoiser(nn.Module):
    """Network that predicts ``noise - x_0`` of a rectified flow ``x_t = (1 - t) x_0 + t noise``.

    Shape:
        x, previous: [B, C, h, w] with h = rows and w = columns (4/4) or columns_triple (3/4)
        t: [B] in [0, 1]
        tokens: [B, S, text_width]
        mask: [B, S] float >= 0, weight of each token
        conditions: [B, w / patch, conditions]
        result: like x
    """

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        self.config = config
        d, patch = config.width, config.channels * config.patch**2
        grid = (config.rows // config.patch, config.columns // config.patch)
        self.patch_in = nn.Linear(patch, d)
        self.previous_in = nn.Linear(patch, d)
        self.previous_none = nn.Parameter(torch.zeros(d))
        self.row = nn.Parameter(torch.randn(grid[0], d) * 0.3)
        self.column = nn.Parameter(torch.randn(grid[1], d) * 0.3)
        self.column_triple = nn.Parameter(torch.randn(config.columns_triple // config.patch, d) * 0.3)
        if config.context:
            self.context_in = nn.Linear(patch, d)
            self.context_none = nn.Parameter(torch.zeros(d))
            self.context_column = nn.Parameter(torch.randn(config.context, d) * 0.3)
        if config.conditions:
            self.conditions_in = nn.Linear(config.conditions, d, bias=False)
        self.time_in = nn.Linear(128, d)
        self.time_out = nn.Linear(d, d)
        self.pooled_in = nn.Linear(config.text_width, d)
        self.text_in = nn.Linear(config.text_width, d)
        self.blocks = nn.ModuleList(_Block(config, i % config.cross_every == 0) for i in range(config.layers))
        self.modulation = nn.Linear(d, 2 * d)
        self.patch_out = nn.Linear(d, patch)
        self._initialise()

    def with_context(self, columns: int) -> Denoiser:
        """Copy of this denoiser with ``columns`` columns of context.

        The embedding of the new tokens is initialised from that of a noiseless clip and must be trained.
        """
        if columns == self.config.context:
            return self
        grown = Denoiser(replace(self.config, context=columns))
        own = self.state_dict()
        grown.load_state_dict({**grown.state_dict(), **{key: own[key] for key in own if "context" not in key}})
        if columns:
            grown.context_in.load_state_dict(self.patch_in.state_dict())
        return grown.to(self.row.device)

    def with_conditions(self, count: int) -> Denoiser:
        """Copy of this denoiser with ``count`` conditions, which have no effect before training."""
        if count == self.config.conditions:
            return self
        grown = Denoiser(replace(self.config, conditions=count))
        kept = {key: value for key, value in self.state_dict().items() if "conditions" not in key}
        grown.load_state_dict({**grown.state_dict(), **kept})
        return grown.to(self.row.device)

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for block in self.blocks:
            assert isinstance(block, _Block)
            nn.init.zeros_(block.modulation.weight)
            if block.cross is not None:
                nn.init.zeros_(block.cross.out.weight)
        for layer in (self.modulation, self.patch_out):
            nn.init.zeros_(layer.weight)
        if self.config.conditions:
            nn.init.zeros_(self.conditions_in.weight)

    def _patchify(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        p = self.config.patch
        return x.view(b, c, h // p, p, w // p, p).permute(0, 2, 4, 1, 3, 5).reshape(b, (h // p) * (w // p), c * p * p)

    def _unpatchify(self, x: Tensor, h: int, w: int) -> Tensor:
        p, c = self.config.patch, self.config.channels
        cells = x.view(x.shape[0], h // p, w // p, c, p, p).permute(0, 3, 1, 4, 2, 5)
        return cells.reshape(x.shape[0], c, h, w)

    def _embed_time(self, t: Tensor) -> Tensor:
        rates = torch.exp(torch.arange(64, device=t.device) * (-math.log(1e4) / 64))
        angles = t.float()[:, None] * 1000 * rates
        wave = torch.cat([angles.cos(), angles.sin()], dim=-1).to(self.time_in.weight.dtype)
        return self.time_out(F.silu(self.time_in(wave)))  # type: ignore[no-any-return]

    def _context(self, before: Tensor | None, given: Tensor | None, triple: Tensor | None, like: Tensor) -> Tensor:
        """Context tokens [B, H, context, D] from the previous clip, ``before`` [B, N, patch] or None."""
        config = self.config
        height, count = config.rows // config.patch, config.context
        if before is None:
            end = self.context_none.expand(like.shape[0], height, count, -1)
        else:
            grid = before.reshape(before.shape[0], height, -1, before.shape[-1])
            last = grid[:, :, -count:]
            if triple is not None:
                narrow = config.columns_triple // config.patch
                last = torch.where(triple[:, None, None, None], grid[:, :, narrow - count : narrow], last)
            end = self.context_in(last)
            if given is not None:
                end = torch.where(given[:, None, None, None], end, self.context_none.to(end.dtype))
        return end.to(like.dtype) + (self.row[:, None] + self.context_column).to(like.dtype)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        tokens: Tensor,
        mask: Tensor | None = None,
        previous: Tensor | None = None,
        previous_mask: Tensor | None = None,
        triple: Tensor | None = None,
        conditions: Tensor | None = None,
    ) -> Tensor:
        """Evaluate the network; for shapes see the class.

        Args:
            x: noisy latents.
            t: times.
            tokens: text tokens.
            mask: weights of the tokens; None: all 1.
            previous: clean latents of the previous clip; rows with False in ``previous_mask`` [B] are ignored.
            previous_mask: [B] bool.
            triple: [B] bool for mixed batches on the 4/4 grid (training only): True marks 3/4 clips, which use only the
                first ``columns_triple`` columns.
            conditions: conditions of each column of tokens; zeros or None: no conditions.
        """
        entry = self.enter(x, t, tokens, mask, previous, previous_mask, triple, conditions)
        h = entry.h
        for block in self.blocks:
            h = block(h, entry.condition, entry.text, entry.text_bias, entry.cells, entry.valid, entry.bias)
        h = self.without_context(h, entry.cells)
        shift, scale = self.modulation(entry.condition).chunk(2, dim=-1)
        return self._unpatchify(self.patch_out(_modulate(h, shift, scale)), *x.shape[-2:])

    def without_context(self, h: Tensor, cells: tuple[int, int]) -> Tensor:
        """The tokens of the clip alone, [B, N, width], from states ``h`` on ``cells``."""
        if not self.config.context:
            return h
        return h.reshape(h.shape[0], *cells, -1)[:, :, self.config.context :].flatten(1, 2)

    def enter(
        self,
        x: Tensor,
        t: Tensor,
        tokens: Tensor,
        mask: Tensor | None = None,
        previous: Tensor | None = None,
        previous_mask: Tensor | None = None,
        triple: Tensor | None = None,
        conditions: Tensor | None = None,
    ) -> Entry:
        """The inputs of the blocks; for the arguments see :meth:`forward`."""
        config = self.config
        height, width = x.shape[-2:]
        cells = (height // config.patch, width // config.patch)
        narrow = self.column_triple.shape[0]
        h = self.patch_in(self._patchify(x))
        if conditions is not None and config.conditions:
            asked = self.conditions_in(CONDITIONS_GAIN * conditions.to(self.conditions_in.weight.dtype))
            h = h + asked[:, None].expand(-1, cells[0], -1, -1).flatten(1, 2)
        clip_before = None if previous is None else self._patchify(previous)
        if clip_before is None:
            h = h + self.previous_none
        else:
            before = self.previous_in(clip_before)
            if previous_mask is not None:
                before = torch.where(previous_mask[:, None, None], before, self.previous_none.to(before.dtype))
            h = h + before
        valid = bias = None
        if triple is None:
            own = self.column if width == config.columns else self.column_triple
            place = (self.row[:, None] + own[: cells[1]]).flatten(0, 1)
        else:
            wide = F.pad(self.column_triple, (0, 0, 0, cells[1] - narrow))
            columns = torch.where(triple[:, None, None], wide, self.column)
            place = (self.row[:, None] + columns[:, None]).flatten(1, 2)
            inside = torch.arange(cells[1], device=x.device) < narrow
            seen = F.pad(inside | ~triple[:, None], (config.context, 0), value=True)
            seen = seen[:, None].expand(-1, cells[0], -1).flatten(1)
            valid = seen[..., None].to(h.dtype)
            bias = torch.where(seen, 0.0, -1e4)[:, None, None]
        h = h + place.to(h.dtype)
        if config.context:
            context = self._context(clip_before, previous_mask, triple, h)
            h = torch.cat([context, h.unflatten(1, cells)], dim=2).flatten(1, 2)
        mask = torch.ones(tokens.shape[:2], device=x.device) if mask is None else mask
        text_bias = torch.where(mask > 0, mask.clamp_min(1e-30).log(), -1e4)[:, None, None]
        pooled = (tokens.float() * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp_min(1e-6)
        condition = F.silu(self._embed_time(t) + self.pooled_in(pooled.to(tokens.dtype)))
        text = self.text_in(tokens)
        return Entry(h, condition, text, text_bias, (cells[0], config.context + cells[1]), valid, bias)
