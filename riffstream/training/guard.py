"""A guard against non-finite steps: a single one would destroy weights, momentum and average."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from riffstream.errors import RiffstreamError

__all__ = ["StepGuard", "TrainingError", "all_finite"]


class TrainingError(RiffstreamError):
    """A training run that cannot continue. The message names a remedy."""


class StepGuard:
    """A check of the gradient of each step.

    Args:
        limit: number of successive steps without a finite loss and gradient that ends the run, 1 or more.
    """

    def __init__(self, limit: int = 10) -> None:
        self.limit = limit
        self.skipped = 0
        self._in_a_row = 0

    def passes(self, loss: Tensor, norm: Tensor) -> bool:
        """Whether the step is valid.

        Args:
            loss: loss of the step, scalar.
            norm: norm of the gradient, scalar (result of ``torch.nn.utils.clip_grad_norm_``).

        Raises:
            TrainingError: ``limit`` steps in a row were not finite.
        """
        if math.isfinite(float(loss.detach())) and math.isfinite(float(norm)):
            self._in_a_row = 0
            return True
        self.skipped += 1
        self._in_a_row += 1
        if self._in_a_row >= self.limit:
            raise TrainingError(
                f"the loss or its gradient was not finite in {self.limit} steps in a row; the last saved state is "
                "good. Check the corpus (riffstream train corpus makes it again) or lower the step size"
            )
        return False


def all_finite(state: Mapping[str, Any]) -> bool:
    """Whether all tensors in nested dictionaries and lists are finite."""
    for value in state.values():
        if isinstance(value, Tensor):
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                return False
        elif isinstance(value, Mapping):
            if not all_finite(value):
                return False
        elif isinstance(value, list | tuple) and not all_finite({str(k): part for k, part in enumerate(value)}):
            return False
    return True
