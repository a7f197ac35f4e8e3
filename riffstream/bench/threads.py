"""Benchmark of a shared machine: times by number of threads, by their way of waiting, and by number of other busy
processes. Each measurement runs in a separate process."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from riffstream.bench.common import environment, markdown_table, report, to_json
from riffstream.errors import ParameterError, RiffstreamError
from riffstream.threads import WAITING, usable_cores

if TYPE_CHECKING:
    from torch import Tensor, nn

    from riffstream.diffusion.mini.denoiser import Denoiser
    from riffstream.training.denoiser import Batch
    from riffstream.training.gradient_helper import Job

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = """examples:
  riffstream bench threads                      (five minutes)
  riffstream bench threads --jobs image,clip --seconds 2
  riffstream bench threads --json > threads.json
"""
JOBS = {
    "image": "a 5.1 s spectrogram image to audio",
    "clip": "one clip of the embedded model, from noise to audio",
    "train": "one training step of the denoiser, 64 examples",
    "helper": "the same with a gradient helper, per 64 examples",
}
# How threads wait: OpenMP's default (GNU's, written out), and riffstream's setting.
POLICIES = {"spin": {"GOMP_SPINCOUNT": "300000"}, "sleep": {"OMP_WAIT_POLICY": "PASSIVE"}}
SPIN = "while True: pass"


@dataclass(frozen=True, slots=True)
class Row:
    """Seconds of one job.

    Attributes:
        job: a key of ``JOBS``.
        threads: number of threads.
        wait: "spin" or "sleep" at OpenMP's barriers.
        busy: number of other processes with constant CPU load.
        median_s: median in seconds.
        worst_s: maximum in seconds.
        runs: number of runs.
    """

    job: str
    threads: int
    wait: str
    busy: int
    median_s: float
    worst_s: float
    runs: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``riffstream bench threads``."""
    parser.add_argument("--jobs", default=",".join(JOBS), help=f"list of {', '.join(JOBS)} (default all)")
    parser.add_argument("--busy", default="0,1,2", metavar="N,N", help="numbers of busy processes (default 0,1,2)")
    parser.add_argument("--seconds", type=float, default=4.0, help="duration of each measurement (default 4)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    jobs = args.jobs.split(",")
    for job in jobs:
        if job not in JOBS:
            raise ParameterError("--jobs", job, ", ".join(JOBS))
    try:
        neighbours = [int(text) for text in args.busy.split(",")]
    except ValueError:
        raise ParameterError("--busy", args.busy, "whole numbers, separated by commas") from None
    if not all(0 <= count <= 64 for count in neighbours):
        raise ParameterError("--busy", args.busy, "0 to 64 each")
    facts = environment(("torch", "numpy"))
    rows = []
    for busy in neighbours:
        with _busy(busy):
            for job in jobs:
                for threads in [1] if job == "helper" else sorted({1, usable_cores()}):
                    for wait in POLICIES if threads > 1 else ("sleep",):
                        if not args.quiet:
                            print(f"measuring {job}, {threads} threads, {wait}, {busy} busy ...", file=sys.stderr)
                        rows.append(_measure(job, threads, wait, busy, args.seconds))
    if args.json:
        print(to_json({"environment": facts, "rows": [asdict(row) for row in rows]}))
    else:
        print(report("Threads on a shared machine", [("Seconds, median (worst)", table(rows))], facts))
    return 0


def table(rows: list[Row]) -> str:
    """A row per job, number of threads and way of waiting; a column per number of busy processes."""
    columns = sorted({row.busy for row in rows})
    found = {(row.job, row.threads, row.wait, row.busy): row for row in rows}
    lines = []
    for job, threads, wait in dict.fromkeys((row.job, row.threads, row.wait) for row in rows):
        cells = [found[job, threads, wait, busy] for busy in columns]
        times = [f"{cell.median_s:.3g} ({cell.worst_s:.3g})" for cell in cells]
        lines.append([JOBS[job], threads, wait if threads > 1 else "", *times])
    return markdown_table(["job", "threads", "threads wait by", *(f"{n} busy" for n in columns)], lines)


@contextlib.contextmanager
def _busy(count: int) -> Iterator[None]:
    """``count`` processes with constant CPU load during the block."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            process = stack.enter_context(subprocess.Popen([sys.executable, "-c", SPIN]))
            stack.callback(process.kill)
        yield


def _measure(job: str, threads: int, wait: str, busy: int, seconds: float) -> Row:
    """Measure one job in a separate process.

    Raises:
        RiffstreamError: the process failed; the message has the end of its stderr.
    """
    own = {name: value for name, value in os.environ.items() if name not in WAITING}
    command = [sys.executable, "-m", "riffstream.bench.threads", job, str(threads), str(seconds)]
    done = subprocess.run(
        command,
        env=own | POLICIES[wait] | {"OMP_NUM_THREADS": str(threads)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RiffstreamError(f"the measurement of {job} failed: {done.stderr.strip()[-500:]}")
    times = json.loads(done.stdout.splitlines()[-1])
    return Row(job, threads, wait, busy, statistics.median(times), max(times), len(times))


def _image() -> tuple[Callable[[], object], Callable[[], None]]:
    import torch

    from riffstream.spectrogram.params import SpectrogramParams
    from riffstream.spectrogram.vocoder import Vocoder

    params = SpectrogramParams()
    vocoder = Vocoder(params)
    amplitudes = torch.rand(1, params.num_frequencies, 512) ** 4 * 1e5
    return lambda: vocoder(amplitudes, hop=params.hop()), lambda: None


def _clip() -> tuple[Callable[[], object], Callable[[], None]]:
    from riffstream.bench.model_measure import request
    from riffstream.diffusion.checkpoint import Checkpoint
    from riffstream.diffusion.engine import Engine
    from riffstream.spectrogram.vocoder import Vocoder

    family = Checkpoint.load("mini", progress=False)
    engine, vocoder = Engine(family), Vocoder(family.params)
    hop = family.params.hop(family.defaults.bpm)
    return lambda: vocoder(engine.render(request(0, None)).mel, hop=hop), lambda: None


def _train(*, helped: bool) -> tuple[Callable[[], object], Callable[[], None]]:
    import torch

    from riffstream.training.denoiser import PRESETS, flow_loss, optimisers
    from riffstream.training.gradient_helper import GradientHelper

    preset = PRESETS["cpu"]
    model, batch = _network_and_batch()
    stages = optimisers(model, preset)
    helper = GradientHelper(model, _helper_job, ()) if helped else None

    def step() -> int:
        """One training step; returns its number of examples."""
        for stage in stages:
            stage.zero_grad(set_to_none=True)
        flow_loss(model, batch, model.config.columns_triple).backward()  # type: ignore[no-untyped-call]
        seen = preset.batch + (helper.add_to(preset.batch) if helper else 0)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for stage in stages:
            stage.step()
        return seen

    return step, helper.close if helper else lambda: None


def _network_and_batch() -> tuple[Denoiser, Batch]:
    import torch

    from riffstream.diffusion.mini.denoiser import Denoiser
    from riffstream.training.denoiser import PRESETS, Batch

    preset = PRESETS["cpu"]
    model = Denoiser(preset.config)
    shape = (preset.batch, model.config.channels, 16, 32)
    clean, noise, previous = (torch.randn(shape) for _ in range(3))
    tokens = torch.randn(preset.batch, 32, model.config.text_width)
    mask, flags = torch.ones(preset.batch, 32), torch.ones(preset.batch, dtype=torch.bool)
    asked = torch.zeros(preset.batch, 16, model.config.conditions)
    return model, Batch(clean, noise, torch.rand(preset.batch), tokens, mask, previous, flags, None, asked)


def _helper_job() -> Job:
    from riffstream.training.denoiser import flow_loss

    other, batch = _network_and_batch()

    def job(model: nn.Module, index: int) -> tuple[Tensor, int]:
        return flow_loss(model, batch, other.config.columns_triple), len(batch.clean)

    return job


def _times(job: str, seconds: float) -> list[float]:
    """Seconds of each run: at least three runs, and as many as fit in the time."""
    makers: dict[str, Callable[[], tuple[Callable[[], object], Callable[[], None]]]] = {
        "image": _image,
        "clip": _clip,
        "train": lambda: _train(helped=False),
        "helper": lambda: _train(helped=True),
    }
    work, close = makers[job]()
    try:
        work()
        times: list[float] = []
        began = time.perf_counter()
        while len(times) < 3 or time.perf_counter() - began < seconds:
            begin = time.perf_counter()
            seen = work()
            spent = time.perf_counter() - begin
            times.append(spent * 64 / seen if isinstance(seen, int) else spent)
    finally:
        close()
    return times


if __name__ == "__main__":
    print(json.dumps(_times(sys.argv[1], float(sys.argv[3]))))
