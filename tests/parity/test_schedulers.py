"""The original's schedulers, restated, against today's diffusers on the same predictions."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from diffusers import DDIMScheduler, PNDMScheduler

from riffstream.diffusion.family import TrainingSchedule
from riffstream.errors import ParameterError
from riffstream.parity.schedulers import make_stepper


@pytest.mark.parametrize("steps", [1, 3, 7, 50])
@pytest.mark.parametrize("betas", ["linear", "scaled_linear"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", ["ddim", "pndm"])
def test_a_whole_walk_agrees_with_diffusers(
    name: Literal["ddim", "pndm"],
    prediction: Literal["epsilon", "v_prediction"],
    betas: Literal["linear", "scaled_linear"],
    steps: int,
) -> None:
    ours = make_stepper(name, TrainingSchedule("ddpm", prediction, beta_schedule=betas), steps)
    config: dict[str, Any] = {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": betas,
        "prediction_type": prediction,
        "set_alpha_to_one": False,
        "steps_offset": 1,
    }
    theirs: Any = (
        DDIMScheduler(**config, clip_sample=False) if name == "ddim" else PNDMScheduler(**config, skip_prk_steps=True)
    )
    theirs.set_timesteps(steps)
    assert ours.timesteps.tolist() == theirs.timesteps.tolist()
    generator = torch.Generator().manual_seed(steps)
    x = reference = torch.randn(1, 4, 8, 8, generator=generator)
    clean = torch.randn(1, 4, 8, 8, generator=generator)
    for timestep in ours.timesteps.tolist():
        predicted = torch.randn(1, 4, 8, 8, generator=generator)
        x = ours.step(predicted, timestep, x)
        reference = theirs.step(predicted, timestep, reference).prev_sample
        assert torch.allclose(x, reference, rtol=1e-5, atol=1e-5 * float(reference.abs().max()))
        noised = theirs.add_noise(clean, predicted, torch.tensor([timestep]))
        assert torch.allclose(ours.add_noise(clean, predicted, timestep), noised, atol=1e-6)


@pytest.mark.parametrize(
    "schedule",
    [
        TrainingSchedule("flow", "flow"),
        TrainingSchedule("ddpm", "sample"),
        TrainingSchedule("ddpm", "epsilon", beta_schedule="squaredcos_cap_v2"),
    ],
)
def test_schedules_that_the_original_does_not_have_are_refused(schedule: TrainingSchedule) -> None:
    with pytest.raises(ParameterError, match="parity needs"):
        make_stepper("ddim", schedule, 10)
