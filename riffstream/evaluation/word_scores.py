"""Recognition of a clip's style and instruments from the words of its prompt alone, without sound.

Many captions name no style ("something calm"). Even a model with perfect adherence to the words cannot play the style
of the caption's clip in these cases. The scores of this reader show the limit for the scores of ``probe.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from riffstream.corpus.data import Corpus
from riffstream.corpus.instrument_classes import INSTRUMENT_CLASSES, instrument_targets
from riffstream.diffusion.family import Family
from riffstream.diffusion.mini.reader import Reader
from riffstream.training.reader import fit_reader

__all__ = ["TextJudge", "judge_of_words", "sentence_vectors"]


class TextJudge:
    """A reader of sentence vectors (``diffusion/mini/reader.py``) with the interface of ``Probe``.

    Args:
        reader: trained reader.
        styles: labels of styles.
        instruments: labels of instruments.
    """

    def __init__(self, reader: Reader, styles: Sequence[str], instruments: Sequence[str]) -> None:
        self._reader = reader
        self.styles, self.instruments = list(styles), list(instruments)

    @torch.no_grad()
    def listen(self, features: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The unchanged vectors, style logits and instrument logits."""
        vectors = torch.from_numpy(np.stack(features))
        style, instruments = self._reader(vectors)
        return vectors.numpy(), style.numpy(), instruments.numpy()


def sentence_vectors(family: Family, texts: Sequence[str]) -> np.ndarray:
    """Mean token embeddings of length 1, float32 [N, D]. Batches of texts of similar length need little padding."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    parts = []
    for k in range(0, len(order), 64):
        pooled = family.encode_text([texts[i] for i in order[k : k + 64]]).pooled()
        parts.append(nn.functional.normalize(pooled.float().cpu(), dim=-1))
    return torch.cat(parts)[np.argsort(order)].numpy()


def judge_of_words(family: Family, corpus: Corpus, *, captions: int = 20_000, seed: int = 0) -> TextJudge:
    """Train a reader of ``family``'s text embeddings on at most ``captions`` captions of training clips."""
    rng = np.random.default_rng(seed)
    told = [(int(i), text) for i in rng.permutation(corpus.split("train")) for text in corpus.captions(int(i))]
    told = [told[int(k)] for k in rng.permutation(len(told))[:captions]]
    place = {clip: row for row, clip in enumerate(dict.fromkeys(clip for clip, _ in told))}
    number = {style: i for i, style in enumerate(corpus.styles)}
    classes = list(INSTRUMENT_CLASSES)
    reader = fit_reader(
        torch.from_numpy(sentence_vectors(family, [text for _, text in told])),
        torch.tensor([place[clip] for clip, _ in told]),
        torch.tensor([number[corpus.style(clip)] for clip in place]),
        torch.from_numpy(np.stack([instrument_targets(corpus[clip].instruments, classes) for clip in place])),
        styles=len(corpus.styles), seed=seed,
    )  # fmt: skip
    return TextJudge(reader, corpus.styles, classes)
