"""Train the reader of words (``diffusion/mini/reader.py``) on the captions of labelled clips."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from riffstream.diffusion.mini.reader import Reader

__all__ = ["fit_reader"]

STEPS, BATCH, RATE, DECAY, DROPPED = 3000, 1024, 2e-3, 1e-3, 0.2
# Largest noise on a vector, relative to its length, and the share of a label that is spread over all styles. Captions
# come from templates and prompts do not, so a reader without both is sure of styles that a prompt does not mean.
NOISE, SMOOTH = 1.5, 0.05
INSTRUMENTS = 4.0  # weight of the instruments (a mean over all classes, most of them absent) relative to the style


def fit_reader(
    vectors: Tensor,
    owners: Tensor,
    style: Tensor,
    instruments: Tensor,
    *,
    styles: int,
    steps: int = STEPS,
    seed: int = 0,
) -> Reader:
    """Train a reader; 3,000 steps take some 20 s of two cores.

    Args:
        vectors: sentence vectors of captions, [K, D], of length 1.
        owners: the clip of each caption, [K].
        style: index of the style of each clip, [N].
        instruments: 1 for each class of instruments in each clip, [N, I].
        styles: number of styles.
        steps: steps of the training.
        seed: seed of weights and examples.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        reader = Reader(vectors.shape[1], styles, instruments.shape[1])
        optimiser = torch.optim.AdamW(reader.parameters(), RATE, weight_decay=DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
        for _ in range(steps):
            rows = torch.randint(len(vectors), (BATCH,))
            told = vectors[rows].float()
            noise = torch.randn_like(told) * torch.rand(len(told), 1) * (NOISE / math.sqrt(told.shape[1]))
            named, played = reader(F.normalize(told + noise, dim=1), DROPPED)
            loss = F.cross_entropy(named, style[owners[rows]], label_smoothing=SMOOTH)
            wanted = instruments[owners[rows]].float()
            loss = loss + INSTRUMENTS * F.binary_cross_entropy_with_logits(played, wanted)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    return reader.eval().requires_grad_(False)
