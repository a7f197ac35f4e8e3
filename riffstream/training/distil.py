"""Distil guidance and large steps into the denoiser: the student needs few evaluations and no second branch.

The student learns the teacher's guided velocity (Meng et al. 2022, arXiv:2210.03142) in the middle of each step of its
own few-step schedule. An Euler step of the student thus equals a second-order step of the guided teacher, with a
quarter of the evaluations (compare progressive distillation, Salimans & Ho 2022, arXiv:2202.00512). The examples are
states of the student's own path (``walks.py``).
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from riffstream.diffusion.mini.denoiser import Denoiser
from riffstream.errors import ParameterError
from riffstream.training.checkpoints import load_denoiser
from riffstream.training.denoiser import (
    PRESETS,
    Batch,
    DenoiserPreset,
    compile_blocks,
    optimisers,
    prepare_data,
)
from riffstream.training.gradient_helper import GradientHelper, Job
from riffstream.training.guard import StepGuard
from riffstream.training.latents import LatentSet
from riffstream.training.loop import (
    Ema,
    Log,
    autocast,
    common_arguments,
    load_state,
    pick_device,
    save_state,
    step_size,
    until_terminated,
)
from riffstream.training.playing import evaluate
from riffstream.training.sample import PROMPTS, write_samples
from riffstream.training.walks import Walks

__all__ = ["Aim", "add_arguments", "distil", "first_student", "guided_velocity", "make_job", "run", "teacher_target"]

RESCALE = 0.7  # 0: no rescaling


@dataclass(frozen=True, slots=True)
class Aim:
    """The intended sampling of a student.

    Attributes:
        guidance: built-in guidance, 1 to 20; 1: none.
        steps: steps of the schedule, 1 to 100.
        shift: shift of the schedule towards noise, above 0 to 100; 1: even steps.
        above: guidance applies at times above this, 0 to 1. Guidance of the last steps makes detail coarser and does
            not bring the clip nearer to its words (Kynkaanniemi et al. 2024, arXiv:2404.07724).
    """

    guidance: float = 3.5
    steps: int = 8
    shift: float = 1.0
    above: float = 0.45

    def __post_init__(self) -> None:
        for name, low, high in (("guidance", 1, 20), ("steps", 1, 100), ("above", 0, 1)):
            if not low <= getattr(self, name) <= high:
                raise ParameterError(name, getattr(self, name), f"{low} to {high}")
        if not 0 < self.shift <= 100:
            raise ParameterError("shift", self.shift, "above 0, at most 100")


AIM = Aim()


@torch.no_grad()
def guided_velocity(
    model: Denoiser, x: Tensor, t: Tensor, batch: Batch, empty: tuple[Tensor, Tensor], aim: Aim
) -> Tensor:
    """The guided velocity [B, C, h, w] float32. ``empty``: tokens [1, S, D] and mask of the empty caption. Guidance
    covers words and conditions together: the unguided branch has neither.

    The velocity is ``v_u + guidance (v_c - v_u)`` in the rows with t above ``aim.above``, and ``v_c`` in the others.
    Guidance alone overdrives the predicted clean latents: ``RESCALE`` moves their spread towards that of the prediction
    of ``v_c`` (Lin et al. 2023, arXiv:2305.08891).
    """
    rows = torch.nonzero(t > aim.above).flatten()
    count, spaces = len(rows), batch.tokens.shape[1]
    tokens = torch.cat([batch.tokens, empty[0][:, :spaces].expand(count, -1, -1)])
    mask = torch.cat([batch.mask, empty[1][:, :spaces].expand(count, -1)])
    conditions = torch.cat([batch.conditions, batch.conditions.new_zeros(count, *batch.conditions.shape[1:])])

    def both(value: Tensor) -> Tensor:
        return torch.cat([value, value[rows]])

    with autocast(x.device):
        made = model(
            both(x), both(t), tokens, mask, both(batch.previous), both(batch.previous_mask),
            None if batch.triple is None else both(batch.triple), conditions,
        )  # fmt: skip
    velocity, none = made.float().split([len(x), count])
    if count == 0:
        return velocity  # type: ignore[no-any-return]
    x, own, time = x[rows], velocity[rows], t[rows][:, None, None, None].clamp_min(1e-3)
    guided = none + aim.guidance * (own - none)
    clean = x - time * guided
    ratio = (x - time * own).std(dim=(1, 2, 3)) / clean.std(dim=(1, 2, 3)).clamp_min(1e-6)
    ratio = (1 + RESCALE * (ratio - 1))[:, None, None, None]
    velocity = velocity.clone()
    velocity[rows] = (x - ratio * clean) / time
    return velocity  # type: ignore[no-any-return]


@torch.no_grad()
def teacher_target(teacher: Denoiser, walks: Walks, empty: tuple[Tensor, Tensor], aim: Aim) -> Tensor:
    """The target velocity [B, C, h, w] of the next steps of ``walks``: the guided velocity in the middle of the step
    (midpoint rule, second order)."""
    x, t, batch = walks.x, walks.t, walks.batch
    half = (t - walks.next_t) / 2
    first = guided_velocity(teacher, x, t, batch, empty, aim)
    return guided_velocity(teacher, x - first * half[:, None, None, None], t - half, batch, empty, aim)


def walk_loss(
    student: nn.Module, teacher: Denoiser, walks: Walks, empty: tuple[Tensor, Tensor], aim: Aim, narrow: int
) -> Tensor:
    """Mean squared distance of the student's velocity from :func:`teacher_target`; moves the trajectories on."""
    x, t, batch, inside = walks.x, walks.t, walks.batch, walks.batch.inside(narrow)
    target = teacher_target(teacher, walks, empty, aim)
    with autocast(x.device):
        made = evaluate(student, x, t, batch)
    error = (made - target).square() * inside
    walks.advance(made.detach() * inside)
    return error.sum() / inside.expand_as(error).sum()


def make_job(
    teacher: Denoiser, data: LatentSet, rows: Tensor, size: int, seed: int, aim: Aim, compiled: bool = False
) -> Job:
    """The job of a :class:`GradientHelper`: trajectories of a separate random stream."""
    empty = (data.tokens[:1].float(), data.mask[:1])
    narrow = teacher.config.columns_triple
    walks = Walks(data, rows, size, aim.steps, aim.shift, walk_seed(seed, helper=True), torch.device("cpu"))

    def job(student: nn.Module, index: int) -> tuple[Tensor, int]:
        if compiled and index == 0:
            assert isinstance(student, Denoiser)
            compile_blocks(teacher)
            compile_blocks(student)
        return walk_loss(student, teacher, walks, empty, aim, narrow), size

    return job


def walk_seed(seed: int, *, helper: bool = False) -> int:
    """First seed of the trajectories of a process."""
    return (seed + 7) * 1_000_003 + (500_000_000 if helper else 0)


@torch.no_grad()
def first_student(teacher: Denoiser, state: dict[str, Any] | None) -> Denoiser:
    """A copy of the teacher, plus the weight change of an earlier distillation if there was one.

    Weight changes of two trainings of one network are approximately additive (Ilharco et al. 2023, arXiv:2212.04089).
    After further training of the teacher, the new student therefore starts close to its result.
    """
    student = copy.deepcopy(teacher)
    if state is not None and state["config"] == asdict(teacher.config):
        for name, value in student.named_parameters():
            value.add_(state["ema"]["values"][name] - state["teacher"][name])
    return student.requires_grad_(True)


def _same(state: dict[str, Any], kind: dict[str, Any], taught: dict[str, Tensor]) -> bool:
    """Whether a saved student had this teacher and aim."""
    if any(state[key] != value for key, value in kind.items()):
        return False
    return all(torch.equal(value, state["teacher"][name]) for name, value in taught.items())


def distil(
    data: LatentSet,
    out: Path,
    preset: DenoiserPreset,
    *,
    minutes: float,
    device: torch.device,
    aim: Aim = AIM,
    seed: int = 0,
    helper_core: int | None = None,
    compiled: bool = False,
    log: Log | None = None,
    pictures: Sequence[str] = (),
) -> dict[str, Any]:
    """Train a student of ``out/denoiser_final.pt`` (or ``denoiser.pt``) for ``minutes`` and save ``out/distilled.pt``.

    Training continues from ``out/distilled.pt`` if that student has the same teacher and aim. Otherwise it starts
    with :func:`first_student`.

    Args:
        helper_core: CPU core of a gradient helper; -1: any core; None: no helper.
        compiled: run the blocks through ``torch.compile``.
        pictures: prompts of the student's sample pictures, written to ``out/samples`` at the end.

    Returns:
        Total steps and examples, and the student's mean squared distance from the teacher's target on its own path
        through held-out clips, before and after.

    Raises:
        TrainingError: the loss stays infinite or undefined; the last saved state is valid.
    """
    log = log or Log(out, "distil", quiet=True)
    # The targets have no noise, so small batches are enough, and there are twice as many steps.
    preset = replace(preset, batch=max(1, preset.batch // 2))
    source = out / "denoiser_final.pt"
    teacher = load_denoiser(source if source.is_file() else out / "denoiser.pt", device).requires_grad_(False)
    taught = {name: value.clone() for name, value in teacher.named_parameters()}
    kind = {"config": asdict(teacher.config), "aim": asdict(aim)}
    state = load_state(out / "distilled.pt", device)
    student = first_student(teacher, state)
    stages = optimisers(student, preset)
    ema = Ema(student, 0.99)
    rows, held = data.rows(held_out=False), data.rows(held_out=True)
    held = held if len(held) else rows
    narrow = teacher.config.columns_triple
    walks = Walks(data, rows, preset.batch, aim.steps, aim.shift, walk_seed(seed), device)
    step = examples = 0
    if state is not None and _same(state, kind, taught):
        student.load_state_dict(state["model"])
        ema.restore(state["ema"])
        for stage, kept in zip(stages, state["optimisers"], strict=True):
            stage.load_state_dict(kept)
        step, examples = state["step"], state["examples"]
        if "walks" in state and state["walks"]["x"].shape == walks.x.shape:
            walks.restore(state["walks"])
    empty = (data.tokens[:1].float().to(device), data.mask[:1].to(device))
    helper = None
    if helper_core is not None:
        job = (teacher, data, rows, preset.batch, seed + step, aim, compiled)
        helper = GradientHelper(student, make_job, job, core=helper_core)
    if compiled:
        compile_blocks(teacher)
        compile_blocks(student)

    def check() -> float:
        size = max(2, min(preset.batch, preset.validation // 4))
        with ema.applied(student), torch.no_grad():
            own = Walks(data, held, size, aim.steps, aim.shift, walk_seed(78), device)
            losses = [float(walk_loss(student, teacher, own, empty, aim, narrow)) for _ in range(aim.steps)]
        return sum(losses) / len(losses)

    def keep() -> None:
        weights = {"model": student.state_dict(), "ema": ema.state(), "teacher": taught, "walks": walks.state()}
        kept = [stage.state_dict() for stage in stages]
        save_state(out / "distilled.pt", {**kind, **weights, "optimisers": kept, "step": step, "examples": examples})

    before = check()
    started = reported = time.monotonic()
    first = step
    guard = StepGuard()
    try:
        with until_terminated() as ended:
            while (spent := (time.monotonic() - started) / 60) < minutes and not ended():
                factor = 0.25 * step_size(step - first, 20, 1 - spent / minutes, 0.5)
                for stage, rate in zip(stages, (preset.rate, preset.adam_rate), strict=True):
                    stage.param_groups[0]["lr"] = rate * factor
                loss = walk_loss(student, teacher, walks, empty, aim, narrow)
                for stage in stages:
                    stage.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                seen = preset.batch + (helper.add_to(preset.batch) if helper else 0)
                step += 1
                if not guard.passes(loss, torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)):
                    continue
                for stage in stages:
                    stage.step()
                ema.update(student)
                examples += seen
                if step % 25 == 0:
                    log(step=step, examples=examples, loss=float(loss.detach()), minutes=spent)
                if (time.monotonic() - reported) / 60 > preset.report_minutes:
                    keep()
                    reported = time.monotonic()
    finally:
        if helper:
            helper.close()
    keep()
    if pictures:
        with ema.applied(student):
            path = out / "samples" / f"distilled-{step:06d}.webp"
            write_samples(student, data, path, pictures, guidance=1.0, steps=aim.steps)
    result = {"step": step, "examples": examples, "before": before, "after": check(), **asdict(aim)}
    log(**result)
    return result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``riffstream train distil``."""
    common_arguments(parser, minutes=12)
    parser.add_argument("--guidance", type=float, default=AIM.guidance, help="built-in guidance, 1 to 20")
    parser.add_argument("--above", type=float, default=AIM.above, help="guidance applies at times above this, 0 to 1")
    parser.add_argument("--steps", type=int, default=8, help="steps of the schedule, 1 to 100")
    parser.add_argument("--shift", type=float, default=1.0, help="shift of the schedule towards noise (1: even steps)")
    parser.add_argument("--compile", action="store_true", help="use torch.compile, as for the denoiser")
    parser.add_argument("--helper-core", type=int, default=None, help="CPU core of a gradient helper process (-1: any)")


def run(args: argparse.Namespace) -> int:
    """``riffstream train distil``."""
    device = pick_device(args.device)
    aim = Aim(args.guidance, args.steps, args.shift, args.above)
    log = Log(args.out, "distil", quiet=args.quiet)
    result = distil(
        prepare_data(args.corpus, args.out, device, log), args.out, PRESETS[args.preset], minutes=args.minutes,
        device=device, aim=aim, seed=args.seed, helper_core=args.helper_core, compiled=args.compile, log=log,
        pictures=PROMPTS,
    )  # fmt: skip
    if args.json:
        print(json.dumps(result))
    return 0
