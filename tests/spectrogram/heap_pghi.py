"""Phase-gradient heap integration as published, one bin at a time: the reference for the vectorised integrator."""

from __future__ import annotations

import heapq
import math

import numpy as np


def heap_phases(magnitudes: np.ndarray, hop: int, window: int, gamma: float = 0.25645) -> np.ndarray:
    """Real-time variant (Průša and Holighaus 2016): frames in turn, from the bins of the frame before and across.

    Args:
        magnitudes: [T, F] float.

    Returns:
        [T, F] phases in radians, relative to the window's centre.
    """
    frames, bins = magnitudes.shape
    logs = np.log(np.maximum(magnitudes, magnitudes.max() * 1e-6))
    slope = np.gradient(logs, axis=0)
    across = -gamma * window / hop * slope
    advance = np.zeros_like(logs)
    advance[:, 1:-1] = (logs[:, 2:] - logs[:, :-2]) / 2 * hop / (gamma * window)
    advance += 2 * math.pi * hop / window * np.arange(bins)
    phase = np.zeros_like(logs)
    for k in range(1, frames):
        open_bins = set(range(bins))
        heap = [(-logs[k - 1, f], 0, f) for f in range(bins)]
        heapq.heapify(heap)
        while open_bins and heap:
            _, now, f = heapq.heappop(heap)
            if not now:
                if f in open_bins:
                    phase[k, f] = phase[k - 1, f] + (advance[k - 1, f] + advance[k, f]) / 2
                    open_bins.discard(f)
                    heapq.heappush(heap, (-logs[k, f], 1, f))
                continue
            for neighbour in (f - 1, f + 1):
                if neighbour in open_bins:
                    phase[k, neighbour] = phase[k, f] + (neighbour - f) * (across[k, f] + across[k, neighbour]) / 2
                    open_bins.discard(neighbour)
                    heapq.heappush(heap, (-logs[k, neighbour], 1, neighbour))
    return phase
