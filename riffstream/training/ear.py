"""Train an ear: a listener of latents, which knows style, instruments and conditions of a clip from its sound alone.

An ear tells a student in refinement (``refine.py``) how far its clip is from the words and conditions, and a smaller
one chooses at play time which of several first steps a clip goes on with (``diffusion/mini/ear.py``). It reads no
words, and shares no weights with a student or with the judges of ``riffstream train evaluate``. Like the critic it
hears clips with noise, so a student cannot please it with detail that noise hides.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from riffstream.corpus.data import find_songs
from riffstream.corpus.instrument_classes import INSTRUMENT_CLASSES, instrument_targets
from riffstream.diffusion.mini.denoiser import DenoiserConfig
from riffstream.diffusion.mini.ear import EAR, FLAGS, VALUES, EarNetwork, EarSizes, Heard, write_ear
from riffstream.diffusion.mini.sounds import FILE, Sounds, fingerprint
from riffstream.errors import ParameterError
from riffstream.training.latents import LatentSet
from riffstream.training.loop import Log, autocast, load_state, pick_device, save_state, step_size

__all__ = [
    "Labels",
    "add_arguments",
    "build_ear",
    "condition_error",
    "fit_ear",
    "load_ear",
    "noisy",
    "run",
    "told_error",
]

BEAT = 4  # columns of latents
# Sizes of the ears of a refinement, and of a model's own ear (0.6 MB).
JUDGE = {"width": 160, "reduced": 48, "embedding": 256, "blocks": 4}
OWN = {"width": 80, "reduced": 32, "embedding": 192, "blocks": 3}
# Training times: logit of mean and spread; three in ten clips are nearly free of noise.
PLACE, SPREAD, CLEAR, CLEAR_TIME = -0.7, 1.4, 0.3, 0.02
# Weights of the instruments (a mean over 39 classes, most of them absent) and of the conditions, relative to style.
INSTRUMENTS, CONDITIONS = 4.0, 2.0


@dataclass(frozen=True, slots=True)
class Labels:
    """What sounds in the clips of a :class:`LatentSet`.

    Attributes:
        style: index of the style, [N].
        instruments: 1 for each audible class of instruments, [N, classes].
    """

    style: Tensor
    instruments: Tensor

    @classmethod
    def of(cls, data: LatentSet, corpus: Path) -> Labels:
        """The labels of ``data``, which was made from folder ``corpus``."""
        songs = {song.name: song.instruments for song in find_songs(corpus)}
        places = [name.rpartition("/") for name in data.names]
        rows = [instrument_targets(songs[song][int(window)], list(INSTRUMENT_CLASSES)) for song, _, window in places]
        return cls(data.style, torch.from_numpy(np.stack(rows)))


def noisy(clips: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Clips [B, C, h, w] at times t [B]."""
    t = t[:, None, None, None]
    return (1 - t) * clips + t * noise


def told_error(heard: Heard, style: Tensor, instruments: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of style and instruments, means over the rows with words.

    Args:
        style, instruments: labels, [B] and [B, classes].
        told: bool [B], rows with words. Without words a clip may have any style.
    """
    count = told.sum().clamp_min(1)
    named = F.cross_entropy(heard.style, style, reduction="none", label_smoothing=0.05)
    played = F.binary_cross_entropy_with_logits(heard.instruments, instruments, reduction="none").mean(1)
    return (named * told).sum() / count, (played * told).sum() / count


def condition_error(heard: Heard, conditions: Tensor) -> Tensor:
    """Cross-entropy of the values that are given in ``conditions`` [B, columns, SIZE], mean over them."""
    given = (conditions[..., list(FLAGS)] > 0).float()
    wanted = conditions[..., list(VALUES)].clamp(0, 1)
    error = F.binary_cross_entropy_with_logits(heard.values, wanted, reduction="none")
    return (error * given).sum() / given.sum().clamp_min(1)


def new_ear(data: LatentSet, narrow: int, device: torch.device, sizes: Mapping[str, int]) -> EarNetwork:
    """An untrained ear for ``data``; ``sizes``: ``JUDGE`` or ``OWN``."""
    channels, rows = data.latents.shape[1:3]
    ear = EarNetwork(EarSizes(channels, rows, narrow, len(data.styles), len(INSTRUMENT_CLASSES), **sizes))
    return ear.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def fit_ear(
    data: LatentSet, labels: Labels, narrow: int, *, minutes: float, seed: int, device: torch.device, log: Log,
    sizes: Mapping[str, int], size: int = 64,
) -> EarNetwork:  # fmt: skip
    """Train an ear on the training songs for ``minutes``; logs its loss and first answers on held-out songs.

    Args:
        sizes: ``JUDGE`` or ``OWN``.
        size: clips of a batch.
    """
    torch.manual_seed(seed)
    ear = new_ear(data, narrow, device, sizes)
    rows, held = data.rows(held_out=False), data.rows(held_out=True)
    optimiser = torch.optim.AdamW(ear.parameters(), 1e-3, weight_decay=0.05, fused=True)
    generator = torch.Generator().manual_seed(seed)

    def listen(picked: Tensor, t: Tensor, turn: int) -> tuple[Tensor, Heard]:
        clean, conditions, triple = data.latents[picked].float(), data.conditions[picked].float(), data.triple[picked]
        wide = ~triple
        clean[wide] = clean[wide].roll(turn * BEAT, -1)
        conditions[wide] = conditions[wide].roll(turn * BEAT // 2, 1)
        noise = torch.randn(clean.shape, generator=generator)
        x, t, triple, conditions = (value.to(device) for value in (noisy(clean, noise, t), t, triple, conditions))
        with autocast(device):
            heard = ear(x, t, triple)
        style, instruments = labels.style[picked].to(device), labels.instruments[picked].to(device)
        named, played = told_error(heard, style, instruments, torch.ones_like(triple))
        return named + INSTRUMENTS * played + CONDITIONS * condition_error(heard, conditions), heard

    started, step = time.monotonic(), 0
    while (spent := (time.monotonic() - started) / 60) < minutes:
        optimiser.param_groups[0]["lr"] = 1e-3 * step_size(step, 100, 1 - spent / minutes, 1.0)
        picked = rows[torch.randint(len(rows), (size,), generator=generator)]
        t = torch.sigmoid(PLACE + SPREAD * torch.randn(size, generator=generator))
        t = torch.where(torch.rand(size, generator=generator) < CLEAR, CLEAR_TIME, t)
        loss, _ = listen(picked, t, turn=int(torch.randint(8, (1,), generator=generator)))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        step += 1
    ear.eval().requires_grad_(False)
    losses, right = 0.0, 0
    for picked in torch.split(held, 128):
        loss, heard = listen(picked, torch.full((len(picked),), 0.3), turn=0)
        losses += float(loss) * len(picked)
        right += int((heard.style.cpu().argmax(1) == labels.style[picked]).sum())
    if len(held):
        log(step=step, held_out=losses / len(held), style_first=right / len(held), minutes=minutes)
    return ear


def load_ear(
    path: Path,
    data: LatentSet,
    labels: Labels,
    narrow: int,
    *,
    minutes: float,
    seed: int,
    device: torch.device,
    log: Log,
) -> EarNetwork:
    """The ear of a file; it is trained and saved if the file is missing or of another corpus."""
    state = load_state(path, device)
    if state is not None and state["styles"] == data.styles and state["clips"] == len(data):
        ear = new_ear(data, narrow, device, JUDGE).eval().requires_grad_(False)
        ear.load_state_dict(state["model"])
        return ear
    ear = fit_ear(data, labels, narrow, minutes=minutes, seed=seed, device=device, log=log, sizes=JUDGE)
    save_state(path, {"model": ear.state_dict(), "styles": data.styles, "clips": len(data)})
    return ear


def build_ear(
    data: LatentSet, labels: Labels, out: Path, *, minutes: float, seed: int, device: torch.device, log: Log
) -> int:
    """Train the ear of a model and write it to ``out/ear.safetensors``, for the reader of words there if any.

    Returns:
        The size of the file in bytes.

    Raises:
        ParameterError: ``minutes`` is not above 0: an untrained ear would choose by chance.
        CheckpointError: the opening sounds in ``out`` are of another codec.
    """
    _check(minutes)
    codec = fingerprint(data.codec)
    channels, rows, columns = data.latents.shape[1:]
    reader = Sounds(out / FILE, (channels, rows, columns), codec).reader if (out / FILE).is_file() else None
    narrow = DenoiserConfig().columns_triple
    ear = fit_ear(data, labels, narrow, minutes=minutes, seed=seed, device=device, log=log, sizes=OWN)
    write_ear(out / EAR, ear.cpu(), codec, "" if reader is None else reader.identity)
    return (out / EAR).stat().st_size


def _check(minutes: float) -> None:
    if not 0 < minutes <= 600:
        raise ParameterError("minutes", minutes, "above 0, at most 600")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``riffstream train ear``."""
    parser.add_argument("--corpus", type=Path, default=Path("runs/corpus"), help="folder of the corpus")
    parser.add_argument("--out", type=Path, default=Path("runs/mini"), help="run folder with codec.pt and the sounds")
    parser.add_argument("--minutes", type=float, default=12.0, help="training time, above 0 to 600")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and batches")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """``riffstream train ear``: it is exported with the next checkpoint."""
    from riffstream.training.denoiser import prepare_data

    _check(args.minutes)
    device = pick_device(args.device)
    log = Log(args.out, "ear", quiet=args.quiet or args.json)
    data = prepare_data(args.corpus, args.out, device, log)
    labels = Labels.of(data, args.corpus)
    size = build_ear(data, labels, args.out, minutes=args.minutes, seed=args.seed, device=device, log=log)
    if args.json:
        print(json.dumps({"bytes": size, "file": str(args.out / EAR)}))
    elif not args.quiet:
        print(f"{args.out / EAR}: {size / 1e6:.1f} MB")
    return 0
