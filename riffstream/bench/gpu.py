"""One run for a GPU: Stable Diffusion 1.5's size beside diffusers and Riffusion, the embedded model, and steers."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from riffstream.bench import model as bench_model
from riffstream.bench.common import check_ranges, environment, markdown_table, report, to_json
from riffstream.errors import ParameterError, RiffstreamError

if TYPE_CHECKING:
    from riffstream.diffusion.family import Family

__all__ = ["EXAMPLES", "PARTS", "add_arguments", "run"]

STEPS: Final = 20
GUIDANCE: Final = 7.0
STEERS: Final = 10
EXAMPLES = """The parts run in this order while their time lasts. Each estimate is for a GPU of 2022 or later.

examples:
  riffstream bench gpu --out gpu.json
  riffstream bench gpu --seconds 240 --only mini --only steers
  riffstream bench gpu --small      (no GPU: tests the benchmark itself on the CPU with tiny networks)"""


@dataclass(frozen=True, slots=True)
class Part:
    """One measurement.

    Attributes:
        title: heading.
        estimate_s: time that it takes on a GPU, seconds. It is left out if less is left.
        measure: function of the options, returns JSON values.
        sections: function of these values, returns headings and texts in Markdown.
    """

    title: str
    estimate_s: float
    measure: Callable[[argparse.Namespace], dict[str, Any]]
    sections: Callable[[dict[str, Any]], list[tuple[str, str]]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``riffstream bench gpu``."""
    parser.add_argument("--device", default="cuda", help="cuda or cuda:N (default: cuda)")
    parser.add_argument("--seconds", type=float, default=460, metavar="S", help="time for all parts (460)")
    parser.add_argument("--only", action="append", choices=PARTS, help="one part (may be repeated; default: all)")
    parser.add_argument("--small", action="store_true", help="tiny networks on the CPU: a test of this benchmark")
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON file, rewritten after each part")
    parser.add_argument("--json", action="store_true", help="JSON instead of tables")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")


def run(args: argparse.Namespace) -> int:
    """Measure and print; 1 if a part failed."""
    check_ranges(args, seconds=(10, 36_000))
    if args.out is not None and not args.out.resolve().parent.is_dir():
        raise ParameterError("--out", str(args.out), "a file in a folder that exists")
    if not args.small:
        _require_gpu(args.device)
    results: dict[str, Any] = {"environment": environment(("torch", "diffusers", "numpy")), "small": args.small}
    ends = time.monotonic() + args.seconds
    for name in args.only or PARTS:
        part = PARTS[name]
        left = ends - time.monotonic()
        if not args.small and left < part.estimate_s:
            results[name] = {"left_out": f"{left:.0f} s were left; it takes about {part.estimate_s:.0f} s"}
        else:
            if not args.quiet:
                print(f"gpu: {part.title} ...", file=sys.stderr, flush=True)
            results[name] = _attempt(part, args)
        if args.out is not None:
            args.out.write_text(to_json(results), encoding="utf-8")
    print(to_json(results) if args.json else _page(results))
    return int(any("failed" in results[name] for name in args.only or PARTS))


def _attempt(part: Part, args: argparse.Namespace) -> dict[str, Any]:
    """Measure one part. A failure, such as too little memory, must not cost the other parts."""
    try:
        return part.measure(args)
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {error}"}


def _require_gpu(device: str) -> None:
    import torch

    if not device.startswith("cuda") or not torch.cuda.is_available():
        raise RiffstreamError(f"no GPU: {device!r} is not available; --small tests this benchmark on the CPU")


def _options(args: argparse.Namespace, **rest: Any) -> argparse.Namespace:
    """Options of ``riffstream bench model``."""
    device, dtype = ("cpu", "float32") if args.small else (args.device, "auto")
    given = {"device": device, "dtype": dtype, "steps": None, "guidance": None, "runs": 2 if args.small else 5}
    given |= {"rivals": False, "compile": False, "whole": True, "runtime": "torch", "quiet": args.quiet, "json": False}
    return argparse.Namespace(**(given | rest))


def _stable_diffusion(args: argparse.Namespace, *, compiled: bool) -> dict[str, Any]:
    options = _options(args, model=bench_model.RANDOM, compile=compiled, rivals=not compiled)
    options.steps, options.guidance, options.runs = (2, GUIDANCE, 1) if args.small else (STEPS, GUIDANCE, 3)
    options.dtype = "float32" if args.small else "float16"
    family = bench_model.load(options, small=args.small)
    return bench_model.measure(family, options, [1, 2] if args.small else [1, 8])


def _mini(args: argparse.Namespace) -> dict[str, Any]:
    options = _options(args, model="mini")
    family: Family
    if args.small:
        from riffstream.diffusion.mini.family import MiniFamily

        family, options.steps = MiniFamily.random(), 2
    else:
        family = bench_model.load(options)
    return bench_model.measure(family, options, [1, 2] if args.small else [1, 8, 32])


def _steers(args: argparse.Namespace) -> dict[str, Any]:
    from riffstream.bench.live import serving, steer_delays

    async def measure() -> dict[str, Any]:
        arguments = ["--model", "tone"] if args.small else ["--model", "mini", "--device", args.device]
        async with serving(arguments) as (url, _):
            return (await steer_delays(url, 2 if args.small else STEERS, 2.0 if args.small else 4.0)).to_dict()

    return asyncio.run(measure())


def _steers_sections(found: dict[str, Any]) -> list[tuple[str, str]]:
    return [("a steer to its first audible sample", markdown_table(list(found), [list(found.values())]))]


PARTS: Final = {
    "sd": Part(
        "Stable Diffusion 1.5's size, 20 steps with guidance, beside diffusers and Riffusion's method",
        180,
        lambda args: _stable_diffusion(args, compiled=False),
        bench_model.sections,
    ),
    "mini": Part("The embedded model", 45, _mini, bench_model.sections),
    "steers": Part("Steers of the embedded model through a socket", 70, _steers, _steers_sections),
    "compiled": Part(
        "Stable Diffusion 1.5's size, compiled",
        150,
        lambda args: _stable_diffusion(args, compiled=True),
        bench_model.sections,
    ),
}


def _page(results: dict[str, Any]) -> str:
    sections: list[tuple[str, str]] = []
    if results["small"]:
        sections.append(("Tiny networks on the CPU", "A test of the benchmark. The figures say nothing about a GPU."))
    for name, part in PARTS.items():
        if (found := results.get(name)) is not None:
            said = found.get("left_out") or found.get("failed")
            sections += (
                [(part.title, str(said))]
                if said
                else [(f"{part.title}: {heading}", text) for heading, text in part.sections(found)]
            )
    return report("GPU benchmark", sections, results["environment"])
