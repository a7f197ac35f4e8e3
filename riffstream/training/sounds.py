"""Choose a model's opening sounds among the clips of a corpus, train the reader of words that chooses among them at
play time, and find the sounds near a clip's captions."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from riffstream.diffusion.mini.reader import READER, write_reader
from riffstream.diffusion.mini.sounds import FILE, Sounds, fingerprint, write_sounds
from riffstream.errors import ParameterError, RiffstreamError
from riffstream.journey.conditions import Levels
from riffstream.training.denoiser import prepare_data
from riffstream.training.ear import Labels
from riffstream.training.latents import LatentSet
from riffstream.training.loop import Log, pick_device
from riffstream.training.reader import fit_reader

__all__ = ["SOUNDS", "add_arguments", "build_sounds", "caption_directions", "choose_sounds", "near_sounds", "run"]

SOUNDS = 2000  # 11 MB
ASKED = 12_000  # captions that the sounds should be near to
DRAWN = 150  # candidates for each sound

Directions = tuple[Tensor, Tensor]


def caption_directions(data: LatentSet) -> Directions:
    """Sentence vectors of unit length: of each caption [K, D] (rows of ``data.tokens``), and of each clip, the mean of
    its captions' [N, D]; zeros for a clip without captions."""
    total = torch.stack([(t.float() * m[:, None]).sum(0) for t, m in zip(data.tokens, data.mask, strict=True)])
    captions = F.normalize(total / data.mask.sum(1, keepdim=True).clamp_min(1e-6), dim=-1)
    owners = torch.tensor([clip for clip, own in enumerate(data.captions) for _ in own])
    told = torch.tensor([row for own in data.captions for row in own])
    clips = torch.zeros(len(data), captions.shape[1]).index_add_(0, owners, captions[told])
    return captions, F.normalize(clips, dim=-1)


def choose_sounds(data: LatentSet, directions: Directions, count: int = SOUNDS, seed: int = 0) -> Tensor:
    """Choose ``count`` training clips, [count], so that every caption has one nearby, most useful first.

    Greedy maximisation of the sum, over captions, of the similarity to the nearest sound (facility location), with
    random candidates for each choice (Mirzasoleiman et al. 2015, arXiv:1409.7938).

    Args:
        directions: those of ``data`` (:func:`caption_directions`).

    Raises:
        RiffstreamError: the corpus has no training clip with a caption.
    """
    generator = torch.Generator().manual_seed(seed)
    captions, clips = directions
    rows = data.rows(held_out=False)
    told = torch.tensor([row for clip in rows.tolist() for row in data.captions[clip]])
    if not len(told):
        raise RiffstreamError("the corpus has no training clip with a caption, so it has no opening sounds")
    asked = captions[told[torch.randperm(len(told), generator=generator)[:ASKED]]]
    fits = (clips[rows] @ asked.T).half()
    best, free = torch.zeros(len(asked)), torch.ones(len(rows), dtype=torch.bool)
    chosen: list[int] = []
    while len(chosen) < min(count, len(rows)):
        candidates = torch.nonzero(free).flatten()
        candidates = candidates[torch.randint(len(candidates), (DRAWN,), generator=generator)]
        gains = (fits[candidates].float() - best).clamp_min(0).sum(1)
        taken = int(candidates[gains.argmax()])
        free[taken] = False
        best = torch.maximum(best, fits[taken].float())
        chosen.append(int(rows[taken]))
    return torch.tensor(chosen)


def near_sounds(data: LatentSet, directions: Directions, sounds: Tensor, count: int = 4) -> Tensor:
    """The clips of ``sounds`` [S] that are nearest to each clip's captions, of other songs and of its own metre, best
    first, [N, count]; -1 where there are no more."""
    _, clips = directions
    song = (data.previous < 0).cumsum(0)
    near = []
    for part in torch.split(torch.arange(len(data)), 1024):
        unfit = (song[part][:, None] == song[sounds]) | (data.triple[part][:, None] != data.triple[sounds])
        fits = (clips[part] @ clips[sounds].T).masked_fill(unfit, -torch.inf)
        best = fits.topk(min(count, len(sounds)), 1)
        near.append(torch.where(best.values.isinf(), -1, sounds[best.indices]))
    return torch.cat(near)


def build_sounds(data: LatentSet, path: Path, count: int = SOUNDS, labels: Labels | None = None) -> int:
    """Write at most ``count`` opening sounds of ``data`` to ``path``, and their reader of words beside it.

    Args:
        labels: those of ``data``. Without labels, or with one style or no instruments in all of them, there is no
            reader, and an older one is removed.

    Returns:
        The number of the sounds.

    Raises:
        ParameterError: ``count`` is not 1 to 100,000.
        RiffstreamError: the corpus has no training clip with a caption.
    """
    if not 1 <= count <= 100_000:
        raise ParameterError("count", count, "1 to 100000")
    directions = caption_directions(data)
    sounds = choose_sounds(data, directions, count)
    columns = data.conditions.shape[1]
    known = [
        data.conditions[clip, : columns * 3 // 4 if data.triple[clip] else columns].float().numpy()
        for clip in sounds.tolist()
    ]
    levels = np.stack([Levels.of(conditions).row for conditions in known])
    made_by = fingerprint(data.codec)
    path.with_name(READER).unlink(missing_ok=True)
    write_sounds(path, data.latents[sounds], directions[1][sounds], levels, data.triple[sounds], codec=made_by)
    if labels is not None and len(data.styles) > 1 and bool(labels.instruments.any()):
        rows = data.rows(held_out=False)
        owners = torch.tensor([clip for clip in rows.tolist() for _ in data.captions[clip]])
        told = torch.tensor([row for clip in rows.tolist() for row in data.captions[clip]])
        reader = fit_reader(directions[0][told], owners, labels.style, labels.instruments, styles=len(data.styles))
        channels, height, width = data.latents.shape[1:]
        identity = Sounds(path, (channels, height, width)).identity
        style, instruments = labels.style[sounds], labels.instruments[sounds]
        write_reader(path.with_name(READER), reader, style, instruments, identity)
    return len(sounds)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``riffstream train sounds``."""
    parser.add_argument("--corpus", type=Path, default=Path("runs/corpus"), help="folder of the corpus")
    parser.add_argument("--out", type=Path, default=Path("runs/mini"), help="run folder with codec.pt")
    parser.add_argument("--count", type=int, default=SOUNDS, help="number of sounds, 1 to 100000")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """``riffstream train sounds``: they are exported with the next checkpoint, and their reader with them."""
    device = pick_device(args.device)
    data = prepare_data(args.corpus, args.out, device, Log(args.out, "sounds", quiet=args.quiet or args.json))
    count = build_sounds(data, args.out / FILE, args.count, Labels.of(data, args.corpus))
    if args.json:
        print(json.dumps({"sounds": count, "file": str(args.out / FILE)}))
    elif not args.quiet:
        print(f"{args.out / FILE}: {count} sounds")
    return 0
