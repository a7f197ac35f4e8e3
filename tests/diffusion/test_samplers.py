"""Every sampler equals diffusers' scheduler, step by step, on the same predictions; and each converges at its order.

Tolerances: diffusers computes its coefficients in float32 and divides by small alphas at the noisy end, where its own
rounding is about 1e-5 of the latent; ours come from float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from riffstream.diffusion.family import TrainingSchedule
from riffstream.diffusion.samplers import SAMPLERS, Schedule, build, find, step
from riffstream.diffusion.samplers_linear import plms_calls
from riffstream.diffusion.schedules import Level, Path, alphas_cumprod, shifted, unshifted
from riffstream.errors import ParameterError

# diffusers' schedulers call numpy in a way that numpy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SHAPE = (1, 4, 8, 6)


def training(prediction: str = "epsilon", **rest: object) -> TrainingSchedule:
    return TrainingSchedule("ddpm", prediction, **rest)  # type: ignore[arg-type]


def fake_network(x: Tensor, t: float) -> Tensor:
    """Some smooth function of latent and time that no scheduler can be tuned to."""
    return torch.sin(1.7 * x + t / 400) * 0.8 + 0.3 * x.roll(1, -1)


class Ours:
    """Our schedule, one evaluation at a time."""

    def __init__(self, schedule: Schedule, x: Tensor) -> None:
        self.rows: Iterator = iter(schedule.rows)
        self.x = x
        self.memory = torch.zeros(1, schedule.sampler.memory, *x.shape[1:])

    def advance(self, noise: Tensor | None = None) -> tuple[float, Level]:
        row = next(self.rows)
        self.x, self.memory = step(self.x, fake_network(self.x, row.time), [row], self.memory, noise)
        return row.time, row.level


def start_noise() -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(3))


def close(ours: Tensor, reference: Tensor, tolerance: float, where: str) -> None:
    error = float((ours - reference).abs().max() / reference.abs().max())
    assert error < tolerance, f"{where}: relative error {error:.1e}"


PREDICTIONS = ["epsilon", "v_prediction"]


@pytest.mark.parametrize("prediction", [*PREDICTIONS, "sample"])
@pytest.mark.parametrize("steps", [1, 7, 20, 50])
def test_ddim(steps: int, prediction: str) -> None:
    reference = DDIMScheduler(
        **BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1, prediction_type=prediction
    )
    reference.set_timesteps(steps)
    ours = Ours(build(training(prediction), "ddim", steps), start_noise())
    x = start_noise()
    for t in reference.timesteps:
        x = reference.step(fake_network(x, float(t)), t, x).prev_sample
        time, _ = ours.advance()
        assert time == float(t)
        close(ours.x, x, 3e-5, f"t={int(t)}")
    assert next(ours.rows, None) is None


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("steps", [1, 2, 5, 20, 50])
def test_pndm(steps: int, prediction: str) -> None:
    reference = PNDMScheduler(
        **BETAS, skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1, prediction_type=prediction
    )
    reference.set_timesteps(steps)
    ours = Ours(build(training(prediction), "pndm", steps), start_noise())
    x = start_noise()
    for t in reference.timesteps:
        x = reference.step(fake_network(x, float(t)), int(t), x).prev_sample
        time, _ = ours.advance()
        assert time == float(t)
        close(ours.x, x, 3e-5, f"t={int(t)}")
    assert next(ours.rows, None) is None


@pytest.mark.parametrize("count", [2, 3, 4, 9])
def test_pndm_with_riffusions_truncated_list(count: int) -> None:
    """Without the repeated time, the second call redoes the first one's step all the same."""
    reference = PNDMScheduler(**BETAS, skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1)
    reference.set_timesteps(20)
    calls = [int(t) for t in reference.timesteps[-count:]]
    rows = plms_calls(training(), calls, 50)
    x = ours = start_noise()
    memory = torch.zeros(1, 4, *SHAPE[1:])
    for row, t in zip(rows, calls, strict=True):
        x = reference.step(fake_network(x, t), t, x).prev_sample
        ours, memory = step(ours, fake_network(ours, t), [row], memory)
        close(ours, x, 3e-5, f"t={t}")


EULER_LIKE = [
    ("euler", EulerDiscreteScheduler),
    ("heun", HeunDiscreteScheduler),
    ("euler_a", EulerAncestralDiscreteScheduler),
]


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
@pytest.mark.parametrize("steps", [2, 13])
@pytest.mark.parametrize(("name", "reference_class"), EULER_LIKE)
def test_euler_and_heun(name: str, reference_class: Callable, steps: int, spacing: str, prediction: str) -> None:
    reference = reference_class(**BETAS, timestep_spacing=spacing, steps_offset=1, prediction_type=prediction)
    reference.set_timesteps(steps)
    schedule = build(training(prediction), name, steps, 1.0, spacing)
    ours = Ours(schedule, start_noise())
    x = start_noise() / schedule.start.alpha  # diffusers' latents are in units of sigma / alpha
    generator, again = (torch.Generator().manual_seed(5) for _ in range(2))
    for t in reference.timesteps:
        predicted = fake_network(reference.scale_model_input(x, t), float(t))
        noise = torch.randn(SHAPE, generator=generator)
        extra = {"generator": again} if name == "euler_a" else {}
        x = reference.step(predicted, t, x, **extra).prev_sample
        time, level = ours.advance(noise)
        assert time == pytest.approx(float(t), abs=1e-3)
        close(ours.x, x * level.alpha, 5e-5, f"t={float(t)}")
    assert next(ours.rows, None) is None


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
@pytest.mark.parametrize("steps", [1, 2, 5, 20])
@pytest.mark.parametrize(
    ("name", "reference_class"), [("dpm++", DPMSolverMultistepScheduler), ("unipc", UniPCMultistepScheduler)]
)
def test_multistep(name: str, reference_class: Callable, steps: int, spacing: str, prediction: str) -> None:
    reference = reference_class(**BETAS, timestep_spacing=spacing, steps_offset=1, prediction_type=prediction)
    reference.set_timesteps(steps)
    ours = Ours(build(training(prediction), name, steps, 1.0, spacing), start_noise())
    x = start_noise()
    for t in reference.timesteps:
        x = reference.step(fake_network(x, float(t)), t, x).prev_sample
        time, _ = ours.advance()
        assert time == float(t)
        close(ours.x, x, 5e-5, f"t={int(t)}")
    assert next(ours.rows, None) is None


@pytest.mark.parametrize("denoising", [0.3, 0.75])
@pytest.mark.parametrize("name", ["ddim", "euler", "dpm++", "unipc"])
def test_img2img_starts_where_diffusers_pipelines_do(name: str, denoising: float) -> None:
    steps = 20
    classes = {
        "ddim": (DDIMScheduler, {"clip_sample": False, "set_alpha_to_one": False}),
        "euler": (EulerDiscreteScheduler, {}),
        "dpm++": (DPMSolverMultistepScheduler, {}),
        "unipc": (UniPCMultistepScheduler, {}),
    }
    make, extra = classes[name]
    reference = make(**BETAS, steps_offset=1, **extra)
    reference.set_timesteps(steps)
    first = steps - int(steps * denoising)
    if hasattr(reference, "set_begin_index"):
        reference.set_begin_index(first)
    schedule = build(training(), name, steps, denoising)
    clean, noise = torch.full(SHAPE, 0.7), start_noise()
    x = reference.add_noise(clean, noise, reference.timesteps[first : first + 1])
    ours = Ours(schedule, schedule.start.alpha * clean + schedule.start.sigma * noise)
    for t in reference.timesteps[first:]:
        scaled = reference.scale_model_input(x, t)
        x = reference.step(fake_network(scaled, float(t)), t, x).prev_sample
        _, level = ours.advance()
        close(ours.x, x * (level.alpha if name == "euler" else 1), 5e-5, f"{name} t={float(t)}")
    assert next(ours.rows, None) is None


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize(("steps", "denoising"), [(1, 1.0), (4, 1.0), (8, 1.0), (8, 0.5)])
def test_lcm(steps: int, denoising: float, prediction: str) -> None:
    reference = LCMScheduler(**BETAS, set_alpha_to_one=False, steps_offset=1, prediction_type=prediction)
    reference.set_timesteps(round(steps * denoising), strength=denoising)
    ours = Ours(build(training(prediction), "lcm", steps, denoising), start_noise())
    x = start_noise()
    generator, again = (torch.Generator().manual_seed(5) for _ in range(2))
    for t in reference.timesteps:
        x = reference.step(fake_network(x, float(t)), t, x, generator=again).prev_sample
        time, _ = ours.advance(torch.randn(SHAPE, generator=generator))
        assert time == float(t)
        close(ours.x, x, 3e-5, f"t={int(t)}")


FLOW = TrainingSchedule("flow", "flow")


SHIFTED = TrainingSchedule("flow", "flow", shift=3.0)


@pytest.mark.parametrize("training", [FLOW, SHIFTED], ids=["even", "shifted"])
@pytest.mark.parametrize("steps", [1, 4, 24])
@pytest.mark.parametrize("name", ["euler", "lcm"])
def test_flow_euler_and_its_stochastic_form(name: str, steps: int, training: TrainingSchedule) -> None:
    reference = FlowMatchEulerDiscreteScheduler(stochastic_sampling=name == "lcm", shift=training.shift)
    reference.set_timesteps(sigmas=[1 - k / steps for k in range(steps)])
    ours = Ours(build(training, name, steps), start_noise())
    x = start_noise()
    generator, again = (torch.Generator().manual_seed(5) for _ in range(2))
    for t in reference.timesteps:
        x = reference.step(fake_network(x, float(t) / 1000), t, x, generator=again).prev_sample
        time, _ = ours.advance(torch.randn(SHAPE, generator=generator))
        assert time == pytest.approx(float(t) / 1000, abs=1e-6)
        close(ours.x, x, 1e-5, f"t={float(t)}")


@given(st.floats(0, 1), st.floats(1, 20))
def test_a_shift_can_be_taken_back(place: float, shift: float) -> None:
    t = shifted(place, shift)
    assert place <= t + 1e-12
    assert unshifted(t, shift) == pytest.approx(place, abs=1e-9)


def test_a_shifted_flow_begins_where_it_is_told_and_ends_on_its_grid() -> None:
    """Denoising names the noise that a clip starts with, whatever the shift; on the grid it takes the grid's steps."""
    whole = build(SHIFTED, "euler", 8)
    assert [round(row.time, 3) for row in whole.rows] == [1.0, 0.955, 0.9, 0.833, 0.75, 0.643, 0.5, 0.3]
    part = build(SHIFTED, "euler", 8, 0.9)
    assert part.start == pytest.approx((0.1, 0.9))
    assert [row.time for row in part.rows] == pytest.approx([row.time for row in whole.rows[2:]])
    assert build(SHIFTED, "euler", 8, 0.6).start.sigma == pytest.approx(0.6)
    assert len(build(SHIFTED, "euler", 8, 0.01).rows) == 1


@pytest.mark.parametrize("steps", [3, 8, 20])
@pytest.mark.parametrize(
    ("name", "reference_class"), [("dpm++", DPMSolverMultistepScheduler), ("unipc", UniPCMultistepScheduler)]
)
def test_flow_multistep(name: str, reference_class: Callable, steps: int) -> None:
    """Fed with diffusers' own levels, since its flow schedules do not begin or end where a rectified flow does."""
    reference = reference_class(use_flow_sigmas=True, prediction_type="flow_prediction")
    reference.set_timesteps(steps)
    levels = tuple(Level(1 - s, s) for s in map(float, reference.sigmas.double()))
    rows = SAMPLERS[name].rows(Path(tuple(level.sigma for level in levels[:-1]), levels, FLOW))
    x = ours = start_noise()
    memory = torch.zeros(1, SAMPLERS[name].memory, *SHAPE[1:])
    for row, t in zip(rows, reference.timesteps, strict=True):
        x = reference.step(fake_network(x, row.time), t, x).prev_sample
        ours, memory = step(ours, fake_network(ours, row.time), [row], memory)
        close(ours, x, 1e-4, f"t={row.time}")


def gaussian_prediction(x: Tensor, level: Level, kind: str, spread: float = 0.4, mean: float = 1.3) -> Tensor:
    """The exact denoiser for music that is Gaussian: every sampler's ODE then has a known solution."""
    alpha, sigma = level
    variance = (alpha * spread) ** 2 + sigma**2
    clean = mean + alpha * spread**2 / variance * (x - alpha * mean)
    noise = (x - alpha * clean) / sigma
    return noise - clean if kind == "flow" else noise


def solve(schedule: Schedule, x: Tensor, kind: str) -> Tensor:
    memory = torch.zeros(len(x), schedule.sampler.memory, *x.shape[1:])
    for row in schedule.rows:
        t = row.time
        if kind == "flow":
            here = Level(1 - t, t)
        else:
            square = np.interp(t, np.arange(1000), (1 - alphas_cumprod(training())) / alphas_cumprod(training())) ** 0.5
            here = Level(1 / math.sqrt(1 + square**2), square / math.sqrt(1 + square**2))
        x, memory = step(x, gaussian_prediction(x, here, kind), [row] * len(x), memory)
    assert schedule.rows[-1].level.sigma < 0.04
    return x


@pytest.mark.parametrize(
    ("kind", "name", "steps", "tolerance"),
    [
        ("flow", "euler", 64, 0.03),
        ("flow", "heun", 16, 0.015),
        ("flow", "dpm++", 32, 0.02),
        ("flow", "unipc", 32, 0.02),
        ("shifted", "euler", 64, 0.05),
        ("shifted", "unipc", 32, 0.02),
        ("ddpm", "ddim", 50, 0.1),
        ("ddpm", "euler", 50, 0.06),
        ("ddpm", "heun", 20, 0.02),
        ("ddpm", "dpm++", 100, 0.025),
        ("ddpm", "unipc", 100, 0.025),
        ("ddpm", "pndm", 50, 0.05),
    ],
)
def test_deterministic_samplers_reach_the_exact_solution(kind: str, name: str, steps: int, tolerance: float) -> None:
    """For Gaussian music (mean 1.3, spread 0.4) the ODE maps noise z to 1.3 + 0.4 z."""
    z = torch.linspace(-2, 2, 9).reshape(9, 1, 1, 1)
    schedule = build({"flow": FLOW, "shifted": SHIFTED}.get(kind) or training(), name, steps)
    kind = kind.replace("shifted", "flow")
    alpha, sigma = schedule.start
    marginal = alpha * 1.3 + math.hypot(alpha * 0.4, sigma) * z
    error = float((solve(schedule, marginal, kind) - (1.3 + 0.4 * z)).abs().max())
    assert error < tolerance, f"error {error:.4f}"


@pytest.mark.parametrize("name", ["heun", "dpm++", "unipc"])
def test_second_order_samplers_gain_four_times_from_twice_the_steps(name: str) -> None:
    """Between t = 0.9 and 0.1; the last step to a clean end is of first order in the multistep solvers."""
    z = torch.linspace(-2, 2, 9).reshape(9, 1, 1, 1)
    errors = []
    for steps in (20, 40):
        levels = tuple(Level(1 - t, t) for t in (*np.linspace(0.9, 0.1, steps + 1), 0.0))
        path = Path(tuple(level.sigma for level in levels[:-1]), levels, FLOW)
        x, end = (levels[k].alpha * 1.3 + math.hypot(levels[k].alpha * 0.4, levels[k].sigma) * z for k in (0, -2))
        memory = torch.zeros(9, SAMPLERS[name].memory, 1, 1, 1)
        for row in SAMPLERS[name].rows(path)[:-1]:
            prediction = gaussian_prediction(x, Level(1 - row.time, row.time), "flow")
            x, memory = step(x, prediction, [row] * 9, memory)
        errors.append(float((x - end).abs().max()))
    assert errors[0] / errors[1] > 3, errors


@pytest.mark.parametrize("name", ["euler_a", "lcm"])
def test_stochastic_samplers_end_with_the_right_spread(name: str) -> None:
    """With the exact denoiser, Euler ancestral ends with the music's own mean and spread; LCM, which is told a
    posterior mean where it expects a consistency function, keeps at least the mean."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(4000, 1, 1, 1, generator=generator)
    schedule = build(training(), name, 150 if name == "euler_a" else 40)
    memory = torch.zeros(4000, 0, 1, 1, 1)
    for row in schedule.rows:
        ratio = np.interp(row.time, np.arange(1000), np.sqrt(1 / alphas_cumprod(training()) - 1))
        level = Level(1 / math.hypot(1, ratio), ratio / math.hypot(1, ratio))
        noise = torch.randn(x.shape, generator=generator)
        x, memory = step(x, gaussian_prediction(x, level, "ddpm"), [row] * len(x), memory, noise)
    assert float(x.mean()) == pytest.approx(1.3, abs=0.04)
    if name == "euler_a":
        assert float(x.std()) == pytest.approx(0.4, abs=0.04)


def test_a_mixed_batch_equals_its_clips_alone_bit_by_bit() -> None:
    schedules = [build(training(), name, 9) for name in ("ddim", "pndm", "unipc", "dpm++", "euler_a", "heun")]
    generator = torch.Generator().manual_seed(2)
    size = len(schedules)
    x, prediction, noise = (torch.randn(size, *SHAPE[1:], generator=generator) for _ in range(3))
    memory = torch.randn(size, 4, *SHAPE[1:], generator=generator)
    rows = [schedule.rows[k] for k, schedule in enumerate(schedules)]
    together, kept = step(x, prediction, rows, memory, noise)
    for k, schedule in enumerate(schedules):
        places = schedule.sampler.memory
        one = slice(k, k + 1)
        alone, own = step(x[one], prediction[one], [rows[k]], memory[one, :places], noise[one])
        assert torch.equal(alone, together[one]), schedule.sampler.name
        assert torch.equal(own, kept[one, :places]), schedule.sampler.name


@pytest.mark.parametrize("name", [n for n, s in SAMPLERS.items() if s.ddpm and n != "lcm"])
@pytest.mark.parametrize("steps", [1, 2, 333, 1000])
def test_any_number_of_steps_gives_finite_rows_that_go_down(name: str, steps: int) -> None:
    schedule = build(training(), name, steps)
    assert all(np.isfinite(row.matrix).all() for row in schedule.rows)
    assert 1 <= len(schedule.rows) <= 2 * steps + 1
    times = [row.time for row in schedule.rows]
    assert times == sorted(times, reverse=True)
    assert max(times) <= 999


def test_denoising_decides_how_many_steps_are_done() -> None:
    assert build(training(), "ddim", 20, 0.0).rows == ()
    assert len(build(training(), "ddim", 20, 0.01).rows) == 1
    assert len(build(training(), "ddim", 20, 0.75).rows) == 15
    assert build(FLOW, "euler", 10, 0.55).start == Level(pytest.approx(0.45), pytest.approx(0.55))


def test_sampler_errors_name_what_is_allowed() -> None:
    with pytest.raises(ParameterError, match=r"did you mean 'euler_a'"):
        find("euler-a", training())
    with pytest.raises(ParameterError, match=r"euler, heun, dpm\+\+, unipc, lcm with this model"):
        find("ddim", FLOW)
    with pytest.raises(ParameterError, match="steps is 0"):
        build(training(), "ddim", 0)
    with pytest.raises(ParameterError, match="1 to 25 with the lcm sampler"):
        build(training(), "lcm", 60, 0.5)
    row = build(training(), "lcm", 4).rows[0]
    with pytest.raises(ValueError, match="draws noise"):
        step(start_noise(), start_noise(), [row], torch.zeros(1, 0, *SHAPE[1:]))
