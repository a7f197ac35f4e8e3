"""A wider denoiser with the function of a trained one, so that training continues and does not begin again.

The old channels, heads and hidden units keep their weights. New ones are initialised as in a new network and have no
effect on the old ones before training (compare Net2Net, Chen et al. 2016, arXiv:1511.05641, and zero-initialised
blocks, Wu et al. 2024, arXiv:2401.02415).
"""

from __future__ import annotations

import torch
from torch import Tensor

from riffstream.diffusion.mini.denoiser import Denoiser
from riffstream.errors import ParameterError

__all__ = ["widened"]

# Layers whose output goes to the tokens without a gate, and vectors that are added to the tokens: new channels are 0.
WRITERS = ("patch_in.", "previous_in.", "context_in.", "conditions_in.", "cross.out.")
VECTORS = ("row", "column", "column_triple", "previous_none", "context_none", "context_column")
# Layers whose new inputs are not 0 in an untrained network, so their weights for the old outputs are.
READERS = ("time_out.", "cross.k.", "cross.v.", "attention.out.", "cross.out.", "down.", "modulation.", "patch_out.")


@torch.no_grad()
def widened(model: Denoiser, width: int) -> Denoiser:
    """Copy of ``model`` with ``width`` channels; heads and hidden units grow in proportion.

    The result differs from that of ``model`` by the mean of the tokens only, which the new channels dilute.

    Raises:
        ParameterError: ``width`` is less than the model's, or no multiple of the size of its heads.
    """
    config = model.config.wide(width)
    if config == model.config:
        return model
    if width < model.config.width:
        raise ParameterError("width", width, f"{model.config.width} or more, the width of the trained model")
    grown = Denoiser(config).to(model.row.device)
    own = model.state_dict()
    grown.load_state_dict({name: _filled(name, value, own[name]) for name, value in grown.state_dict().items()})
    return grown


def _filled(name: str, fresh: Tensor, old: Tensor) -> Tensor:
    if "modulation." in name:
        return _modulation(name, fresh, old)
    value = fresh.clone()
    if name in VECTORS or any(part in name for part in WRITERS):
        value.zero_()
    inside = tuple(slice(0, length) for length in old.shape)
    if old.ndim == 2 and any(part in name for part in READERS):
        value[: old.shape[0]] = 0
    value[inside] = old
    return value


def _modulation(name: str, fresh: Tensor, old: Tensor) -> Tensor:
    """Shifts, scales and gates, one group of channels each; new channels have 0.

    The layer norm divides by the spread over all channels. New channels are 0 and lower it, so the scales compensate.
    """
    groups = 2 if name.startswith("modulation.") else 6
    before, after = old.shape[0] // groups, fresh.shape[0] // groups
    shrunk = (before / after) ** 0.5
    parts = []
    for k, part in enumerate(torch.split(old, before)):
        if k % 3 == 1:  # a scale s acts as 1 + s
            part = part * shrunk + (shrunk - 1 if old.ndim == 1 else 0)
        value = torch.zeros_like(fresh[:after])
        value[tuple(slice(0, length) for length in part.shape)] = part
        parts.append(value)
    return torch.cat(parts)
