"""Emphasis of conditions: values beyond their range for a network that follows them only in part.

The network's first layer is linear in the conditions, so a level below 0 moves its input further from a playing part
than any clip of the corpus does. It acts as guidance along that condition, without a second evaluation.
"""

from __future__ import annotations

from torch import Tensor

from riffstream.journey.conditions import DENSITY, PARTS_GIVEN, PARTS_LEVEL, QUIET

__all__ = ["emphasised"]


def emphasised(conditions: Tensor, silence: float, contrast: float) -> Tensor:
    """Conditions [B, columns, SIZE] with emphasis, in a new tensor; (0, 1) returns the values unchanged.

    Args:
        conditions: as in ``conditions.lay_out``; values that are not given stay 0.
        silence: amount below 0 for the level of the only silent part, 0 or more. Several silent parts share it: each
            gets it divided by the root of their number.
        contrast: factor, above 0, of the distance of a density from 0.5.
    """
    out = conditions.clone()
    level, given = conditions[..., PARTS_LEVEL], conditions[..., PARTS_GIVEN] > 0
    rest = ((QUIET - level) / QUIET).clamp_min(0) * given
    count = rest.sum(-1, keepdim=True).clamp_min(1)
    out[..., PARTS_LEVEL] = level - silence * rest / count.sqrt()
    density, known = conditions[..., DENSITY.start], conditions[..., DENSITY.start + 1] > 0
    out[..., DENSITY.start] = density + (contrast - 1) * (density - 0.5) * known
    return out
