"""Distil guidance and large steps into the denoiser, so that few evaluations without a second branch suffice.

The student learns the teacher's guided velocity (Meng et al. 2022, arXiv:2210.03142), taken in the middle of each step
of the few-step schedule that it will be sampled with: an Euler step of the student is a second-order step of the guided
teacher, at a quarter of the evaluations (compare progressive distillation, Salimans & Ho 2022, arXiv:2202.00512).
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from riffstream.diffusion.mini_denoiser import Denoiser
from riffstream.training.denoiser import (
    PRESETS,
    DenoiserPreset,
    compile_blocks,
    load_denoiser,
    optimisers,
    prepare_data,
)
from riffstream.training.denoiser_batches import Batch, draw, shifted_times
from riffstream.training.latents import LatentSet
from riffstream.training.loop import Ema, Log, autocast, common_arguments, pick_device, save_state, step_size

__all__ = ["add_arguments", "distil", "guided_velocity", "run", "teacher_target"]

RESCALE = 0.7  # 0 leaves guidance as it is


@torch.no_grad()
def guided_velocity(
    model: Denoiser, x: Tensor, t: Tensor, batch: Batch, empty: tuple[Tensor, Tensor], guidance: float
) -> Tensor:
    """The guided velocity [B, C, h, w] float32; ``empty``: tokens [1, S, D] and mask of no caption.

    ``v_u + guidance (v_c - v_u)``, and then the clean latents that it points at are brought back, by ``RESCALE``, to
    the spread of those that ``v_c`` points at (Lin et al. 2023, arXiv:2305.08891): guidance alone overdrives them.
    """
    size, spaces = len(x), batch.tokens.shape[1]
    tokens = torch.cat([batch.tokens, empty[0][:, :spaces].expand(size, -1, -1)])
    mask = torch.cat([batch.mask, empty[1][:, :spaces].expand(size, -1)])
    triple = None if batch.triple is None else batch.triple.repeat(2)
    with autocast(x.device):
        made = model(
            x.repeat(2, 1, 1, 1), t.repeat(2), tokens, mask, batch.previous.repeat(2, 1, 1, 1),
            batch.previous_mask.repeat(2), triple,
        )  # fmt: skip
    own, none = made.float().chunk(2)
    guided = none + guidance * (own - none)
    time = t[:, None, None, None].clamp_min(1e-3)
    wanted, made_clean = (x - time * own).std(dim=(1, 2, 3)), x - time * guided
    ratio = wanted / made_clean.std(dim=(1, 2, 3)).clamp_min(1e-6)
    ratio = (1 + RESCALE * (ratio - 1))[:, None, None, None]
    return (x - ratio * made_clean) / time  # type: ignore[no-any-return]


@torch.no_grad()
def teacher_target(
    teacher: Denoiser, batch: Batch, empty: tuple[Tensor, Tensor], guidance: float, steps: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Noisy latents, their t on the shifted grid of ``steps`` steps, and the velocity that a step from t to the next
    point of the grid should take: the guided one in the middle of the step (midpoint rule, second order).
    ``batch.t``: places on the way, in [0, 1]."""
    place = (batch.t * steps).ceil().clamp(1, steps) / steps
    t = shifted_times(place)
    half = ((t - shifted_times(place - 1 / steps)) / 2)[:, None, None, None]
    x = (1 - t[:, None, None, None]) * batch.clean + t[:, None, None, None] * batch.noise
    first = guided_velocity(teacher, x, t, batch, empty, guidance)
    return x, t, guided_velocity(teacher, x - first * half, t - half.flatten(), batch, empty, guidance)


def distil(
    data: LatentSet,
    out: Path,
    preset: DenoiserPreset,
    *,
    minutes: float,
    device: torch.device,
    guidance: float = 3.0,
    steps: int = 8,
    seed: int = 0,
    compiled: bool = False,
    log: Log | None = None,
) -> dict[str, Any]:
    """Train a student of ``out/denoiser_final.pt`` (or ``denoiser.pt``) for ``minutes`` into ``out/distilled.pt``.

    Returns:
        Steps, and the student's mean squared distance to the teacher's target on held-out clips, before and after.
    """
    log = log or Log(out, "distil", quiet=True)
    source = out / "denoiser_final.pt"
    teacher = load_denoiser(source if source.is_file() else out / "denoiser.pt", device).requires_grad_(False)
    student = copy.deepcopy(teacher).requires_grad_(True)
    stages = optimisers(student, preset)
    ema = Ema(student, 0.99)
    rows, held = data.rows(held_out=False), data.rows(held_out=True)
    held = held if len(held) else rows
    empty = (data.tokens[:1].float().to(device), data.mask[:1].to(device))
    if compiled:
        compile_blocks(teacher)
        compile_blocks(student)

    def loss_of(batch: Batch) -> Tensor:
        x, t, target = teacher_target(teacher, batch, empty, guidance, steps)
        with autocast(device):
            made = student(x, t, batch.tokens, batch.mask, batch.previous, batch.previous_mask, batch.triple)
        return (made.float() - target).square().mean()  # type: ignore[no-any-return]

    def check() -> float:
        with ema.applied(student), torch.no_grad():
            size = min(preset.validation // 4, 32)
            return float(loss_of(draw(data, held, max(size, 2), 78, device, validation=True, one_shape=compiled)))

    before, started, step = check(), time.monotonic(), 0
    while (spent := (time.monotonic() - started) / 60) < minutes:
        factor = 0.25 * step_size(step, 20, 1 - spent / minutes, 0.5)
        for stage, rate in zip(stages, (preset.rate, preset.adam_rate), strict=True):
            stage.param_groups[0]["lr"] = rate * factor
        batch = draw(data, rows, preset.batch, (seed + 7) * 1_000_003 + step, device, one_shape=compiled)
        batch.t = torch.rand(len(batch.t), generator=torch.Generator().manual_seed(step)).to(device)  # all steps alike
        loss = loss_of(batch)
        for stage in stages:
            stage.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        for stage in stages:
            stage.step()
        ema.update(student)
        step += 1
        if step % 25 == 0:
            log(step=step, loss=float(loss.detach()), minutes=(time.monotonic() - started) / 60)
    result = {"step": step, "before": before, "after": check(), "guidance": guidance, "steps": steps}
    state = {"model": student.state_dict(), "ema": ema.state(), "config": asdict(student.config)}
    save_state(out / "distilled.pt", {**state, "step": step})
    log(**result)
    return result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``riffstream train distil``."""
    common_arguments(parser, minutes=12)
    parser.add_argument("--guidance", type=float, default=3.0, help="guidance to build in")
    parser.add_argument("--steps", type=int, default=8, help="steps of the schedule to distil for")
    parser.add_argument("--compile", action="store_true", help="through torch.compile, as of the denoiser")


def run(args: argparse.Namespace) -> int:
    """``riffstream train distil``."""
    device = pick_device(args.device)
    log = Log(args.out, "distil", quiet=args.quiet)
    result = distil(
        prepare_data(args.corpus, args.out, device, log), args.out, PRESETS[args.preset], minutes=args.minutes,
        device=device, guidance=args.guidance, steps=args.steps, seed=args.seed, compiled=args.compile, log=log,
    )  # fmt: skip
    if args.json:
        print(json.dumps(result))
    return 0
