"""Wider denoisers: the function of the trained one, and no channel that cannot learn."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from riffstream.diffusion.mini.denoiser import Denoiser, DenoiserConfig
from riffstream.diffusion.mini.family import MODEL_FOLDER, MiniFamily
from riffstream.diffusion.mini.growth import widened
from riffstream.errors import ParameterError

SMALL = DenoiserConfig(channels=4, width=32, layers=2, heads=2, mlp=64, text_width=8, context=2, conditions=5)


def trained(config: DenoiserConfig) -> Denoiser:
    """A denoiser with no zero weights, as after training."""
    torch.manual_seed(7)
    model = Denoiser(config)
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def inputs(config: DenoiserConfig, count: int = 3) -> tuple[Tensor, ...]:
    torch.manual_seed(8)
    x = torch.randn(2, count, config.channels, config.rows, config.columns)
    tokens = torch.randn(count, 6, config.text_width) * 0.3
    conditions = torch.rand(count, config.columns // config.patch, config.conditions)
    return x[0], x[1], torch.linspace(0.2, 1, count), tokens, conditions


def difference(model: Denoiser, grown: Denoiser) -> float:
    x, before, t, tokens, conditions = inputs(model.config)
    with torch.no_grad():
        own = model(x, t, tokens, None, before, None, None, conditions)
        made = grown(x, t, tokens, None, before, None, None, conditions)
    return float((made - own).square().mean() / own.square().mean())


@pytest.mark.parametrize("width", [48, 64])
def test_a_wider_denoiser_has_the_function_of_the_trained_one(width: int) -> None:
    model = trained(SMALL)
    grown = widened(model, width)
    assert (grown.config.width, grown.config.heads, grown.config.mlp) == (width, width // 16, 2 * width)
    assert difference(model, grown) < 0.02
    assert difference(model, Denoiser(grown.config)) > 0.5


def test_the_shipped_denoiser_grows() -> None:
    model = MiniFamily.load(MODEL_FOLDER, dtype=torch.float32).denoiser
    width = model.config.width + model.config.width // model.config.heads
    assert difference(model, widened(model, width)) < 0.02


def test_every_new_weight_learns() -> None:
    model = trained(SMALL)
    grown = widened(model, 48)
    x, before, t, tokens, conditions = inputs(SMALL)
    tuner = torch.optim.Adam(grown.parameters(), 1e-3)
    moved = {name: torch.zeros_like(value) for name, value in grown.named_parameters()}
    for k in range(4):
        tuner.zero_grad()
        made = grown(x, t, tokens, None, before if k % 2 else None, None, None, conditions)
        (made - x).square().mean().backward()
        for name, value in grown.named_parameters():
            moved[name] += 0 if value.grad is None else value.grad.abs()
        tuner.step()
    still = {name for name, total in moved.items() if not bool(total.all())}
    # Clips in 3/4 have a vector of their own, which no clip here uses.
    assert still <= {"column_triple"}


def test_a_width_that_does_not_fit_is_refused() -> None:
    model = trained(SMALL)
    assert widened(model, 32) is model
    for width, range_ in ((16, "32 or more"), (40, "multiple of 16"), (0, "multiple of 16"), (16 * 65, "16 to 1024")):
        with pytest.raises(ParameterError, match=f"width.*{range_}"):
            widened(model, width)
