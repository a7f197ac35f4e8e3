"""Batch size limit by the device's memory, found by running out of memory.

Threading model
  One thread makes every call (the engine's).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from riffstream.diffusion.stats import Stats
from riffstream.errors import out_of_memory

__all__ = ["BUCKETS", "RECOVERY", "BatchLimit", "free_memory"]

BUCKETS = (1, 2, 4, 8, 16)  # batch sizes of the compiled graphs
RECOVERY = 200  # ticks without a memory error until a lowered limit is doubled again

T = TypeVar("T")


class BatchLimit:
    """Limit on the rows of a batch: halved when memory runs out, doubled after a long time without errors.

    Args:
        most: initial and highest limit.
        device: the device.
        stats: counter of memory errors.

    Attributes:
        rows: current limit.
    """

    def __init__(self, most: int, device: torch.device, stats: Stats) -> None:
        self.rows = most
        self._stats = stats
        self._most = most
        self._device = device
        self._calm = 0

    def buckets(self) -> tuple[int, ...]:
        """Batch sizes to pad to."""
        return (*(size for size in BUCKETS if size < self.rows), self.rows)

    def fit(self, run: Callable[[int], T]) -> T:
        """Call ``run`` with the limit. Each time memory runs out, halve the limit and repeat.

        Raises:
            Exception: one row does not fit (see ``errors.out_of_memory``), or another exception of ``run``.
        """
        while True:
            try:
                return run(self.rows)
            except Exception as error:
                if not out_of_memory(error):
                    raise
                self._stats.out_of_memory += 1
                self._calm = 0
                if self.rows == 1:
                    raise
            # Outside the handler, where the traceback would keep the failed run's tensors alive.
            self.rows = max(1, self.rows // 2)
            free_memory(self._device)

    def settle(self) -> None:
        """Count a tick; double the limit after a long time without memory errors."""
        self._calm += 1
        if self._calm >= RECOVERY and self.rows < self._most:
            self.rows = min(self._most, 2 * self.rows)
            self._calm = 0


def free_memory(device: torch.device) -> None:
    """Release the allocator's cached memory, so that a smaller batch finds contiguous memory."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
