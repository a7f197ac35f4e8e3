"""Text embeddings of prompts: weights inside prompts, long prompts, mixes, negative prompts, and a cache.

Threading model
  One thread (the generator's, or the caller's) makes every call, like the family's.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from riffstream.diffusion.family import Family, TextEmbedding
from riffstream.errors import ParameterError
from riffstream.journey.prompts import PromptPart, blend_mixes, normalise_mix, parse_weights

__all__ = ["Conditioning", "Mix", "PromptEncoder", "mix_embeddings"]

Mix = str | Iterable[PromptPart]


class Conditioning(NamedTuple):
    """Text embeddings of a guided step, [1, S, D]; both have the same S for families without a mask."""

    cond: TextEmbedding
    uncond: TextEmbedding


class PromptEncoder:
    """Encoder of prompt mixes for one family, with a cache.

    The returned embeddings are shared with the cache: do not modify them in place.

    Args:
        family: the model.
        cache: number of encoded prompts to keep (least recently used), 1 or more. One prompt of Stable Diffusion 1.5
            takes 118 kB in half precision.
    """

    def __init__(self, family: Family, *, cache: int = 256) -> None:
        if cache < 1:
            raise ParameterError("cache", cache, "1 or more prompts")
        self.family = family
        self._limit = cache
        self._cache: OrderedDict[tuple[str, int, bool], TextEmbedding] = OrderedDict()

    def chunks(self, *mixes: Mix) -> int:
        """Number of chunks for all prompts of all mixes. With equal padding any two of them can be interpolated."""
        texts = {part.text for mix in mixes for part in normalise_mix(mix)}
        return max((self.family.count_chunks(parse_weights(text)) for text in texts), default=1)

    def encode(self, mix: Mix, *, chunks: int | None = None, lean: bool = False) -> TextEmbedding:
        """Encode one mix.

        Args:
            mix: a prompt, or parts with weights (see ``prompts.normalise_mix``).
            chunks: number of chunks after padding; by default as many as the mix needs.
            lean: for music that the words alone lead (``Family.lean``).

        Returns:
            [1, S, D]. Without a mask (Stable Diffusion) S is ``chunks * text_length`` and a mix is the weighted mean of
            its prompts' embeddings. With a mask, see :func:`mix_embeddings`.

        Raises:
            ParameterError: an empty mix, or weights that are negative or all zero.
        """
        parts = normalise_mix(mix)
        count = self.chunks(parts) if chunks is None else chunks
        rows = [self._prompt(part.text, count, lean) for part in parts]
        return mix_embeddings(rows, [part.weight for part in parts], length=self.family.text_length)

    def pair(self, mix: Mix, negative: Mix = "") -> Conditioning:
        """Encode a mix and its negative prompt (or the empty prompt) for guidance."""
        count = self.chunks(mix, negative)
        return Conditioning(self.encode(mix, chunks=count), self.encode(negative, chunks=count))

    def between(
        self, start: Mix, end: Mix, alpha: float, negatives: tuple[Mix, Mix] = ("", ""), *, lean: bool = False
    ) -> Conditioning:
        """Embeddings at ``alpha`` in [0, 1] between two mixes.

        Args:
            start, end: the mixes.
            alpha: 0 (start) to 1 (end).
            negatives: negative prompts at start and end.
            lean: see :meth:`encode`; negative prompts never lean.
        """
        count = self.chunks(start, end, *negatives)
        uncond = self.encode(blend_mixes(*negatives, alpha), chunks=count)
        return Conditioning(self.encode(blend_mixes(start, end, alpha), chunks=count, lean=lean), uncond)

    def _prompt(self, text: str, chunks: int, lean: bool) -> TextEmbedding:
        key = (text, chunks, lean)
        found = self._cache.get(key)
        if found is None:
            if lean:
                plain = self._prompt(text, chunks, False)
                words = any(run.weight > 0 and run.text.strip() for run in parse_weights(text))
                found = self.family.lean(plain) if words else plain  # no words have no style
            else:
                with torch.no_grad():
                    found = self.family.encode_weighted(parse_weights(text), chunks)
            self._cache[key] = found
            if len(self._cache) > self._limit:
                self._cache.popitem(last=False)
        self._cache.move_to_end(key)
        return found


def mix_embeddings(rows: Sequence[TextEmbedding], weights: Sequence[float], *, length: int = 8) -> TextEmbedding:
    """Mix the embeddings of several prompts into one.

    Without masks the result is the weighted mean, token by token. With masks the tokens of all prompts are
    concatenated, and the masks carry the weights. Attention over them is then the mixture of the attentions over each
    prompt; a mean of unrelated tokens would not be. The total mass of a prompt is proportional to its weight at any
    length, so the pooled mean is the weighted mean of the prompts' means. A single prompt is unchanged.

    Args:
        rows: embeddings [1, S, D] of the prompts.
        weights: their shares, > 0, with sum 1.
        length: pad to a multiple of this many tokens (embeddings with masks only).

    Returns:
        [1, S, D]; with masks S is the number of tokens with weight, rounded up to a multiple of ``length``.
    """
    if len(rows) == 1:
        return rows[0]
    masks = [row.mask for row in rows if row.mask is not None]
    if not masks:
        mean = sum(row.tokens.float() * weight for row, weight in zip(rows, weights, strict=True))
        assert isinstance(mean, Tensor)
        return TextEmbedding(mean.to(rows[0].tokens.dtype))
    if len(masks) != len(rows):
        raise ValueError("either all embeddings of a mix have a mask, or none")
    masses = [float(mask.sum()) for mask in masks]
    shared = sum(mass * weight for mass, weight in zip(masses, weights, strict=True))
    tokens, factors = [], []
    for row, mask, mass, weight in zip(rows, masks, masses, weights, strict=True):
        kept = mask[0] > 0
        tokens.append(row.tokens[:, kept])
        factors.append(mask[:, kept].float() * (weight * shared / max(mass, 1e-6)))
    joined, factor = torch.cat(tokens, 1), torch.cat(factors, 1)
    missing = -joined.shape[1] % length
    return TextEmbedding(F.pad(joined, (0, 0, 0, missing)), F.pad(factor, (0, missing)))
