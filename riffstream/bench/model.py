"""Speed of a model: seconds per clip by stage, throughput by number of stations, and comparison with other methods."""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast

from riffstream.bench.common import check_ranges, environment, markdown_table, to_json
from riffstream.bench.common import report as page
from riffstream.bench.first_clip import first_clip
from riffstream.errors import ParameterError
from riffstream.ranges import check

if TYPE_CHECKING:
    from riffstream.diffusion.family import Family
    from riffstream.diffusion.mini.family import MiniFamily

__all__ = ["EXAMPLES", "RANDOM", "add_arguments", "load", "measure", "render", "run", "sections"]

EXAMPLES = """examples:
  riffstream bench model
  riffstream bench model --runtime both
  riffstream bench model --model path/to/checkpoint --steps 20 --stations 1,2,4,8
  riffstream bench model --model sd15-random --rivals      (with a GPU)
"""
RANDOM = "sd15-random"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``riffstream bench model``."""
    parser.add_argument(
        "--model",
        default="mini",
        help=f"mini, a folder, a file or a hub id; {RANDOM}: Stable Diffusion 1.5's size with random weights",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps")
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16, float16")
    parser.add_argument(
        "--runtime",
        default="torch",
        choices=("torch", "openvino", "both"),
        help="what evaluates the embedded model on a CPU; both: compare them (default: torch)",
    )
    parser.add_argument("--steps", type=int, help="denoising steps (default: the model's)")
    parser.add_argument("--guidance", type=float, help="guidance (default: the model's; 1: off)")
    parser.add_argument("--stations", default="1,2,4,8", help="numbers of clips in progress, comma-separated")
    parser.add_argument("--runs", type=int, default=5, help="repetitions of each measurement")
    parser.add_argument("--rivals", action="store_true", help="also measure diffusers' pipeline and Riffusion's method")
    parser.add_argument("--compile", action="store_true", help="torch.compile the networks (Stable Diffusion)")
    parser.add_argument("--whole", action="store_true", help=f"with {RANDOM} on a CPU: whole clips; takes minutes")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    stations = _stations(args.stations)
    check_ranges(args, runs=(1, 1000))
    for name in ("steps", "guidance"):
        if getattr(args, name) is not None:
            check(name, getattr(args, name))
    family = load(args)
    report = measure_both(family, args, stations) if args.runtime == "both" else measure(family, args, stations)
    print(to_json(report) if args.json else render(report))
    return 0


def measure(family: Family, args: argparse.Namespace, stations: Sequence[int]) -> dict[str, Any]:
    """All measurements requested by ``args``, as JSON values."""
    from riffstream.bench import model_measure as bench

    def say(what: str) -> None:
        if not args.quiet:
            print(f"measuring {what} ...", file=sys.stderr, flush=True)

    device, dtype = family.device, family.dtype
    guidance = family.defaults.guidance if args.guidance is None else float(args.guidance)
    steps = args.steps or family.defaults.steps
    one_only = args.model == RANDOM and device.type != "cuda" and not args.whole
    say("the matrix rate")
    rate = bench.matmul_rate(device, dtype)
    say("one evaluation")
    seconds, flop = bench.evaluation(family, runs=1 if one_only else args.runs)
    if args.runtime == "openvino":  # its operations are those of torch, which alone can be counted
        from riffstream.bench.runtimes import evaluated_by

        with evaluated_by(cast("MiniFamily", family), "torch"):
            flop = bench.evaluation(family, runs=1)[1]
    report: dict[str, Any] = {
        "model": args.model,
        "environment": environment(("torch", "diffusers", "numpy")),
        "device": _device(device),
        "dtype": str(dtype).removeprefix("torch."),
        "steps": steps,
        "guidance": guidance,
        "audio_s_per_clip": bench.clip_seconds(family),
        "matrix_tflops": rate / 1e12,
        "evaluation": {"seconds": seconds, "gflop": flop / 1e9, "share_of_matrix_rate": flop / seconds / rate},
        "notes": [],
    }
    if one_only:
        rows = steps * (2 if guidance > 1 else 1)
        report["notes"].append(
            f"one evaluation only; {steps} steps would take about {rows * seconds:.0f} s a clip (--whole measures it)"
        )
        return report
    if args.model != RANDOM:
        say("the first clip of a fresh process")
        runtime = "openvino" if args.runtime == "openvino" else "torch"
        report["first_clip_s"] = first_clip(args.model, args.device, args.dtype, runtime, runs=min(3, args.runs))
    say("the stages of a clip")
    report["stages"] = bench.plain(bench.stages(family, steps=steps, guidance=guidance, runs=args.runs))
    report["throughput"] = []
    for clips in stations:
        say(f"{clips} stations")
        result = bench.throughput(family, clips=clips, steps=steps, guidance=guidance, rounds=max(2, args.runs // 2))
        report["throughput"] += bench.plain([result])
    if args.rivals and family.name != "stable-diffusion":
        report["notes"].append("no comparison: diffusers' pipelines support Stable Diffusion checkpoints only")
    elif args.rivals:
        say("diffusers' pipelines")
        found = bench.rivals(
            family, steps=steps, guidance=guidance, stations=max(stations), runs=max(1, args.runs // 2)
        )
        report["rivals"] = bench.plain(found)
    if device.type != "cuda":
        report["notes"].append("no GPU was used; on a GPU, add --model sd15-random --rivals for the comparison")
    return report


def measure_both(family: Family, args: argparse.Namespace, stations: Sequence[int]) -> dict[str, Any]:
    """:func:`measure` with torch, and a comparison with OpenVINO as ``runtimes`` and ``differences``."""
    from riffstream.bench.runtimes import compare, differences, evaluated_by

    mini = cast("MiniFamily", family)
    with evaluated_by(mini, "torch"):
        report = measure(family, args, stations)
    if not args.quiet:
        print("measuring both runtimes ...", file=sys.stderr, flush=True)
    how: dict[str, Any] = {"steps": report["steps"], "guidance": report["guidance"]}
    report["runtimes"] = [asdict(each) for each in compare(mini, stations, **how, runs=args.runs)]
    report["differences"] = differences(mini, **how)
    return report


def render(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    return page("Model benchmark", sections(report), report["environment"])


def sections(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Headings and texts of a report, in Markdown."""
    one, audio = report["evaluation"], report["audio_s_per_clip"]
    summary = (
        f"{report['device']}, {report['dtype']}. {report['steps']} steps, guidance {report['guidance']:g}, "
        f"{audio:.2f} s of audio a clip. One evaluation: {1e3 * one['seconds']:.1f} ms, {one['gflop']:.1f} GFLOP, "
        f"{100 * one['share_of_matrix_rate']:.0f} % of the measured matrix rate "
        f"({report['matrix_tflops']:.2f} TFLOP/s)."
    )
    if "first_clip_s" in report:
        first = report["first_clip_s"]
        summary += (
            f" From the start of a process to a clip of sound, files cached: {statistics.median(first):.1f} s "
            f"(worst of {len(first)}: {max(first):.1f} s)."
        )
    found = [(report["model"], "\n\n".join([summary, *report["notes"]]))]
    if "stages" in report:
        rows = [
            (stage["name"], 1e3 * stage["p50_s"], 1e3 * stage["p95_s"], audio / max(stage["p50_s"], 1e-9))
            for stage in report["stages"]
        ]
        found.append(("Stages of a clip", markdown_table(["stage", "p50 ms", "p95 ms", "times real time"], rows)))
    if report.get("throughput"):
        header = ["stations", "clips/s", "s/clip", "times real time", "wait p50 s", "p95 s", "peak GB"]
        found.append(("Stations at once", markdown_table(header, [list(row.values()) for row in report["throughput"]])))
    if report.get("runtimes"):
        from riffstream.bench.runtimes import runtimes_text

        found.append(("Runtimes", runtimes_text(report["runtimes"], report["differences"])))
    if report.get("rivals"):
        ours = max(report["throughput"], key=lambda row: row["clips"])["seconds_per_clip"]
        header = ["way", "steps", "batch", "s/clip", "times real time", "riffstream is faster by"]
        rivals = [[*row.values(), row["seconds_per_clip"] / ours] for row in report["rivals"]]
        found.append(("Other ways", markdown_table(header, rivals)))
    return found


def load(args: argparse.Namespace, *, small: bool = False) -> Family:
    """The model named by ``args``; ``small``: the random one with tiny networks."""
    options = None
    if args.compile:
        from riffstream.diffusion.sd.family import SdOptions

        options = SdOptions(compile=True)
    if args.model == RANDOM:
        from riffstream.bench.random_sd15 import random_sd15
        from riffstream.diffusion.checkpoint_device import pick_device, pick_dtype

        device = pick_device(args.device)
        return random_sd15(device, pick_dtype(args.dtype, device), options=options, small=small)
    from riffstream.diffusion.checkpoint import Checkpoint

    family = Checkpoint.load(
        args.model,
        device=args.device,
        dtype=args.dtype,
        progress=not args.quiet,
        options=options,
        runtime="torch" if args.runtime == "torch" else "openvino",
    )
    if args.runtime != "torch":
        from riffstream.bench.runtimes import ready

        if not args.quiet:
            print("waiting for OpenVINO's network; a first time converts it ...", file=sys.stderr, flush=True)
        ready(cast("MiniFamily", family))
    return family


def _stations(text: str) -> list[int]:
    try:
        counts = sorted({int(part) for part in text.split(",")})
    except ValueError:
        counts = []
    if not counts or not 1 <= counts[0] <= counts[-1] <= 64:
        raise ParameterError("stations", text, "whole numbers from 1 to 64, separated by commas")
    return counts


def _device(device: Any) -> str:
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type.upper()}, {torch.get_num_threads()} threads"
