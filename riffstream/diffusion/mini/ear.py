"""The ear: style, instruments and conditions of a clip, heard in its latents (``ear.safetensors``).

The first step from noise decides which instruments and parts a clip has, and some noises lead away from the words and
conditions. So a clip tries several noises, and the ear hears in the first estimate of each which one to go on with
(docs/mini.md, "Ear"). It was trained on clips of a corpus with noise, so it knows unclear sounds (``training/ear.py``).

``ear.safetensors`` has the network (matrices and filters in int8 with a scale for each output, the rest in float16) and
``codec`` and ``reader`` (uint8), the fingerprints of the codec and of the reader of words of its training. With that
reader, which has the same styles and instruments, the ear also judges by words.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from riffstream.diffusion.mini.files import (
    dequantised,
    load_module,
    pack_fingerprint,
    quantise,
    read_tensors,
    unpack_fingerprint,
    write_tensors,
)
from riffstream.diffusion.mini.reader import UNLIKELY, LabelledSounds
from riffstream.errors import CheckpointError
from riffstream.journey.conditions import BRIGHTNESS, CHORD, DENSITY, ENERGY, PARTS_GIVEN, PARTS_LEVEL

__all__ = ["EAR", "FLAGS", "VALUES", "EarNetwork", "EarSizes", "Heard", "TrainedEar", "check_ear", "write_ear"]

EAR: Final = "ear.safetensors"
LISTENED_AT: Final = 0.3  # time at which estimates are judged: they are as unclear as clips with so much noise
PART: Final = 3.0  # weight of a part relative to a pitch of a chord, of which there are 24
# Condition values of a column that have a sound of their own, and the place of each one's "given" flag.
VALUES: Final = (
    *range(CHORD.start, CHORD.stop - 1), *range(PARTS_LEVEL.start, PARTS_LEVEL.stop), DENSITY.start, ENERGY.start,
    BRIGHTNESS.start,
)  # fmt: skip
FLAGS: Final = (
    *[CHORD.stop - 1] * (CHORD.stop - 1 - CHORD.start), *range(PARTS_GIVEN.start, PARTS_GIVEN.stop),
    DENSITY.stop - 1, ENERGY.stop - 1, BRIGHTNESS.stop - 1,
)  # fmt: skip

# Levels do not count: they follow their conditions in small steps, which another opening sound would interrupt.
WEIGHTS: Final = tuple(1.0 if value < CHORD.stop else PART if value < PARTS_LEVEL.stop else 0.0 for value in VALUES)


@dataclass(frozen=True, slots=True)
class EarSizes:
    """Sizes of an :class:`EarNetwork`.

    Attributes:
        channels: channels of the latents.
        rows: rows of the latents, an even number.
        narrow: columns of a clip in 3/4.
        styles: number of styles.
        instruments: number of classes of instruments.
        width: channels of the convolutions, a multiple of 8.
        reduced: channels behind them.
        embedding: width of the heads.
        blocks: number of residual blocks.
    """

    channels: int
    rows: int
    narrow: int
    styles: int
    instruments: int
    width: int
    reduced: int
    embedding: int
    blocks: int


@dataclass(frozen=True, slots=True)
class Heard:
    """Output of an :class:`EarNetwork`, logits.

    Attributes:
        style: [B, styles].
        instruments: [B, classes].
        values: [B, columns, values], in the order of ``VALUES``.
    """

    style: Tensor
    instruments: Tensor
    values: Tensor


class _Residual(nn.Module):
    """Two normalised 3x3 convolutions, added to their input [B, width, h, w]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, width), nn.GroupNorm(8, width)
        self.conv1, self.conv2 = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(h)))  # type: ignore[no-any-return]


class EarNetwork(nn.Module):
    """Convolutions over the grid of latents, with heads for the clip and for each column of tokens."""

    def __init__(self, sizes: EarSizes) -> None:
        super().__init__()
        self.sizes = sizes
        width, reduced, embedding = sizes.width, sizes.reduced, sizes.embedding
        high = reduced * sizes.rows // 2
        self.stem = nn.Conv2d(sizes.channels + 2, width, 2, stride=2)
        self.row = nn.Parameter(torch.randn(1, width, sizes.rows // 2, 1) * 0.1)
        self.blocks = nn.ModuleList(_Residual(width) for _ in range(sizes.blocks))
        self.reduce = nn.Conv2d(width, reduced, 1)
        self.embed = nn.Sequential(nn.Dropout(0.2), nn.Linear(2 * high, embedding), nn.SiLU())
        self.style = nn.Linear(embedding, sizes.styles)
        self.instruments = nn.Linear(embedding, sizes.instruments)
        self.values = nn.Sequential(nn.Linear(high, embedding), nn.SiLU(), nn.Linear(embedding, len(VALUES)))

    def forward(self, x: Tensor, t: Tensor, triple: Tensor) -> Heard:
        """Listen to noisy latents x [B, C, h, w] at times t [B]; ``triple`` [B] marks clips in 3/4 that fill the first
        columns of x only."""
        cells = torch.arange(x.shape[-1], device=x.device)
        inside = ((cells < self.sizes.narrow) | ~triple[:, None])[:, None, None].float().expand(-1, 1, x.shape[2], -1)
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


class TrainedEar:
    """The ear of a model, as :class:`~riffstream.diffusion.family.Ear` says.

    Args:
        path: the file.
        shape: [C, h, w] of the model's latents.
        narrow: columns of a clip in 3/4.
        codec: fingerprint of the model's codec (``sounds.fingerprint``).
        reader: the model's reader of words; None: it has none.

    Raises:
        CheckpointError: a missing or damaged file, or one of another codec.
    """

    def __init__(
        self,
        path: Path,
        shape: tuple[int, int, int],
        narrow: int,
        codec: str,
        reader: LabelledSounds | None = None,
    ) -> None:
        tensors = check_ear(path, codec)
        name = f"{path.parent.name}/{path.name}"
        del tensors["codec"]
        known = unpack_fingerprint(tensors.pop("reader", None))
        self._ear = _network(tensors, name, shape, narrow)
        self._reader = reader if reader is not None and reader.identity == known else None
        self._width = shape[2]
        digest = hashlib.blake2b(digest_size=8)
        for value in self._ear.state_dict().values():
            digest.update(value.numpy().tobytes())
        self.identity = f"{digest.hexdigest()}{LISTENED_AT}{PART}{self._reader is not None}"

    @torch.no_grad()
    def fit(self, clips: Tensor, vector: Tensor | None, conditions: Tensor | None) -> Tensor:
        clips = clips.float().cpu()
        narrow = torch.full((len(clips),), clips.shape[-1] < self._width)
        whole = F.pad(clips, (0, self._width - clips.shape[-1]))
        heard = self._ear(whole, torch.full((len(clips),), LISTENED_AT), narrow)
        fit = torch.zeros(len(clips))
        if vector is not None and self._reader is not None:
            style, instruments = self._reader.expected(vector)
            named = (heard.style.softmax(1) @ style).clamp_min(UNLIKELY).log()
            played = F.binary_cross_entropy_with_logits(
                heard.instruments, instruments.expand_as(heard.instruments), reduction="none"
            )
            fit += named - played.sum(1)
        if conditions is not None:
            fit -= _misheard(heard, conditions.float().cpu())
        return fit.nan_to_num(-torch.inf)


def _misheard(heard: Heard, conditions: Tensor) -> Tensor:
    """Cross-entropy [B] of the chords and parts that are given in ``conditions`` [columns, SIZE]: weighted sum over the
    values, mean over the columns."""
    columns = len(conditions)
    given = (conditions[:, list(FLAGS)] > 0).float() * torch.tensor(WEIGHTS)
    wanted = conditions[:, list(VALUES)].clamp(0, 1)
    values = heard.values[:, :columns]
    error = F.binary_cross_entropy_with_logits(values, wanted.expand_as(values), reduction="none")
    return (error * given).sum((1, 2)) / columns


def check_ear(path: Path, codec: str) -> dict[str, Tensor]:
    """The tensors of a file. Raises CheckpointError unless it is of the codec with fingerprint ``codec``."""
    tensors = read_tensors(path)
    if unpack_fingerprint(tensors.get("codec")) != codec:
        raise CheckpointError(
            f"{path.parent.name}/{path.name}: the ear is of another codec; 'riffstream train ear' makes a new one"
        )
    return tensors


def _network(tensors: dict[str, Tensor], name: str, shape: tuple[int, int, int], narrow: int) -> EarNetwork:
    """The network of a file, with the sizes of its tensors. Raises CheckpointError."""
    try:
        (styles, embedding), (instruments, _) = tensors["style.weight"].shape, tensors["instruments.weight"].shape
        width, (reduced,) = tensors["row"].shape[1], tensors["reduce.bias"].shape
    except (KeyError, IndexError, ValueError):
        raise CheckpointError(f"{name} has no network") from None
    blocks = len({key.split(".")[1] for key in tensors if key.startswith("blocks.")})
    if not 8 <= width <= 1024 or width % 8 or not 1 <= embedding <= 4096 or not 1 <= reduced <= 1024 or blocks > 64:
        raise CheckpointError(f"{name} has a network of an unknown form")
    with torch.random.fork_rng(devices=[]):
        ear = EarNetwork(EarSizes(shape[0], shape[1], narrow, styles, instruments, width, reduced, embedding, blocks))
    own = ear.state_dict()
    # Filters are stored as matrices.
    shaped = {
        key: value.view(own[key].shape) if key in own and value.numel() == own[key].numel() else value
        for key, value in dequantised(tensors, name).items()
    }
    load_module(ear, shaped, name)
    ear.eval().requires_grad_(False)
    if not all(value.isfinite().all() for value in ear.state_dict().values()):
        raise CheckpointError(f"{name} has numbers that are not finite")
    return ear.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def write_ear(path: Path, ear: EarNetwork, codec: str, reader: str) -> None:
    """Write a file.

    Args:
        codec: fingerprint of the codec (``sounds.fingerprint``).
        reader: fingerprint of the reader of words (``LabelledSounds.identity``); "" without one.
    """
    matrices = {
        key: value.flatten(1) if value.ndim == 4 and key.endswith("weight") else value
        for key, value in ear.state_dict().items()
    }
    marks = {"codec": pack_fingerprint(codec), "reader": pack_fingerprint(reader)}
    write_tensors(path, {**quantise(matrices), **marks})
