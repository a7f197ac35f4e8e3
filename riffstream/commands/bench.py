"""Run the benchmarks on this machine and print their tables."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import signal
from collections.abc import Iterator

__all__ = ["EXAMPLES", "add_arguments", "run"]

BENCHMARKS = {
    "all": "all but gpu and scale in one run, as one page (docs/figures.md)",
    "batch": "music a second of riffstream render --batch",
    "bus": "a tree of relays in comparison with NATS",
    "cluster": "the delay of a clip through a Ray cluster",
    "crowd": "10,000 listeners at a server, its workers and relays",
    "dsp": "image to audio: speed and quality compared with Griffin-Lim and Riffusion",
    "gpu": "one prepared run of under eight minutes for a GPU",
    "joins": "CPU and memory of a new listener",
    "model": "seconds a clip, and clips a second by number of stations",
    "scale": "boxes, bandwidth and GPUs of a large installation, on paper",
    "seams": "joins between clips, and drift over many clips",
    "stream": "cost of a listener, delays, underruns",
    "threads": "times beside busy processes, by number of threads",
}
EXAMPLES = """benchmarks:
{}

examples:
  riffstream bench all --out docs/figures.md
  riffstream bench cluster
  riffstream bench crowd
  riffstream bench dsp --quick
  riffstream bench dsp --json > dsp.json
  riffstream bench gpu --out gpu.json
  riffstream bench model --model mini
  riffstream bench scale --listeners 50000 --stations 20
  riffstream bench seams --clips 64
  riffstream bench stream
  riffstream bench threads

'riffstream bench NAME --help' shows a benchmark's own options.""".format(
    "\n".join(f"  {name:<8} {text}" for name, text in BENCHMARKS.items())
)

PASSES_ON = True  # the words behind the first one have a parser of their own


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the benchmark's name; each benchmark parses its own options."""
    parser.add_argument("benchmark", choices=BENCHMARKS, metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS).required = False
    parser.set_defaults(parser_class=type(parser))


def run(args: argparse.Namespace) -> int:
    """Run one benchmark."""
    module = importlib.import_module(f"riffstream.bench.{args.benchmark}")
    parser = args.parser_class(
        prog=f"riffstream bench {args.benchmark}",
        description=module.__doc__,
        epilog=getattr(module, "EXAMPLES", None),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    chosen = parser.parse_args(args.arguments)
    with _orderly_end():
        return int(module.run(chosen))


@contextlib.contextmanager
def _orderly_end() -> Iterator[None]:
    """Handle SIGTERM like Ctrl-C, so that a benchmark always ends the servers that it started."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # not SIGINT itself: a shell's "&" ignores that
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
