"""A critic of clips: a denoiser's body with a head on every second block, trained to tell played clips from real ones.

The body starts as a copy of a trained denoiser and so knows words, conditions and the previous clip from the start
(compare Sauer et al. 2024, arXiv:2403.12015). Clips are judged with noise, which hides what a student cannot reach.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from riffstream.diffusion.mini.denoiser import Denoiser
from riffstream.training.denoiser import Batch

__all__ = ["Critic", "critic_loss", "judging_times", "misled", "student_loss"]

TAP_EVERY = 2
# Logit of the times at which clips are judged: mean and standard deviation. Most are near music, where its sound is.
PLACE, SPREAD = -1.0, 1.2


class Critic(nn.Module):
    """Score of clips as music for their words and conditions; larger is more real.

    Args:
        body: the denoiser; trained further, and not shared with a student.
    """

    def __init__(self, body: Denoiser) -> None:
        super().__init__()
        self.body = body
        self.heads = nn.ModuleList(nn.Linear(body.config.width, 1) for _ in range(0, len(body.blocks), TAP_EVERY))
        for head in self.heads:
            nn.init.normal_(head.weight, std=1e-2)  # type: ignore[arg-type]

    def forward(self, x: Tensor, t: Tensor, batch: Batch) -> Tensor:
        """Scores [B, taps] of noisy clips x [B, C, h, w] at times t [B] under the words and conditions of ``batch``."""
        entry = self.body.enter(
            x, t, batch.tokens, batch.mask, batch.previous, batch.previous_mask, batch.triple, batch.conditions
        )
        h, scores = entry.h, []
        heads: Iterator[nn.Module] = iter(self.heads)
        for number, block in enumerate(self.body.blocks):
            h = block(h, entry.condition, entry.text, entry.text_bias, entry.cells, entry.valid, entry.bias)
            if number % TAP_EVERY == TAP_EVERY - 1:
                own = self.body.without_context(h, entry.cells)
                scores.append(self._pooled(next(heads)(F.layer_norm(own, own.shape[-1:])), entry.valid, entry.cells))
        return torch.stack(scores, 1)

    def _pooled(self, scores: Tensor, valid: Tensor | None, cells: tuple[int, int]) -> Tensor:
        """Mean [B] of the tokens' scores [B, N, 1] over the clip."""
        scores = scores.float()
        if valid is None:
            return scores.mean((1, 2))
        inside = self.body.without_context(valid.float(), cells)
        return (scores * inside).sum((1, 2)) / inside.sum((1, 2))


def judging_times(size: int, generator: torch.Generator) -> Tensor:
    """Times t [size] of the noise under which clips are judged."""
    return torch.sigmoid(PLACE + SPREAD * torch.randn(size, generator=generator))


def misled(batch: Batch, empty: Tensor, generator: torch.Generator) -> tuple[Batch, Tensor]:
    """The examples with words, conditions, or both of another example, and whether a row is different, bool [B].

    Args:
        empty: tokens [1, S, D] of the empty caption. A row keeps its words where the other's are empty, and its
            conditions where the other has none.
    """
    size = len(batch.clean)
    kind = torch.randint(3, (size,), generator=generator).to(batch.clean.device)
    tokens, mask, conditions = (value.roll(1, 0) for value in (batch.tokens, batch.mask, batch.conditions))
    told = (kind != 1) & (tokens != empty[:, : tokens.shape[1]]).flatten(1).any(1)
    told &= (tokens != batch.tokens).flatten(1).any(1)
    asked = (kind != 0) & conditions.flatten(1).any(1)
    values: dict[str, Any] = {name: getattr(batch, name) for name in Batch.__slots__}
    values["tokens"] = torch.where(told[:, None, None], tokens, batch.tokens)
    values["mask"] = torch.where(told[:, None], mask, batch.mask)
    values["conditions"] = torch.where(asked[:, None, None], conditions, batch.conditions)
    return Batch(**values), told | asked


def critic_loss(real: Tensor, played: Tensor, wrong: Tensor, different: Tensor, contrast: float) -> Tensor:
    """Loss of the critic: a clip of the corpus scores above the played clip of the same words and conditions (a
    relativistic pair, Jolicoeur-Martineau 2019, arXiv:1807.00734), and above itself with those of another clip (the
    contrastive term of Novack et al. 2025, arXiv:2505.08175).

    Args:
        real, played, wrong: scores [B, taps]; ``wrong``: real clips with other words or conditions.
        different: bool [B], the rows of ``wrong`` that count.
        contrast: weight of the second term.
    """
    pairs = F.softplus(played - real).mean()
    words = F.softplus(wrong - real)[different]
    return pairs + contrast * (words.mean() if len(words) else words.sum())


def student_loss(real: Tensor, played: Tensor) -> Tensor:
    """Loss of the student: its clip scores above the clip of the corpus. Scores as in :func:`critic_loss`."""
    return F.softplus(real - played).mean()
