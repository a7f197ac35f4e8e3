"""Harmonic-percussive separation on a spectrogram by median filters.

Fitzgerald, "Harmonic/percussive separation using median filtering", DAFx 2010; with a soft mask and a margin as in
Driedger, Müller, Disch, "Extending harmonic-percussive separation of audio signals", ISMIR 2014. A hit is short and
wide, a note is long and narrow: the median along time removes hits, the median along frequency removes notes.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["AROUND", "drum_mask"]

TIME: Final = 33  # frames of the median along time: half a beat of the embedded model
LOW_TIME: Final = 49  # the same in the lowest bins, where a kick drum rings
LOW_BINS: Final = 12  # number of those bins
BINS: Final = 17  # mel bins of the median along frequency; there is none in the lowest bins, where hits are narrow too
MARGIN: Final = 1.5  # a hit must be this much above the note in its place
AROUND: Final = LOW_TIME // 2  # frames needed on each side


def drum_mask(mel: Tensor, first: int, last: int, before: Tensor | None = None) -> Tensor:
    """Share of the drums in the frames [first, last) of a clip.

    Args:
        mel: [A, M, T] amplitudes of the clip, float.
        first, last: frames; the others are their neighbourhood.
        before: [A, M, t] frames before the clip, if they are known. Unknown frames mirror the known ones.

    Returns:
        [M, last - first] float32, 0 (tonal) to 1 (percussive). It does not depend on the cut into ranges.
    """
    power = mel.float().square().sum(0)
    if before is not None and before.shape[-1]:
        earlier = before[..., -AROUND:].float().square().sum(0)
        power, first, last = torch.cat((earlier, power), 1), first + earlier.shape[1], last + earlier.shape[1]
    total = power.shape[1]
    index = torch.arange(first - AROUND, last + AROUND, device=power.device).abs()
    index = (total - 1 - (total - 1 - index).abs()).clamp(0, total - 1)
    amplitude = power.index_select(1, index).clamp_min(1e-12).sqrt()  # [M, last - first + 2 * AROUND]
    inside = amplitude[:, AROUND : AROUND + last - first]
    low = min(LOW_BINS, amplitude.shape[0])
    notes = torch.cat((_along_time(amplitude[:low], LOW_TIME), _along_time(amplitude[low:], TIME)))
    hits = torch.cat((inside[:low], _along_bins(inside, BINS)[low:]))
    # The fourth power. Products round alike in vectors and single values, ``pow`` does not.
    hits, notes = hits.square().square(), (MARGIN * notes).square().square()
    mask: Tensor = hits / (hits + notes)
    return mask


def _along_time(amplitude: Tensor, length: int) -> Tensor:
    """Median [M, n] over ``length`` frames around each frame of [M, n + 2 * AROUND]."""
    skip = AROUND - length // 2
    windows = amplitude[:, skip : amplitude.shape[1] - skip].unfold(1, length, 1)
    return _median(windows)


def _along_bins(amplitude: Tensor, length: int) -> Tensor:
    """Median [M, n] over ``length`` bins around each bin of [M, n]; the edge is mirrored."""
    half = length // 2
    padded = F.pad(amplitude.t()[None], (half, half), mode="reflect")[0]  # [n, M + 2 * half]
    return _median(padded.unfold(1, length, 1)).t()


def _median(windows: Tensor) -> Tensor:
    """Median of [..., length], an odd length. numpy's partition takes a fifth of torch's time on a CPU."""
    if windows.device.type != "cpu":
        return windows.median(-1).values
    middle = windows.shape[-1] // 2
    return torch.from_numpy(np.partition(windows.numpy(), middle, -1)[..., middle])
