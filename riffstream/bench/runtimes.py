"""Comparison of the runtimes of the embedded model in one process, in alternation: times, CPU times and differences."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from riffstream.bench.common import markdown_table
from riffstream.bench.model_measure import PROMPT, clip_seconds, request, throughput
from riffstream.diffusion.engine import Engine
from riffstream.diffusion.family import TextEmbedding
from riffstream.diffusion.mini.family import MiniFamily
from riffstream.errors import RiffstreamError
from riffstream.spectrogram.vocoder import Vocoder

__all__ = ["RUNTIMES", "Figure", "compare", "differences", "evaluated_by", "ready", "runtimes_text"]

RUNTIMES: Final = ("torch", "openvino")
CLIPS_EACH: Final = 2  # of a station, in one measurement


@dataclass(frozen=True, slots=True)
class Figure:
    """Median times of the same work with each of :data:`RUNTIMES`, seconds: on the clock, and of the CPU."""

    name: str
    seconds: dict[str, float]
    cpu_s: dict[str, float]
    audio_s: float  # seconds of audio that it makes; 0: none


def ready(family: MiniFamily) -> None:
    """Wait for OpenVINO's network of a family. Raises RiffstreamError if it cannot be used."""
    assert family.compiled is not None
    family.compiled.patient = True
    runtime = family.compiled.wait()
    if runtime.fault:
        raise RiffstreamError(runtime.note)


@contextlib.contextmanager
def evaluated_by(family: MiniFamily, runtime: str) -> Iterator[None]:
    """Let a runtime evaluate a family that has both."""
    compiled = family.compiled
    family.compiled = None if runtime == "torch" else compiled
    try:
        yield
    finally:
        family.compiled = compiled


def compare(
    family: MiniFamily, stations: Sequence[int], *, steps: int | None, guidance: float | None, runs: int
) -> list[Figure]:
    """Times of an evaluation, of a clip and of the clips of several stations with both runtimes."""
    audio = clip_seconds(family)
    engine, vocoder = Engine(family, steps=steps), Vocoder(family.params, device="cpu")
    hop = family.params.hop(family.defaults.bpm) if family.beats is not None else family.params.hop()

    def clip() -> None:
        vocoder(engine.render(request(1, guidance)).mel, hop=hop)

    def together(count: int) -> None:
        throughput(family, clips=count, steps=steps, guidance=guidance, rounds=CLIPS_EACH)

    figures = [
        _figure(family, f"evaluation, {rows} row{'' if rows == 1 else 's'}", _evaluation(family, rows), runs, 0.0)
        for rows in (1, 8)
    ]
    figures.append(_figure(family, "clip with its audio", clip, runs, audio))
    for count in stations:
        # ``throughput`` renders one more clip first.
        work = (count * CLIPS_EACH + 1) * audio
        name = f"{count} station{'' if count == 1 else 's'} without vocoder"
        figures.append(_figure(family, name, lambda count=count: together(count), max(1, runs // 2), work))  # type: ignore[misc]
    return figures


def differences(family: MiniFamily, *, steps: int | None, guidance: float | None) -> dict[str, float]:
    """Largest differences between the runtimes, relative to the largest value, in an evaluation and a clip's mel."""
    found = {}
    for rows in (1, 8):
        found[f"evaluation of {rows} row{'' if rows == 1 else 's'}"] = _relative(
            *_both(family, _evaluation(family, rows))
        )
    engine = Engine(family, steps=steps)
    found["mel of a clip"] = _relative(*_both(family, lambda: engine.render(request(1, guidance)).mel))
    return found


def runtimes_text(figures: Sequence[dict[str, Any]], differences: dict[str, float]) -> str:
    """The comparison in Markdown: figures as plain values, and the differences."""
    rows = []
    for each in figures:
        seconds, cpu, audio = each["seconds"], each["cpu_s"], each["audio_s"]
        speeds = [audio / seconds[runtime] if audio else "" for runtime in RUNTIMES]
        times = [1e3 * one[runtime] for one in (seconds, cpu) for runtime in RUNTIMES]
        rows.append([each["name"], *times, cpu["openvino"] / cpu["torch"], *speeds])
    header = ["work", "torch ms", "OpenVINO ms", "torch CPU ms", "OpenVINO CPU ms", "CPU ratio"]
    header += ["torch times real time", "OpenVINO times real time"]
    apart = ", ".join(f"{name} {value:.1e}" for name, value in differences.items())
    return f"{markdown_table(header, rows)}\n\nLargest difference, relative to the largest value: {apart}."


def _evaluation(family: MiniFamily, rows: int) -> Callable[[], Tensor]:
    """One evaluation with text, previous clips and conditions."""
    generator = torch.Generator().manual_seed(0)
    x, previous = (torch.randn(rows, *family.latent_shape(), generator=generator) for _ in range(2))
    text = TextEmbedding.stack([family.encode_text([PROMPT])] * rows)
    extra: dict[str, Any] = {"previous": previous, "previous_mask": torch.ones(rows, dtype=torch.bool)}
    if family.conditions:
        extra["conditions"] = torch.rand(rows, family.condition_columns, family.conditions, generator=generator)
    t = torch.linspace(0.1, 0.9, rows)
    return lambda: family.denoise(x, t, text, **extra)


def _figure(family: MiniFamily, name: str, work: Callable[[], object], runs: int, audio_s: float) -> Figure:
    wall: dict[str, list[float]] = {runtime: [] for runtime in RUNTIMES}
    cpu: dict[str, list[float]] = {runtime: [] for runtime in RUNTIMES}
    for run in range(runs + 1):
        for runtime in RUNTIMES:
            with evaluated_by(family, runtime):
                began = time.perf_counter(), time.process_time()
                work()
                if run:  # the first one warms up
                    wall[runtime].append(time.perf_counter() - began[0])
                    cpu[runtime].append(time.process_time() - began[1])
    return Figure(name, _medians(wall), _medians(cpu), audio_s)


def _medians(times: dict[str, list[float]]) -> dict[str, float]:
    return {runtime: statistics.median(each) for runtime, each in times.items()}


def _both(family: MiniFamily, work: Callable[[], Tensor]) -> list[Tensor]:
    found = []
    for runtime in RUNTIMES:
        with evaluated_by(family, runtime):
            found.append(work())
    return found


def _relative(wanted: Tensor, made: Tensor) -> float:
    return float((made - wanted).abs().max() / wanted.abs().max())
