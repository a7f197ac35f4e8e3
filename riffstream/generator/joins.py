"""Where one clip ends and the next begins: the frames whose analysis windows reach across.

Inside a clip an attack shows in the spectrogram before it is heard, since the windows of the frames before it reach
into it: on a bar line the level rises evenly, in decibels, over half a window. A clip is made without knowing how the
next one begins, so its last frames lack that, and the attack on every join was a step where others are slopes (spectral
flux 1.2 to 2 times that of the bar lines inside). So the last frames wait for the next clip and are completed with it.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["complete", "reach"]

QUIET = 10**-1.5  # amplitude below which bins are silence: the embedded model's floor of -30 dB


def reach(window: int, hop: float) -> int:
    """How many frames before a place have windows that reach across it."""
    return max(0, int(window / 2 / hop))


def complete(tail: Tensor, head: Tensor) -> Tensor:
    """The last frames of a clip, leading to the first frame of the next.

    Args:
        tail: [A, M, 1 + n] amplitudes: a frame that stays as it is, and the ``n`` frames that reach across.
        head: [A, M, 1] the next clip's first frame.

    Returns:
        [A, M, n]: each bin on its way from ``tail[..., 0]`` to ``head``, evenly in decibels, unless it is further on
        that way already.
    """
    n = tail.shape[-1] - 1
    begin, end = tail[..., :1].clamp_min(QUIET).log(), head.clamp_min(QUIET).log()
    share = torch.arange(1, n + 1, device=tail.device, dtype=tail.dtype) / (n + 1)
    way = torch.lerp(begin, end, share).exp()
    own = tail[..., 1:]
    return torch.where(end > begin, torch.maximum(own, way), torch.minimum(own, way))
