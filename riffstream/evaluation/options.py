"""Common options and resources of the evaluation stages."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from riffstream.errors import CheckpointError, ParameterError
from riffstream.models.seeds import SeedLibrary

if TYPE_CHECKING:
    from riffstream.corpus.data import Corpus

__all__ = ["add_model_options", "add_run_options", "held_out", "seed_library"]


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Corpora, model and output folder."""
    parser.add_argument("--corpus", type=Path, default=Path("corpus"), help="corpus folder")
    parser.add_argument("--held-out", type=Path, default=None, help="corpus of the clips, made with another seed")
    parser.add_argument("--model", default="mini", help="mini or a checkpoint folder")
    parser.add_argument("--out", type=Path, default=Path("runs/evaluation"), help="folder for probe, JSON and table")


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Sampling, device, seed and output format."""
    parser.add_argument("--steps", type=int, default=None, help="denoising steps; default: the model's")
    parser.add_argument("--guidance", type=float, default=None, help="default: the model's")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda ...")
    parser.add_argument("--seed", type=int, default=0, help="seed of clips, prompts and noise")
    parser.add_argument("--quiet", action="store_true", help="no progress bars, no table")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def held_out(args: argparse.Namespace) -> Corpus | None:
    """Corpus of unseen songs; None: the held-out songs of the training corpus.

    Raises:
        ParameterError: it is the training corpus, whose songs the model and the judge have seen.
        RiffstreamError: see :class:`~riffstream.corpus.data.Corpus`.
    """
    if args.held_out is None:
        return None
    if args.held_out.resolve() == args.corpus.resolve():
        needed = "another folder than --corpus; without it the corpus's own held-out songs are used"
        raise ParameterError("held-out", str(args.held_out), needed)
    from riffstream.corpus.data import Corpus

    return Corpus(args.held_out)


def seed_library(model: str) -> SeedLibrary | None:
    """Seed library of a model; None for a model without one."""
    try:
        return SeedLibrary.of(model)
    except CheckpointError:
        return None
