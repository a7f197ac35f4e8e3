"""Joins between clips: completion of the last frames, whose analysis windows extend into the next clip.

Inside a clip an attack is visible in the spectrogram before its onset, because the windows of earlier frames extend
over it: at a bar line the level rises evenly in decibels over half a window. A clip is generated without its successor,
so its last frames lack this rise, and an attack at the join would be a step in place of a slope (spectral flux 1.2 to 2
times that of the bar lines inside). So the last frames wait for the next clip and are completed with it.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["complete", "reach"]

QUIET = 10**-1.5  # amplitude below which bins are silence: the embedded model's floor of -30 dB


def reach(window: int, hop: float) -> int:
    """Number of frames before a position whose windows extend over it; ``window`` and ``hop`` in samples."""
    return max(0, int(window / 2 / hop))


def complete(tail: Tensor, head: Tensor) -> Tensor:
    """Complete the last frames of a clip with a slope to the first frame of the next.

    Args:
        tail: [A, M, 1 + n] amplitudes: one unchanged frame, and the ``n`` frames to complete.
        head: [A, M, 1], first frame of the next clip.

    Returns:
        [A, M, n] amplitudes: each bin interpolated from ``tail[..., 0]`` to ``head`` in decibels, unless it is already
        closer to ``head``.
    """
    n = tail.shape[-1] - 1
    begin, end = tail[..., :1].clamp_min(QUIET).log(), head.clamp_min(QUIET).log()
    share = torch.arange(1, n + 1, device=tail.device, dtype=tail.dtype) / (n + 1)
    way = torch.lerp(begin, end, share).exp()
    own = tail[..., 1:]
    return torch.where(end > begin, torch.maximum(own, way), torch.minimum(own, way))
