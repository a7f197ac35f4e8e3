"""Prompts lean towards the captions of sounds that fit them.

A small network loses the style in words that are not worded like its captions. Where words alone lead a clip, its
tokens move part of the way to the mean caption of the opening sounds that the reader of words finds
(docs/mini.md, "Leaning").
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from riffstream.diffusion.family import TextEmbedding

__all__ = ["APART", "LEAN", "lean"]

LEAN: Final = 0.4  # part of the way
APART: Final = 0.3  # how much further from the mean of all captions than the mean of these the goal lies
NEIGHBOURS: Final = 8
SOFTNESS: Final = 0.05  # difference of fits at which the weight of a sound falls to 1 / e


def lean(text: TextEmbedding, vectors: Tensor, fit: Tensor) -> TextEmbedding:
    """Move the tokens of a prompt together, so that their mean turns towards the captions that fit best.

    Args:
        text: the prompt, [1, S, D].
        vectors: sentence vectors of sounds, [N, D], of length 1.
        fit: how well each sound fits, [N].
    """
    best = fit.topk(min(NEIGHBOURS, len(fit)))
    centre = torch.mv(vectors[best.indices].T, (best.values / SOFTNESS).softmax(0))
    goal = F.normalize(centre + APART * (centre - vectors.mean(0)), dim=0).to(text.tokens.device)
    pooled = text.pooled()[0].float()
    moved = text.tokens + LEAN * (pooled.norm() * goal - pooled)
    if text.mask is not None:
        moved = torch.where(text.mask[..., None] > 0, moved, text.tokens)
    return TextEmbedding(moved.to(text.tokens.dtype), text.mask)
