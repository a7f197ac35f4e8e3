"""Build the corpus, train and evaluate the embedded model. See docs/corpus.md and docs/mini.md for the full recipe."""

from __future__ import annotations

import argparse
import importlib

from riffstream.errors import RiffstreamError

EXAMPLES = """examples:
  riffstream train corpus --out runs/corpus --hours 30
  riffstream train codec --corpus runs/corpus --out runs/mini
  riffstream train denoiser --corpus runs/corpus --out runs/mini --minutes 600
  riffstream train distil --corpus runs/corpus --out runs/mini
  riffstream train refine --corpus runs/corpus --out runs/mini
  riffstream train sounds --corpus runs/corpus --out runs/mini
  riffstream train ear --corpus runs/corpus --out runs/mini
  riffstream train export --out runs/mini --to my-model
  riffstream train evaluate --corpus runs/corpus --model my-model

'riffstream train STAGE --help' shows a stage's options.
"""

# stage -> (module with add_arguments(parser) and run(args) -> int, one line of help)
STAGES: dict[str, tuple[str, str]] = {
    "corpus": ("riffstream.corpus.command", "render the training corpus"),
    "codec": ("riffstream.training.codec", "train the latent codec"),
    "denoiser": ("riffstream.training.denoiser", "train the denoiser"),
    "distil": ("riffstream.training.distil", "distil the denoiser to few steps without guidance"),
    "refine": ("riffstream.training.refine", "refine the distilled denoiser against a critic"),
    "sounds": ("riffstream.training.sounds", "choose the opening sounds of a model"),
    "ear": ("riffstream.training.ear", "train the ear of a model"),
    "export": ("riffstream.training.export", "write a checkpoint folder"),
    "seeds": ("riffstream.training.seed_library", "make the seed library of a model"),
    "finetune": ("riffstream.training.finetune", "fine-tune a model with your own music"),
    "evaluate": ("riffstream.evaluation.evaluate", "measure a model against held-out music"),
    "conduct": ("riffstream.evaluation.conduct", "measure how well a model follows chords and parts"),
    "form": ("riffstream.evaluation.form", "measure the borders and chords of an unattended stretch"),
    "gallery": ("riffstream.evaluation.gallery", "render ten prompts, with pictures and recognised styles"),
    "smoke": ("riffstream.training.smoke", "run the whole recipe at a toy size"),
}

PASSES_ON = True  # the words behind the first one have a parser of their own


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    listing = "; ".join(f"{name}: {text}" for name, (_, text) in STAGES.items())
    parser.add_argument("stage", choices=STAGES, metavar="STAGE", help=listing)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS).required = False
    parser.set_defaults(parser_class=type(parser))


def run(args: argparse.Namespace) -> int:
    """Run a stage. Its module is loaded here and parses its own options.

    Raises:
        RiffstreamError: a package of the extra ``train`` is not installed.
    """
    try:
        module = importlib.import_module(STAGES[args.stage][0])
        parser: argparse.ArgumentParser = args.parser_class(
            prog=f"riffstream train {args.stage}",
            description=module.__doc__,
            epilog=getattr(module, "EXAMPLES", None),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(parser)
        return int(module.run(parser.parse_args(args.arguments)))
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "scipy":
            raise
        raise RiffstreamError(
            f"train {args.stage} needs scipy; install it with: pip install 'riffstream[train]'"
        ) from None
