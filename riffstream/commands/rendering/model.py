"""Options of the model, and its renderer."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from riffstream.config import GeneratorSettings
from riffstream.generator.renderer import DrawingRenderer, ToneRenderer

if TYPE_CHECKING:
    from riffstream.models.songs import Song

__all__ = ["add_model_options", "load_renderer"]


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the model, its device and its sampler, and of the loudness."""
    how = parser.add_argument_group("how")
    how.add_argument("--model", default="mini", metavar="M", help="mini, a folder, a file, or a hub id (mini)")
    how.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"), help="device (default: auto)")
    how.add_argument(
        "--dtype",
        default="auto",
        choices=("auto", "float32", "bfloat16", "float16"),
        help="number type (default: auto)",
    )
    how.add_argument(
        "--runtime",
        default="torch",
        choices=("torch", "openvino"),
        help="what evaluates the embedded model on a CPU (default: torch)",
    )
    how.add_argument("--lora", action="append", default=[], metavar="FILE[:SCALE]", help="LoRA to merge")
    how.add_argument("--steps", type=int, metavar="N", help="denoising steps, 1 to 1000 (the model's)")
    how.add_argument("--sampler", metavar="NAME", help="the model's by default")
    how.add_argument("--lufs", type=float, default=-16.0, metavar="X", help="target loudness, -40 to -8 (-16)")


def load_renderer(
    args: argparse.Namespace,
    *,
    max_batch: int = 16,
    state_dir: str | None = None,
    songs: Mapping[str, Song] | None = None,
) -> DrawingRenderer:
    """Load the model of the options.

    Args:
        args: parsed options, with ``quiet``.
        max_batch: rows of a batch.
        state_dir: folder of a server with uploads and live inputs.
        songs: recordings that clips may follow, by name.

    Raises:
        RiffstreamError: the model cannot be loaded, or an option is not allowed.
    """
    if args.model == "tone":
        return ToneRenderer()
    from riffstream.generator.model_renderer import make_renderer

    settings = GeneratorSettings(
        model=args.model,
        device=args.device,
        dtype=args.dtype,
        runtime=args.runtime,
        lora=tuple(args.lora),
        sampler=args.sampler,
        max_batch=max_batch,
    )
    options = {name: getattr(settings, name) for name in settings.__struct_fields__}
    if state_dir is not None:
        options["uploads"] = str(Path(state_dir) / "seeds")
    options["songs"] = msgspec.to_builtins(songs or {})

    def progress(what: str) -> None:
        if not args.quiet:
            print(what, file=sys.stderr)

    return make_renderer(options, progress, files=True)
