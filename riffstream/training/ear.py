"""A listener of latents: style, instruments and conditions of a clip, from its sound alone.

It tells a student in refinement (``refine.py``) how far its clip is from the words and conditions. It reads no words,
and shares no weights with the student or with the judges of ``riffstream train evaluate``. Like the critic it hears
clips with noise, so a student cannot please it with detail that noise hides.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from riffstream.corpus.data import find_songs
from riffstream.corpus.instrument_classes import INSTRUMENT_CLASSES, instrument_targets
from riffstream.journey.conditions import BRIGHTNESS, CHORD, DENSITY, ENERGY, PARTS_GIVEN, PARTS_LEVEL
from riffstream.training.latents import LatentSet
from riffstream.training.loop import Log, autocast, load_state, save_state, step_size

__all__ = ["Ear", "Heard", "Labels", "condition_error", "fit_ear", "load_ear", "noisy", "told_error"]

WIDTH, REDUCED, EMBEDDING, BLOCKS = 160, 48, 256, 4
BEAT = 4  # columns of latents
# Condition values of a column that have a sound of their own, and the place of each one's "given" flag.
VALUES = (
    *range(CHORD.start, CHORD.stop - 1), *range(PARTS_LEVEL.start, PARTS_LEVEL.stop), DENSITY.start, ENERGY.start,
    BRIGHTNESS.start,
)  # fmt: skip
FLAGS = (
    *[CHORD.stop - 1] * (CHORD.stop - 1 - CHORD.start), *range(PARTS_GIVEN.start, PARTS_GIVEN.stop),
    DENSITY.stop - 1, ENERGY.stop - 1, BRIGHTNESS.stop - 1,
)  # fmt: skip
# Training times: logit of mean and spread; three in ten clips are nearly free of noise.
PLACE, SPREAD, CLEAR, CLEAR_TIME = -0.7, 1.4, 0.3, 0.02
# Weights of the instruments (a mean over 39 classes, most of them absent) and of the conditions, relative to style.
INSTRUMENTS, CONDITIONS = 4.0, 2.0


@dataclass(frozen=True, slots=True)
class Heard:
    """Output of an :class:`Ear`, logits.

    Attributes:
        style: [B, styles].
        instruments: [B, classes].
        values: [B, columns, values], in the order of ``VALUES``.
    """

    style: Tensor
    instruments: Tensor
    values: Tensor


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


class _Residual(nn.Module):
    """Two normalised 3x3 convolutions, added to their input [B, WIDTH, h, w]."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, WIDTH), nn.GroupNorm(8, WIDTH)
        self.conv1, self.conv2 = nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.Conv2d(WIDTH, WIDTH, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(h)))  # type: ignore[no-any-return]


class Ear(nn.Module):
    """Convolutions over the grid of latents, with heads for the clip and for each column of tokens.

    Args:
        channels: channels of the latents.
        rows: rows of the latents, an even number.
        styles: number of styles.
        narrow: columns of a clip in 3/4.
    """

    def __init__(self, channels: int, rows: int, styles: int, narrow: int) -> None:
        super().__init__()
        self.narrow = narrow
        high = REDUCED * rows // 2
        self.stem = nn.Conv2d(channels + 2, WIDTH, 2, stride=2)
        self.row = nn.Parameter(torch.randn(1, WIDTH, rows // 2, 1) * 0.1)
        self.blocks = nn.ModuleList(_Residual() for _ in range(BLOCKS))
        self.reduce = nn.Conv2d(WIDTH, REDUCED, 1)
        self.embed = nn.Sequential(nn.Dropout(0.2), nn.Linear(2 * high, EMBEDDING), nn.SiLU())
        self.style = nn.Linear(EMBEDDING, styles)
        self.instruments = nn.Linear(EMBEDDING, len(INSTRUMENT_CLASSES))
        self.values = nn.Sequential(nn.Linear(high, EMBEDDING), nn.SiLU(), nn.Linear(EMBEDDING, len(VALUES)))

    def forward(self, x: Tensor, t: Tensor, triple: Tensor) -> Heard:
        """Listen to noisy latents x [B, C, h, w] at times t [B]; ``triple`` [B] marks clips in 3/4."""
        cells = torch.arange(x.shape[-1], device=x.device)
        inside = ((cells < self.narrow) | ~triple[:, None])[:, None, None].float().expand(-1, 1, x.shape[2], -1)
        planes = torch.cat([x * inside, t[:, None, None, None] * torch.ones_like(inside), inside], 1)
        h = self.stem(planes.contiguous(memory_format=torch.channels_last)) + self.row
        for block in self.blocks:
            h = block(h)
        h = F.silu(self.reduce(h)).float()
        own = inside[:, :, :1, ::2]
        mean = (h * own).sum(-1) / own.sum(-1)
        top = torch.where(own > 0, h, -1e4).amax(-1)
        embedding = self.embed(torch.cat([mean, top], 1).flatten(1))
        values = self.values(h.permute(0, 3, 1, 2).flatten(2))
        return Heard(self.style(embedding).float(), self.instruments(embedding).float(), values.float())


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


def new_ear(data: LatentSet, narrow: int, device: torch.device) -> Ear:
    """An untrained ear for ``data``."""
    ear = Ear(data.latents.shape[1], data.latents.shape[2], len(data.styles), narrow)
    return ear.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def fit_ear(
    data: LatentSet, labels: Labels, narrow: int, *, minutes: float, seed: int, device: torch.device, log: Log,
    size: int = 64,
) -> Ear:  # fmt: skip
    """Train an ear on the training songs for ``minutes``; logs its loss and first answers on held-out songs."""
    torch.manual_seed(seed)
    ear = new_ear(data, narrow, device)
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
) -> Ear:
    """The ear of a file; it is trained and saved if the file is missing or of another corpus."""
    state = load_state(path, device)
    if state is not None and state["styles"] == data.styles and state["clips"] == len(data):
        ear = new_ear(data, narrow, device).eval().requires_grad_(False)
        ear.load_state_dict(state["model"])
        return ear
    ear = fit_ear(data, labels, narrow, minutes=minutes, seed=seed, device=device, log=log)
    save_state(path, {"model": ear.state_dict(), "styles": data.styles, "clips": len(data)})
    return ear
