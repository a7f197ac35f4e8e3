"""How many rows fit into the device's memory at once, found out by running out of it.

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

BUCKETS = (1, 2, 4, 8, 16)  # batch sizes that compiled graphs are made for
RECOVERY = 200  # ticks without trouble after which a batch that memory had lowered is doubled again

T = TypeVar("T")


class BatchLimit:
    """Rows of a batch: halved when memory runs out, doubled again after a long calm.

    Args:
        most: rows at the beginning, and never more.
        device: whose memory it is.
        stats: told how often it ran out.

    Attributes:
        rows: at present.
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
        """Run with as many rows as fit: each time memory runs out, the limit is halved and the run repeated.

        Raises:
            Exception: not even one row fits (see ``errors.out_of_memory``), or what else ``run`` raises.
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
            # Outside the handler: there the traceback would keep the failed run's tensors alive.
            self.rows = max(1, self.rows // 2)
            free_memory(self._device)

    def settle(self) -> None:
        """A tick has ended: widen the batch again after a long calm."""
        self._calm += 1
        if self._calm >= RECOVERY and self.rows < self._most:
            self.rows = min(self._most, 2 * self.rows)
            self._calm = 0


def free_memory(device: torch.device) -> None:
    """Give back what the allocator keeps for later, so that a smaller batch finds room in one piece."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
