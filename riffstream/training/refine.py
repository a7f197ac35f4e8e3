"""Refine a distilled denoiser: whole clips, as it plays them, against clips of the corpus.

Distillation leaves a student that is at most as good as its teacher, and less sharp. Here the student plays whole clips
in its few steps. A critic (``critic.py``) compares them with clips of the corpus of the same words and conditions
(adversarial post-training, Novack et al. 2025, arXiv:2505.08175), and two ears (``ear.py``) tell how far they are from
the words and conditions. The slope of both at the finished clip trains the velocity of random steps, each as if the
later steps did not depend on it (Wu et al. 2024, arXiv:2405.00760). A weak pull keeps the velocity near that of the
first student.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from riffstream.diffusion.mini.denoiser import Denoiser
from riffstream.diffusion.mini.ear import EarNetwork
from riffstream.errors import CheckpointError, ParameterError
from riffstream.training.checkpoints import load_denoiser, resume_model
from riffstream.training.critic import Critic, critic_loss, judging_times, misled, student_loss
from riffstream.training.denoiser import Batch, compile_blocks, prepare_data
from riffstream.training.distil import Aim
from riffstream.training.ear import Labels, condition_error, load_ear, noisy, told_error
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
from riffstream.training.playing import Examples, evaluate, joined, play
from riffstream.training.sample import PROMPTS, write_samples
from riffstream.training.sounds import caption_directions, choose_sounds, near_sounds

__all__ = ["Recipe", "add_arguments", "refine", "run"]

EARS = 2
# Weights of instruments (a mean over 39 classes) and conditions relative to style. Three times as much loses the music.
INSTRUMENTS, CONDITIONS = 4.0, 2.0
REPORT_EVERY, KEEP_MINUTES = 25, 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Weights and step sizes of a refinement.

    Attributes:
        steps: steps of a clip, 1 to 100.
        places: steps of each clip that are trained, 1 to ``steps``.
        size: clips of a batch, 2 or more.
        rate: step size of the student (AdamW), above 0 to 0.01.
        critic_rate: step size of the critic (AdamW), above 0 to 0.01.
        heard: weight of the ears relative to the critic, 0 to 100.
        contrast: weight of the critic's comparison with other words, 0 to 100.
        anchor: weight of the mean squared distance from the first student's velocity, 0 to 100.
        turns: steps of the critic for each of the student, 1 to 100.
        lead: steps of the critic alone at the start, 0 or more.
    """

    steps: int = 8
    places: int = 2
    size: int = 32
    rate: float = 1e-4
    critic_rate: float = 4e-4
    heard: float = 0.3
    contrast: float = 0.5
    anchor: float = 1.0
    turns: int = 2
    lead: int = 100

    def __post_init__(self) -> None:
        for name, low, high in (
            ("steps", 1, 100), ("places", 1, self.steps), ("size", 2, 4096), ("heard", 0, 100), ("contrast", 0, 100),
            ("anchor", 0, 100), ("turns", 1, 100), ("lead", 0, 1_000_000),
        ):  # fmt: skip
            if not low <= getattr(self, name) <= high:
                raise ParameterError(name, getattr(self, name), f"{low} to {high}")
        for name in ("rate", "critic_rate"):
            if not 0 < getattr(self, name) <= 0.01:
                raise ParameterError(name, getattr(self, name), "above 0, at most 0.01")


class Refinement:
    """The networks of a refinement and its two losses.

    Args:
        start: the distilled denoiser; it stays as the anchor.
        data: the corpus as latents.
        labels: what sounds in its clips.
        near: sounds for the opening of each clip (``sounds.near_sounds``).
        ears: listeners, used in turn.
    """

    def __init__(
        self, start: Denoiser, data: LatentSet, labels: Labels, near: Tensor, ears: Sequence[EarNetwork],
        recipe: Recipe, seed: int, device: torch.device,
    ) -> None:  # fmt: skip
        self.recipe, self.labels, self.ears, self._device = recipe, labels, ears, device
        self.first = start.to(device).eval().requires_grad_(False)
        self.student = copy.deepcopy(self.first).requires_grad_(True)
        self.critic = Critic(copy.deepcopy(self.first).requires_grad_(True)).to(device)
        self.ema = Ema(self.student, 0.995)
        betas = (0.5, 0.98)  # little momentum: the two sides move against each other
        self.student_steps = torch.optim.AdamW(
            self.student.parameters(), recipe.rate, betas=betas, weight_decay=0.0, fused=True
        )
        self.critic_steps = torch.optim.AdamW(
            self.critic.parameters(), recipe.critic_rate, betas=betas, weight_decay=0.01, fused=True
        )
        self.examples = Examples(data, data.rows(held_out=False), near, recipe.size, (seed + 11) * 1_000_003, device)
        self._seed = (seed + 13) * 1_000_003
        self._empty = data.tokens[:1].float().to(device)
        self._narrow = self.first.config.columns_triple
        self.guard = StepGuard()
        self.step = self.count = 0

    def advance(self) -> dict[str, Tensor]:
        """One step of the critic and, after its lead, of the student; returns what was measured."""
        generator = torch.Generator().manual_seed(self._seed + self.step)
        batch = self.examples.next(self.step)
        with autocast(self._device):
            clips, states = play(self.student, batch, self.recipe.steps, self._narrow)
        self.examples.played(clips)
        judged = self._unopened(batch)
        for _ in range(self.recipe.turns):
            t = judging_times(len(clips), generator).to(self._device)
            noise = torch.randn(clips.shape, generator=generator).to(self._device)
            measured, real = self._teach_critic(judged, clips, t, noise, generator)
        if self.step >= self.recipe.lead:
            slope, heard = self._judged(judged, clips, t, noise, real)
            measured |= heard | self._teach_student(batch, states, slope, generator)
        self.step += 1
        return {name: value.detach() for name, value in measured.items()}

    def _teach_critic(
        self, batch: Batch, clips: Tensor, t: Tensor, noise: Tensor, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], Tensor]:
        wrong, different = misled(batch, self._empty, generator)
        cells = batch.inside(self._narrow)
        real, played = noisy(batch.clean, noise, t) * cells, noisy(clips, noise, t) * cells
        with autocast(self._device):
            scores = self.critic(torch.cat([real, played, real]), t.repeat(3), joined(batch, batch, wrong))
        own, other, misread = scores.split(len(clips))
        loss = critic_loss(own, other, misread, different, self.recipe.contrast)
        self.critic_steps.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.guard.passes(loss, torch.nn.utils.clip_grad_norm_(self.critic.parameters(), 1.0)):
            self.critic_steps.step()
        gaps = {"gap": (own - other).mean(), "words": (own - misread)[different].mean()}
        return {"critic": loss, **gaps}, own.detach()

    def _unopened(self, batch: Batch) -> Batch:
        """The batch as critic and ears see it: the clip of the corpus does not continue a sound of another song."""
        opens = self.examples.opens.to(self._device)
        values: dict[str, Any] = {name: getattr(batch, name) for name in Batch.__slots__}
        values["previous"] = torch.where(opens[:, None, None, None], 0.0, batch.previous)
        return Batch(**values | {"previous_mask": batch.previous_mask & ~opens})

    def _judged(
        self, batch: Batch, clips: Tensor, t: Tensor, noise: Tensor, real: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Slope of the judgement at the clips, [B, C, h, w]."""
        assert batch.triple is not None
        clips = clips.detach().requires_grad_(True)
        ear = self.ears[self.step % len(self.ears)]
        told = (batch.tokens != self._empty).flatten(1).any(1)
        style, instruments = (
            label[self.examples.picked].to(self._device) for label in (self.labels.style, self.labels.instruments)
        )
        shown = noisy(clips, noise, t) * batch.inside(self._narrow)
        self.critic.requires_grad_(False)
        with autocast(self._device):
            played = student_loss(real, self.critic(shown, t, batch))
            heard = ear(shown, t, batch.triple)
        named, tools = told_error(heard, style, instruments, told)
        asked = condition_error(heard, batch.conditions)
        total = played + self.recipe.heard * (named + INSTRUMENTS * tools + CONDITIONS * asked)
        (slope,) = torch.autograd.grad(total, clips)
        self.critic.requires_grad_(True)
        return slope, {"student": played, "style": named, "instruments": tools, "conditions": asked}

    def _teach_student(
        self, batch: Batch, states: Tensor, slope: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        steps, size = states.shape[:2]
        count = self.recipe.places
        # The first steps decide the music, the last ones are as good as the codec (docs/evaluation.md).
        weights = torch.arange(steps, 0, -1).float().expand(size, -1)
        places = torch.multinomial(weights, count, generator=generator).T.flatten().to(self._device)
        x = states[places, torch.arange(size, device=self._device).repeat(count)]
        t, many = 1 - places / steps, joined(*[batch] * count)
        cells = many.inside(self._narrow)
        with autocast(self._device):
            with torch.no_grad():
                anchor = evaluate(self.first, x, t, many)
            velocity = evaluate(self.student, x, t, many)
        away = ((velocity - anchor).square() * cells).sum() / cells.expand_as(x).sum()
        # A step moves the clip by -velocity / steps; the mean over the places stands for the sum over all steps.
        moved = -(velocity * slope.repeat(count, 1, 1, 1) * cells).sum() / count
        total = moved + self.recipe.anchor * away
        self.student_steps.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
        if self.guard.passes(total, norm):
            self.student_steps.step()
            self.ema.update(self.student)
            self.count += size
        return {"away": away, "norm": norm}

    def state(self) -> dict[str, Any]:
        """Everything that :meth:`restore` needs."""
        return {
            "config": asdict(self.first.config), "steps": self.recipe.steps, "first": self.first.state_dict(),
            "model": self.student.state_dict(), "ema": self.ema.state(), "critic": self.critic.state_dict(),
            "student_steps": self.student_steps.state_dict(), "critic_steps": self.critic_steps.state_dict(),
            "step": self.step, "examples": self.count, "aim": asdict(Aim(1.0, self.recipe.steps)),
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        self.first.load_state_dict(state["first"])
        self.student.load_state_dict(state["model"])
        self.critic.load_state_dict(state["critic"])
        self.ema.restore(state["ema"])
        self.student_steps.load_state_dict(state["student_steps"])
        self.critic_steps.load_state_dict(state["critic_steps"])
        self.step, self.count = state["step"], state["examples"]


def refine(
    data: LatentSet,
    labels: Labels,
    out: Path,
    start: Denoiser,
    *,
    minutes: float,
    device: torch.device,
    recipe: Recipe | None = None,
    ear_minutes: float = 4.0,
    seed: int = 0,
    compiled: bool = False,
    log: Log | None = None,
    max_steps: int | None = None,
    pictures: Sequence[str] = (),
) -> dict[str, Any]:
    """Refine ``start`` for ``minutes``, or up to ``max_steps`` steps in total, and save ``out/refined.pt``.

    A saved refinement continues, with its own first student. The ears are trained first, for ``ear_minutes`` each, and
    kept as ``out/ear-0.pt`` and ``out/ear-1.pt``.

    Args:
        compiled: run the blocks through ``torch.compile``.
        pictures: prompts of the sample pictures, written to ``out/samples`` at the end.

    Returns:
        Total steps and examples.

    Raises:
        ParameterError: ``ear_minutes`` is not above 0: an untrained ear would mislead the student.
        CheckpointError: ``out/refined.pt`` is of a denoiser of other sizes, or of other steps.
        TrainingError: a loss stays infinite or undefined; the last saved state is valid.
    """
    if not 0 < ear_minutes <= 600:
        raise ParameterError("ear_minutes", ear_minutes, "above 0, at most 600")
    recipe = recipe or Recipe()
    log = log or Log(out, "refine", quiet=True)
    narrow = start.config.columns_triple
    ears = [
        load_ear(
            out / f"ear-{number}.pt", data, labels, narrow, minutes=ear_minutes, seed=number, device=device, log=log
        )
        for number in range(EARS)
    ]
    torch.manual_seed(seed)
    directions = caption_directions(data)
    near = near_sounds(data, directions, choose_sounds(data, directions))
    work = Refinement(start, data, labels, near, ears, recipe, seed, device)
    state = load_state(out / "refined.pt", device)
    if state is not None:
        if state["config"] != asdict(start.config) or state["steps"] != recipe.steps:
            raise CheckpointError(f"{out}/refined.pt has other sizes or steps; choose another --out")
        work.restore(state)
    if compiled:
        # A block has a graph for each batch size and kind of gradient.
        torch._dynamo.config.recompile_limit = max(32, torch._dynamo.config.recompile_limit)
        for model in (work.first, work.student, work.critic.body):
            compile_blocks(model)
    started = reported = time.monotonic()
    first_step = work.step
    sums: dict[str, list[float]] = {}
    with until_terminated() as ended:
        while (spent := (time.monotonic() - started) / 60) < minutes and not ended():
            if max_steps is not None and work.step >= max_steps:
                break
            factor = step_size(work.step - first_step, 20, 1 - spent / minutes, 0.3)
            work.student_steps.param_groups[0]["lr"] = recipe.rate * factor
            work.critic_steps.param_groups[0]["lr"] = recipe.critic_rate * step_size(work.step, 50)
            for name, value in work.advance().items():
                sums.setdefault(name, []).append(float(value))
            if work.step % REPORT_EVERY == 0:
                means = {name: sum(values) / len(values) for name, values in sums.items()}
                log(step=work.step, examples=work.count, minutes=spent, **means)
                sums = {}
            if (time.monotonic() - reported) / 60 > KEEP_MINUTES:
                save_state(out / "refined.pt", work.state())
                reported = time.monotonic()
    save_state(out / "refined.pt", work.state())
    if pictures:
        path = out / "samples" / f"refined-{work.step:06d}.webp"
        with work.ema.applied(work.student):
            write_samples(work.student, data, path, pictures, guidance=1.0, steps=recipe.steps)
    result = {"step": work.step, "examples": work.count}
    log(**result)
    return result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``riffstream train refine``."""
    common_arguments(parser, minutes=60)
    standard = Recipe()
    parser.add_argument(
        "--resume-from", default=None, help="mini or a model folder: initial denoiser; default: that of the run folder"
    )
    parser.add_argument("--steps", type=int, default=standard.steps, help="steps of a clip, 1 to 100")
    parser.add_argument("--size", type=int, default=standard.size, help="clips of a batch, 2 to 4096")
    parser.add_argument("--rate", type=float, default=standard.rate, help="step size, above 0 to 0.01")
    parser.add_argument(
        "--heard", type=float, default=standard.heard, help="weight of style, instruments and conditions, 0 to 100"
    )
    parser.add_argument("--ear-minutes", type=float, default=4.0, help="training time of each ear, above 0 to 600")
    parser.add_argument("--compile", action="store_true", help="use torch.compile, as for the denoiser")


def run(args: argparse.Namespace) -> int:
    """``riffstream train refine``."""
    device = pick_device(args.device)
    recipe = Recipe(
        steps=args.steps, places=min(args.steps, Recipe().places), size=args.size, rate=args.rate, heard=args.heard
    )
    log = Log(args.out, "refine", quiet=args.quiet)
    if args.resume_from:
        start = resume_model(args.resume_from, args.out).denoiser
    else:
        start = load_denoiser(args.out / "distilled.pt", device)
    data = prepare_data(args.corpus, args.out, device, log)
    result = refine(
        data, Labels.of(data, args.corpus), args.out, start, minutes=args.minutes, device=device, recipe=recipe,
        ear_minutes=args.ear_minutes, seed=args.seed, compiled=args.compile, log=log, pictures=PROMPTS,
    )  # fmt: skip
    if args.json:
        print(json.dumps(result))
    return 0
