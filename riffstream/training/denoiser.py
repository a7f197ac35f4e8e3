"""Train the denoiser: a rectified flow on cached latents, conditioned on captions and on the previous clip."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from riffstream.diffusion.mini.denoiser import Denoiser, DenoiserConfig
from riffstream.diffusion.mini.family import MODEL_FOLDER
from riffstream.diffusion.mini.growth import widened
from riffstream.diffusion.mini.text import MiniTextEncoder
from riffstream.diffusion.schedules import shifted
from riffstream.errors import CheckpointError, ParameterError
from riffstream.journey.conditions import PARTS_GIVEN, SIZE
from riffstream.training.asked import leave_out
from riffstream.training.checkpoints import resume_model
from riffstream.training.codec import load_codec
from riffstream.training.gradient_helper import GradientHelper, Job
from riffstream.training.guard import StepGuard
from riffstream.training.latents import LatentSet
from riffstream.training.loop import (
    Ema,
    Log,
    Muon,
    autocast,
    common_arguments,
    load_state,
    pick_device,
    save_state,
    step_size,
    until_terminated,
)
from riffstream.training.sample import PROMPTS, write_samples

__all__ = [
    "PRESETS",
    "SHIFT",
    "Batch",
    "DenoiserPreset",
    "add_arguments",
    "compile_blocks",
    "draw",
    "flow_loss",
    "run",
    "shifted_times",
    "train_denoiser",
]

GUIDANCE = 2.5  # guidance of the sample pictures
DROP_CAPTION, DROP_PREVIOUS, PREVIOUS_NOISE = 0.1, 0.3, 0.25
# Captions name instruments and drums. With a caption in every example, conditions would be redundant.
DROP_CAPTION_CONDITIONED = 0.5
# Share of the examples with given parts whose caption is that of another clip of the song. It names the right style
# and, often, silent parts, so the model learns that conditions outrank words.
OTHER_CAPTION = 0.25
# The caption takes effect near noise: two thirds of its loss reduction are above t = 0.8, see docs/mini.md. Most
# training times are there. SPREAD: standard deviation of the logit of the position, before the shift.
SHIFT, SPREAD = 3.0, 1.4
# One example in four has unshifted times: fine detail forms near music.
PLAIN, PLAIN_SPREAD = 0.25, 1.2


@dataclass(frozen=True, slots=True, kw_only=True)
class DenoiserPreset:
    """Model sizes and batch of a preset. ``rate``: step size of Muon (matrices); ``adam_rate``: of AdamW (the rest)."""

    config: DenoiserConfig
    batch: int = 64
    rate: float = 2e-3
    adam_rate: float = 1e-3
    warm_up: int = 100
    ema: float = 0.998
    validation: int = 192
    report_minutes: float = 4.0


PRESETS = {
    "cpu": DenoiserPreset(config=DenoiserConfig(width=192, heads=3, mlp=768, context=2, conditions=SIZE)),
    "gpu": DenoiserPreset(
        config=DenoiserConfig(width=256, layers=8, heads=4, mlp=1024, context=2, conditions=SIZE),
        batch=512, ema=0.9995,
        validation=1024, report_minutes=2.0,
    ),
    "smoke": DenoiserPreset(
        config=DenoiserConfig(width=32, layers=2, heads=2, mlp=64, context=2, conditions=SIZE), batch=4, validation=8,
        report_minutes=0.5,
    ),
}  # fmt: skip


@dataclass(slots=True)
class Batch:
    """One batch of training examples, on the training device.

    Attributes:
        clean: latents of the clips, [B, C, h, w].
        noise: Gaussian noise, [B, C, h, w].
        t: times in [0, 1], [B].
        tokens: caption embeddings, [B, S, D].
        mask: mask of the tokens, [B, S].
        previous: latents of the previous clips, [B, C, h, w].
        previous_mask: whether ``previous`` is given, bool [B].
        triple: whether a clip is in 3/4, bool [B]; None for a batch without 3/4.
        conditions: [B, columns, SIZE], zeros for conditions that are not given.
    """

    clean: Tensor
    noise: Tensor
    t: Tensor
    tokens: Tensor
    mask: Tensor
    previous: Tensor
    previous_mask: Tensor
    triple: Tensor | None
    conditions: Tensor

    def inside(self, narrow: int) -> Tensor:
        """Cells of the clips: float32 [B, 1, 1, w], 0 beyond the ``narrow`` columns of a clip in 3/4."""
        assert self.triple is not None
        cells = (torch.arange(self.clean.shape[-1], device=self.clean.device) < narrow) | ~self.triple[:, None]
        return cells[:, None, None].float()

    def parts(self, size: int) -> list[Batch]:
        """The same examples in batches of ``size``."""
        values = [getattr(self, name) for name in Batch.__slots__]
        return [
            Batch(*(None if value is None else value[k : k + size] for value in values))  # type: ignore[arg-type]
            for k in range(0, len(self.clean), size)
        ]


def draw(
    data: LatentSet,
    rows: Tensor,
    size: int,
    seed: int,
    device: torch.device,
    *,
    validation: bool = False,
    one_shape: bool = False,
    picked: Tensor | None = None,
) -> Batch:
    """Batch number ``seed``: a pure function of its arguments, so interruptions of a run do not change its batches.

    Args:
        validation: no random omissions. Every second clip has its previous clip, and no clip has conditions: the loss
            is comparable with that of a model without conditions. t is spread evenly.
        one_shape: captions keep their padding and ``triple`` is always present: compiled code fits every batch.
        picked: indices [size] of the clips; random ones of ``rows`` by default.
    """
    generator = torch.Generator().manual_seed(seed)
    if validation:
        pick = rows[torch.linspace(0, len(rows) - 1, size).long()]
        t = (torch.arange(size) + 0.5) / size
        t = t[torch.randperm(size, generator=generator)]
        with_previous = torch.arange(size) % 2 == 0
    else:
        pick = rows[torch.randint(len(rows), (size,), generator=generator)] if picked is None else picked
        t = training_times(size, generator)
        with_previous = torch.rand(size, generator=generator) >= DROP_PREVIOUS
    clean = data.latents[pick].float()
    noise = torch.randn(clean.shape, generator=generator)
    conditions = data.conditions[pick].float()
    conditions = torch.zeros_like(conditions) if validation else leave_out(conditions, generator)
    dropped = torch.where(conditions.flatten(1).any(1), DROP_CAPTION_CONDITIONED, DROP_CAPTION)
    which = torch.rand(size, generator=generator).tolist()
    luck = torch.rand(size, generator=generator)
    told = pick
    if not validation:
        strange = conditions[..., PARTS_GIVEN].flatten(1).any(1) & (luck < dropped + OTHER_CAPTION)
        told = torch.where(strange, another_of_song(data, pick, generator), pick)
    captions = []
    for row, u, kept in zip(told.tolist(), which, (luck >= dropped).tolist(), strict=True):
        own = data.captions[row]
        captions.append(own[int(u * len(own))] if own and (validation or kept) else 0)
    before = data.previous[pick]
    previous = data.latents[before.clamp_min(0)].float()
    blur = 0.0 if validation else PREVIOUS_NOISE * torch.rand(size, 1, 1, 1, generator=generator)
    previous = previous + blur * torch.randn(previous.shape, generator=generator)
    mask = data.mask[captions]
    used = mask.shape[1] if one_shape else max(8, -(-int(mask.sum(1).max()) // 8) * 8)
    triple = data.triple[pick]
    return Batch(
        clean.to(device), noise.to(device), t.to(device), data.tokens[captions][:, :used].float().to(device),
        mask[:, :used].to(device), previous.to(device), (with_previous & (before >= 0)).to(device),
        triple.to(device) if one_shape or bool(triple.any()) else None, conditions.to(device),
    )  # fmt: skip


def another_of_song(data: LatentSet, rows: Tensor, generator: torch.Generator) -> Tensor:
    """For each clip [B] a random other clip of its song, [B]; the clip itself in a song of one clip."""
    starts = torch.nonzero(data.previous < 0).flatten()
    song = torch.searchsorted(starts, rows, right=True) - 1
    first = starts[song]
    clips = torch.cat([starts, torch.tensor([len(data)])]).diff()[song]
    ahead = 1 + (torch.rand(len(rows), generator=generator) * (clips - 1)).long()
    return first + (rows - first + ahead) % clips


def training_times(size: int, generator: torch.Generator) -> Tensor:
    """Training times t [size], most of them shifted towards noise."""
    t = shifted_times(torch.sigmoid(SPREAD * torch.randn(size, generator=generator)))
    plain = torch.sigmoid(PLAIN_SPREAD * torch.randn(size, generator=generator))
    return torch.where(torch.rand(size, generator=generator) < PLAIN, plain, t)


def shifted_times(places: Tensor) -> Tensor:
    """Times t [B] for positions ``places`` [B] in [0, 1] from music to noise."""
    return shifted(places, SHIFT)


def flow_loss(model: nn.Module, batch: Batch, narrow: int) -> Tensor:
    """Mean squared error of ``noise - x_0`` over the cells of a clip (``narrow`` columns in 3/4)."""
    t = batch.t[:, None, None, None]
    x = (1 - t) * batch.clean + t * batch.noise
    if batch.triple is not None:
        inside = batch.inside(narrow)
        x = x * inside
    with autocast(x.device):
        made = model(x, batch.t, batch.tokens, batch.mask, batch.previous, batch.previous_mask, batch.triple,
                     batch.conditions)  # fmt: skip
    error: Tensor = (made.float() - (batch.noise - batch.clean)).square()
    if batch.triple is None:
        return torch.mean(error)
    return torch.sum(error * inside) / inside.expand_as(error).sum()


def compile_blocks(model: Denoiser) -> None:
    """Compile the transformer's blocks at their first use. The blocks share two graphs, which compile in a minute. One
    graph of the whole network takes longer than a short run."""
    for block in model.blocks:
        block.compile(dynamic=False)


def make_job(data: LatentSet, rows: Tensor, size: int, seed: int, narrow: int, compiled: bool = False) -> Job:
    """The job of a :class:`GradientHelper`: batches of a separate random stream."""

    def job(model: nn.Module, index: int) -> tuple[Tensor, int]:
        if compiled and index == 0:
            assert isinstance(model, Denoiser)
            compile_blocks(model)
        number = (seed + 1) * 1_000_003 + 500_000_000 + index
        batch = draw(data, rows, size, number, torch.device("cpu"), one_shape=compiled)
        return flow_loss(model, batch, narrow), size

    return job


def optimisers(model: Denoiser, preset: DenoiserPreset) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, except adaptive layer norms; AdamW for all other parameters."""
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, value in model.named_parameters():
        inner = name.startswith("blocks.") and value.ndim == 2 and "modulation" not in name and "kernel" not in name
        (matrices if inner else rest).append(value)
    return [
        Muon(matrices, preset.rate, weight_decay=0.02),
        torch.optim.AdamW(rest, preset.adam_rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True),
    ]


def prepare_data(
    corpus: Path, out: Path, device: torch.device, log: Log, *, text: MiniTextEncoder | None = None
) -> LatentSet:
    """The corpus as latents of ``out/codec.pt``, with the cache ``out/latents.pt``. The default text encoder is the
    embedded model's."""
    text = text or MiniTextEncoder.load(MODEL_FOLDER / "text_encoder", MODEL_FOLDER / "tokenizer", device)
    data = LatentSet(corpus, load_codec(out / "codec.pt", device), text)
    data.restore(out)
    started = time.monotonic()
    if added := data.refresh():
        data.save(out)
    log(songs_added=added, clips=len(data), captions=len(data.texts), seconds=time.monotonic() - started)
    return data


def train_denoiser(
    data: LatentSet,
    out: Path,
    preset: DenoiserPreset,
    *,
    minutes: float,
    decay_minutes: float = 0.0,
    device: torch.device,
    seed: int = 0,
    helper_core: int | None = None,
    resume_from: Denoiser | None = None,
    compiled: bool = False,
    log: Log | None = None,
    max_steps: int | None = None,
    pictures: Sequence[str] = (),
) -> dict[str, Any]:
    """Train for ``minutes``, or up to ``max_steps`` steps in total, from ``out/denoiser.pt`` if it exists.

    Args:
        decay_minutes: minutes at the end of the run with a step size that falls to zero. ``denoiser.pt`` keeps the
            state before them for later runs; ``denoiser_final.pt`` is the result.
        helper_core: CPU core of a gradient helper; -1: any core; None: no helper. Runs without a helper resume exactly.
        resume_from: initial weights of a run without a state.
        compiled: train the blocks through ``torch.compile``.
        pictures: prompts of the sample pictures, written to ``out/samples`` with every checkpoint.

    Returns:
        Steps, examples and the held-out loss of the averaged weights.

    Raises:
        TrainingError: the loss stays infinite or undefined; the last saved state is valid.
    """
    log = log or Log(out, "denoiser", quiet=True)
    torch.manual_seed(seed)
    config = replace(preset.config, channels=data.latents.shape[1], text_width=data.tokens.shape[-1])
    model = resume_from if resume_from is not None else Denoiser(config)
    config = model.config
    model = model.to(device)
    ema = Ema(model, preset.ema)
    state = load_state(out / "denoiser.pt", device)
    if state is not None:
        if state["config"] != asdict(config):
            raise CheckpointError(f"{out}/denoiser.pt was trained with other sizes; choose another --out")
        model.load_state_dict(state["model"])
    stages = optimisers(model, preset)
    rates = [preset.rate, preset.adam_rate]
    step = examples = 0
    if state is not None:
        for stage, kept in zip(stages, state["optimisers"], strict=True):
            stage.load_state_dict(kept)
        ema.restore(state["ema"])
        step, examples = state["step"], state["examples"]
    rows, held = data.rows(held_out=False), data.rows(held_out=True)
    if len(held) == 0:
        rows, held = rows[rows % 8 != 0], rows[::8]
    check = draw(data, held, min(preset.validation, 4 * len(held)), 77, device, validation=True, one_shape=compiled)
    narrow = config.columns_triple
    helper = None
    if helper_core is not None:
        job = (data, rows, preset.batch, seed + step, narrow, compiled)
        helper = GradientHelper(model, make_job, job, core=helper_core)
    if compiled:
        compile_blocks(model)
    started = reported = time.monotonic()
    fresh, running, final = 0, 0.0, False
    guard = StepGuard()

    def keep(path: Path) -> None:
        weights = {"model": model.state_dict(), "ema": ema.state(), "config": asdict(config)}
        kept = [stage.state_dict() for stage in stages]
        save_state(path, {**weights, "optimisers": kept, "step": step, "examples": examples})

    def report() -> float:
        with ema.applied(model), torch.no_grad():
            losses = [float(flow_loss(model, part, narrow)) for part in check.parts(32)]
            loss = sum(losses) / len(losses)
            if pictures:
                write_samples(model, data, out / "samples" / f"{step:06d}.webp", pictures, guidance=GUIDANCE)
        log(
            step=step, examples=examples, loss=running, held_out=loss,
            rate=fresh / (time.monotonic() - started), minutes=(time.monotonic() - started) / 60, skipped=guard.skipped,
        )  # fmt: skip
        return loss

    try:
        with until_terminated() as ended:
            while (spent := (time.monotonic() - started) / 60) < minutes and not ended():
                if max_steps is not None and step >= max_steps:
                    break
                left = (minutes - spent) / minutes
                if decay_minutes > 0 and minutes - spent <= decay_minutes and not final:
                    keep(out / "denoiser.pt")
                    final = True
                factor = step_size(step, preset.warm_up, left, decay_minutes / minutes)
                for stage, rate in zip(stages, rates, strict=True):
                    stage.param_groups[0]["lr"] = rate * factor
                batch = draw(data, rows, preset.batch, seed * 1_000_003 + step, device, one_shape=compiled)
                loss = flow_loss(model, batch, narrow)
                for stage in stages:
                    stage.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                seen = preset.batch + (helper.add_to(preset.batch) if helper else 0)
                step += 1
                if not guard.passes(loss, torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)):
                    continue
                for stage in stages:
                    stage.step()
                ema.update(model)
                examples, fresh = examples + seen, fresh + seen
                running = float(loss.detach()) if running == 0 else 0.98 * running + 0.02 * float(loss.detach())
                if (time.monotonic() - reported) / 60 > preset.report_minutes:
                    keep(out / ("denoiser_final.pt" if final else "denoiser.pt"))
                    report()
                    reported = time.monotonic()
    finally:
        if helper:
            helper.close()
    keep(out / ("denoiser_final.pt" if final else "denoiser.pt"))
    return {"step": step, "examples": examples, "held_out": report()}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``riffstream train denoiser``."""
    common_arguments(parser, minutes=60)
    parser.add_argument("--decay-minutes", type=float, default=0.0, help="minutes of falling step size at the end")
    parser.add_argument("--resume-from", default=None, help="mini or a model folder: initial codec and denoiser")
    parser.add_argument(
        "--compile",
        action="store_true",
        help="use torch.compile: nearly twice as fast after a minute; needs a C++ compiler",
    )
    parser.add_argument(
        "--width", type=int, default=None, help="channels; with --resume-from a wider model keeps what was learned"
    )
    parser.add_argument("--rate", type=float, default=1.0, help="step size relative to the preset, above 0 to 10")
    parser.add_argument("--helper-core", type=int, default=None, help="CPU core of a gradient helper process (-1: any)")


def run(args: argparse.Namespace) -> int:
    """``riffstream train denoiser``."""
    if not 0 < args.rate <= 10:
        raise ParameterError("rate", args.rate, "above 0, at most 10")
    device = pick_device(args.device)
    log = Log(args.out, "denoiser", quiet=args.quiet)
    preset = PRESETS[args.preset]
    preset = replace(preset, rate=preset.rate * args.rate, adam_rate=preset.adam_rate * args.rate)
    if args.width is not None:
        preset = replace(preset, config=preset.config.wide(args.width))
    start = None
    if args.resume_from:
        start = resume_model(args.resume_from, args.out).denoiser
        sizes = preset.config
        start = start.with_context(sizes.context).with_conditions(sizes.conditions)
        start = widened(start, args.width or start.config.width).requires_grad_(True)
    data = prepare_data(args.corpus, args.out, device, log)
    result = train_denoiser(
        data, args.out, preset, minutes=args.minutes, decay_minutes=args.decay_minutes, device=device,
        seed=args.seed, helper_core=args.helper_core, resume_from=start, compiled=args.compile, log=log,
        pictures=PROMPTS,
    )  # fmt: skip
    if args.json:
        print(json.dumps(result))
    return 0
