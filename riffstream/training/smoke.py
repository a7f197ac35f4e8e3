"""A smoke test of the whole recipe at toy size, from the corpus to the opening sounds and the seeds."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from riffstream.corpus.building import CorpusOptions, build_corpus
from riffstream.diffusion.mini.family import MODEL_FOLDER, MiniFamily
from riffstream.diffusion.mini.sounds import FILE
from riffstream.errors import RiffstreamError
from riffstream.models.seeds import SeedLibrary
from riffstream.training import codec, denoiser
from riffstream.training.checkpoints import load_denoiser
from riffstream.training.distil import Aim, distil
from riffstream.training.ear import Labels, build_ear
from riffstream.training.export import export
from riffstream.training.loop import Log
from riffstream.training.refine import Recipe, refine
from riffstream.training.sample import PROMPTS, sample_latents, write_pictures
from riffstream.training.seed_library import build_seeds
from riffstream.training.sounds import build_sounds

__all__ = ["add_arguments", "run", "smoke"]


def smoke(out: Path, *, songs: int = 6, minutes: float = 0.4, seed: int = 0, quiet: bool = True) -> dict[str, Any]:
    """Run every stage once.

    Args:
        out: an empty folder; the corpus goes to ``out/corpus``, the model to ``out/model``.
        songs: number of songs in the corpus; synthesisers play them, without a soundfont.
        minutes: training time of the codec, and of the denoiser.

    Returns:
        The report of each stage.

    Raises:
        RiffstreamError: the result of a stage is invalid.
    """
    cpu = torch.device("cpu")
    torch.manual_seed(seed)
    started = time.monotonic()
    manifest = build_corpus(
        CorpusOptions(out=out / "corpus", hours=100.0, songs=songs, workers=1, soundfonts=(), seed=seed), quiet=quiet
    )
    coded = codec.train_codec(
        out / "corpus", out, codec.PRESETS["smoke"], minutes=minutes, device=cpu, seed=seed, quiet=quiet
    )
    log = Log(out, "denoiser", quiet=quiet)
    data = denoiser.prepare_data(out / "corpus", out, cpu, log)
    toy = denoiser.PRESETS["smoke"]
    trained = denoiser.train_denoiser(
        data, out, toy, minutes=minutes, decay_minutes=minutes / 2, device=cpu, seed=seed, log=log, pictures=PROMPTS[:2]
    )
    distilled = distil(data, out, toy, minutes=minutes / 2, device=cpu, seed=seed, aim=Aim(steps=4))
    recipe, labels = Recipe(steps=4, size=4, lead=2), Labels.of(data, out / "corpus")
    refined = refine(
        data, labels, out, load_denoiser(out / "distilled.pt", cpu), minutes=minutes / 2,
        device=cpu, recipe=recipe, ear_minutes=minutes / 8, seed=seed, max_steps=8,
    )  # fmt: skip
    build_sounds(data, out / FILE, 8, labels)
    ear_bytes = build_ear(data, labels, out, minutes=minutes / 8, seed=seed, device=cpu, log=log)
    export(out, out / "model", text_from=MODEL_FOLDER)
    seeds = build_seeds(out / "corpus", out / "model", count=4)
    family = MiniFamily.load(out / "model")
    latents = sample_latents(family, PROMPTS[:2], steps=4, guidance=1.0)
    write_pictures(family, latents, out / "samples.png")
    mel = family.decode_mel(latents)
    if not bool(torch.isfinite(mel).all()) or not bool((mel > 0).any()):
        raise RiffstreamError("the smoke model generates silence or non-finite values")
    if not trained["held_out"] < 1.8:  # 2 is the loss of a zero prediction
        raise RiffstreamError(f"the smoke model has not learned: held-out loss {trained['held_out']:.3f}")
    if family.sounds is None:
        raise RiffstreamError("the smoke model has no opening sounds")
    if family.ear is None:
        raise RiffstreamError("the smoke model has no ear")
    if SeedLibrary(out / "model" / "seeds").names != [entry.name for entry in seeds]:
        raise RiffstreamError("the saved seed library differs from the built one")
    return {
        "songs": manifest["songs"], "clips": manifest["clips"], "codec": coded, "denoiser": trained,
        "distil": distilled, "refine": refined, "ear_bytes": ear_bytes,
        "seconds": round(time.monotonic() - started, 1),
    }  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``riffstream train smoke``."""
    parser.add_argument("--out", type=Path, default=Path("runs/smoke"), help="run folder; empty it for a new run")
    parser.add_argument("--songs", type=int, default=6, help="songs in the toy corpus")
    parser.add_argument("--minutes", type=float, default=0.4, help="training time of the codec, and of the denoiser")
    parser.add_argument("--seed", type=int, default=0, help="seed of songs and weights")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """``riffstream train smoke``."""
    result = smoke(args.out, songs=args.songs, minutes=args.minutes, seed=args.seed, quiet=args.quiet)
    if args.json:
        print(json.dumps(result))
    elif not args.quiet:
        print(f"all stages ran in {result['seconds']:.0f} s; the model is in {args.out / 'model'}")
    return 0
