"""The inputs of a converted denoiser: all of them in every evaluation, as float32 arrays of numpy.

One network serves every batch: a clip without previous clip has zeros and False, one without conditions zeros.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from riffstream.diffusion.mini.denoiser import Denoiser, DenoiserConfig

__all__ = ["AnyBatch", "denoiser_arrays", "evaluate", "example", "example_arguments", "shapes"]

TEXT_STEP: Final = 16  # texts are padded to multiples of it, so that few sizes occur: the first run of each is slower


class AnyBatch(nn.Module):
    """A denoiser that takes its inputs in the order of :func:`denoiser_arrays`."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(
        self, x: Tensor, t: Tensor, tokens: Tensor, mask: Tensor, previous: Tensor, given: Tensor,
        conditions: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        return self.denoiser(  # type: ignore[no-any-return]
            x, t, tokens, mask, previous, given, conditions=conditions
        )


def shapes(config: DenoiserConfig, width: int, batch: int = -1, tokens: int = -1) -> list[list[int]]:
    """Shapes of the inputs for latents of ``width`` columns; -1: any size."""
    latents = [batch, config.channels, config.rows, width]
    found = [latents, [batch], [batch, tokens, config.text_width], [batch, tokens], latents, [batch]]
    return [*found, [batch, width // config.patch, config.conditions]] if config.conditions else found


def example(config: DenoiserConfig, width: int, batch: int = 2, tokens: int = TEXT_STEP) -> tuple[Tensor, ...]:
    """Inputs of the right shapes with fixed values, of which every second clip has no previous one."""
    generator = torch.Generator().manual_seed(1)
    found = [torch.randn(shape, generator=generator) for shape in shapes(config, width, batch, tokens)]
    found[1] = (torch.arange(batch) + 0.5) / batch
    found[3] = found[3].abs()
    found[5] = torch.arange(batch) % 2 == 0
    return tuple(found)


def example_arguments(config: DenoiserConfig, width: int) -> tuple[Any, ...]:
    """:func:`example` as the arguments of :func:`denoiser_arrays`, with None for absent conditions."""
    found = example(config, width)
    return found if config.conditions else (*found, None)


def evaluate(request: Any, arrays: list[np.ndarray[Any, Any]]) -> Tensor:
    """Run a request of OpenVINO with :func:`denoiser_arrays`; float32."""
    found = request.infer(arrays, share_inputs=True)
    return torch.from_numpy(np.array(found[0], np.float32))


def denoiser_arrays(
    config: DenoiserConfig,
    x: Tensor,
    t: Tensor,
    tokens: Tensor,
    mask: Tensor | None,
    previous: Tensor | None,
    previous_mask: Tensor | None,
    conditions: Tensor | None,
) -> list[np.ndarray[Any, Any]]:
    """Arrays for the arguments of ``Denoiser.forward``, all on the CPU."""
    count, width = x.shape[0], x.shape[-1]
    mask = torch.ones(tokens.shape[:2]) if mask is None else mask
    missing = -tokens.shape[1] % TEXT_STEP
    if missing:
        tokens, mask = F.pad(tokens, (0, 0, 0, missing)), F.pad(mask, (0, missing))
    if previous is None:
        previous, given = torch.zeros(x.shape), torch.zeros(count, dtype=torch.bool)
    else:
        given = torch.ones(count, dtype=torch.bool) if previous_mask is None else previous_mask
    found = [x, t, tokens, mask, previous]
    arrays = [each.float().contiguous().numpy() for each in found]
    arrays.append(given.contiguous().numpy())
    if config.conditions:
        if conditions is None:
            conditions = torch.zeros(count, width // config.patch, config.conditions)
        arrays.append(conditions.float().contiguous().numpy())
    return arrays
