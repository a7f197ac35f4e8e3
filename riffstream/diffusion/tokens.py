"""Tokens of weighted prompts, in chunks for text encoders of fixed length."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from riffstream.journey.prompts import WeightedText

__all__ = ["apply_weights", "chunk_count", "chunk_tokens", "weigh_tokens"]


def weigh_tokens(tokenize: Callable[[str], list[int]], prompt: Sequence[WeightedText]) -> tuple[list[int], list[float]]:
    """Token ids of a prompt, without start and end marks, and the weight of each.

    Each part is tokenised separately, so that a weight does not change the tokens of its neighbours.
    """
    ids: list[int] = []
    weights: list[float] = []
    for run in prompt:
        tokens = tokenize(run.text)
        ids += tokens
        weights += [run.weight] * len(tokens)
    return ids, weights


def chunk_count(tokens: int, length: int, limit: int) -> int:
    """Number of chunks of ``length`` (with two marks) for ``tokens`` tokens: at least 1, at most ``limit``."""
    return min(max(1, -(-tokens // (length - 2))), limit)


def chunk_tokens(
    ids: Sequence[int], weights: Sequence[float], *, chunks: int, length: int, start: int, end: int, pad: int
) -> tuple[Tensor, Tensor]:
    """Split tokens into chunks of ``start, length - 2 tokens, end``, with ``pad`` after the last ``end``.

    Args:
        ids: n tokens; tokens that do not fit are dropped.
        weights: n weights; marks and padding weigh 1.

    Returns:
        int64 [chunks, length] and float32 [chunks, length].
    """
    body = length - 2
    tokens = torch.full((chunks, length), pad, dtype=torch.int64)
    factors = torch.ones(chunks, length)
    tokens[:, 0] = start
    for chunk in range(chunks):
        part = list(ids[chunk * body : (chunk + 1) * body])
        tokens[chunk, 1 : 1 + len(part)] = torch.tensor(part, dtype=torch.int64)
        tokens[chunk, 1 + len(part)] = end
        factors[chunk, 1 : 1 + len(part)] = torch.tensor(weights[chunk * body : (chunk + 1) * body])
    return tokens, factors


def apply_weights(embedding: Tensor, weights: Tensor, *, guard: bool = True) -> Tensor:
    """Scale each token's embedding by its weight, then rescale all tokens to keep the overall mean.

    Args:
        embedding: [1, S, D].
        weights: [S], any sign.
        guard: True omits the rescaling if its factor would be negative, above 8 or below 1/8, as with a mean near 0.
            Riffusion has no such guard.

    Returns:
        [1, S, D] in the embedding's dtype.
    """
    before = embedding.float().mean(dim=(-2, -1)).to(embedding.dtype)
    weighted = embedding * weights.to(embedding)[None, :, None]
    after = weighted.float().mean(dim=(-2, -1)).to(embedding.dtype)
    ratio = before / after
    if guard:
        ratio = torch.where((ratio > 1 / 8) & (ratio < 8), ratio, torch.ones_like(ratio))
    return weighted * ratio[:, None, None]
