"""Recognition of a clip's style and instruments from the words of its prompt alone, without sound.

Many captions name no style ("something calm"). Even a model with perfect adherence to the words cannot play the style
of the caption's clip in these cases. The scores of this reader show the limit for the scores of ``probe.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from riffstream.corpus.data import Corpus
from riffstream.corpus.instrument_classes import INSTRUMENT_CLASSES, instrument_targets
from riffstream.diffusion.family import Family

__all__ = ["Reader", "fit_reader", "sentence_vectors"]


class Reader(nn.Module):
    """Style and instruments from a sentence vector [D]: one linear layer each, with the interface of ``Probe``.

    Args:
        width: D.
        styles: labels of styles.
        instruments: labels of instruments.
    """

    def __init__(self, width: int, styles: Sequence[str], instruments: Sequence[str]) -> None:
        super().__init__()
        self.styles, self.instruments = list(styles), list(instruments)
        self.style_head = nn.Linear(width, len(self.styles))
        self.instrument_head = nn.Linear(width, len(self.instruments))

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Map vectors [B, D] to style logits [B, styles] and instrument logits [B, instruments]."""
        return self.style_head(vectors), self.instrument_head(vectors)

    @torch.no_grad()
    def listen(self, features: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The unchanged vectors, style logits and instrument logits."""
        vectors = torch.from_numpy(np.stack(features))
        style, instruments = self(vectors)
        return vectors.numpy(), style.numpy(), instruments.numpy()


def sentence_vectors(family: Family, texts: Sequence[str]) -> np.ndarray:
    """Mean token embeddings of length 1, float32 [N, D]. Batches of texts of similar length need little padding."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    parts = []
    for k in range(0, len(order), 64):
        pooled = family.encode_text([texts[i] for i in order[k : k + 64]]).pooled()
        parts.append(nn.functional.normalize(pooled.float().cpu(), dim=-1))
    return torch.cat(parts)[np.argsort(order)].numpy()


def fit_reader(family: Family, corpus: Corpus, *, clips: int = 8000, steps: int = 400, seed: int = 0) -> Reader:
    """Train a reader of ``family``'s text embeddings on one caption each of ``clips`` training clips."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    chosen = [int(i) for i in rng.permutation(corpus.split("train"))[:clips]]
    vectors = torch.from_numpy(sentence_vectors(family, [str(rng.choice(corpus.captions(i))) for i in chosen]))
    place = {style: i for i, style in enumerate(corpus.styles)}
    labels = torch.tensor([place[corpus.style(i)] for i in chosen])
    classes = list(INSTRUMENT_CLASSES)
    targets = torch.from_numpy(np.stack([instrument_targets(corpus[i].instruments, classes) for i in chosen]))
    reader = Reader(vectors.shape[1], corpus.styles, classes)
    optimiser = torch.optim.AdamW(reader.parameters(), 0.05, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.05, total_steps=steps)
    for _ in range(steps):
        rows = torch.from_numpy(rng.integers(len(chosen), size=min(1024, len(chosen))))
        style, instruments = reader(vectors[rows])
        loss = nn.functional.cross_entropy(style, labels[rows])
        loss = loss + nn.functional.binary_cross_entropy_with_logits(instruments, targets[rows])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return reader.eval()
