"""Benchmark of image to audio: speed and quality of the vocoder, of Griffin-Lim and of the original's steps, and the
residuals of the mel inversions. All work runs on one thread; seconds are its CPU seconds."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from riffstream.bench.common import environment, markdown_table, report, time_runs, to_json
from riffstream.bench.material import drum_hits, rendered_midi, synthetic_piece
from riffstream.bench.picture import draw_round_trip
from riffstream.spectrogram import parity
from riffstream.spectrogram.analysis import analyse, stft_magnitude
from riffstream.spectrogram.image import amplitudes_from_image, image_from_amplitudes
from riffstream.spectrogram.mel import MelInverter, filterbank
from riffstream.spectrogram.params import SpectrogramParams
from riffstream.spectrogram.vocoder import Vocoder

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = """examples:
  riffstream bench dsp --quick      (half a minute: without the original's steps)
  riffstream bench dsp              (some minutes)
  riffstream bench dsp --json > dsp.json
"""
INT16 = 32768.0
RIFFUSION_FRAMES, MINI_FRAMES = 512, 640
CURVE_FRAMES = (24, 64, 192, 512)

Synthesis = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Row:
    """One method of synthesis from mel amplitudes."""

    way: str
    seconds: float
    seconds_p95: float
    times_real_time: float
    distance_db: dict[str, float]  # log-spectral distance by material
    convergence: dict[str, float]  # spectral convergence by material
    pre_echo_db: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``riffstream bench dsp``."""
    parser.add_argument("--quick", action="store_true", help="skip the original's slow steps and the inversion curve")
    parser.add_argument("--runs", type=int, default=5, help="timed repetitions of each fast method (default 5)")
    parser.add_argument("--picture", metavar="FILE", help="also draw a clip and its round trip into this PNG")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")


def run(args: argparse.Namespace) -> int:
    """Measure and print."""

    def say(what: str) -> None:
        if not args.quiet:
            print(f"measuring {what} ...", file=sys.stderr, flush=True)

    facts = environment(("torch", "numpy"))
    with one_thread():
        riffusion = riffusion_rows(quick=args.quick, runs=max(1, args.runs), say=say)
        mini = mini_rows(runs=max(1, args.runs), say=say)
        curve = None if args.quick else inversion_curve(say=say)
        if args.picture:
            say("the picture")
            params = SpectrogramParams.mini().replace(stereo=False)
            draw_round_trip(list(_materials(params, MINI_FRAMES).values())[-1], params, args.picture)
    if args.json:
        result = {"environment": facts, "riffusion": [asdict(row) for row in riffusion]}
        print(to_json({**result, "mini": [asdict(row) for row in mini], "inversion": curve}))
        return 0
    sections = [
        (f"Riffusion's parameters, {RIFFUSION_FRAMES} frames, mono, from the 8-bit image", table(riffusion)),
        (f"The embedded model's parameters, {MINI_FRAMES} frames at 120 bpm, stereo", table(mini)),
    ]
    if curve is not None:
        header = (
            "frames",
            "SGD 200: all",
            "SGD: lowest 64 bins",
            "SGD: CPU s",
            "ours: all",
            "ours: lowest 64",
            "ours: CPU s",
        )
        sections.append(("Mel inversion: share of the mel left unexplained", markdown_table(header, curve)))
    print(report("Image to audio", sections, facts))
    return 0


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit torch to one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def table(rows: list[Row]) -> str:
    """The rows as Markdown; the speed-up is relative to the first row."""
    materials = list(rows[0].distance_db)
    header = ["way", "CPU s (median)", "CPU s (p95)", "x real time", "x first row"]
    header += [f"LSD dB, {name}" for name in materials] + [f"SC, {name}" for name in materials] + ["pre-echo dB"]
    body = [
        [row.way, row.seconds, row.seconds_p95, row.times_real_time, rows[0].seconds / row.seconds]
        + [f"{row.distance_db[name]:.2f}" for name in materials]
        + [f"{row.convergence[name]:.3f}" for name in materials]
        + [f"{row.pre_echo_db:.1f}"]
        for row in rows
    ]
    return markdown_table(header, body)


def riffusion_rows(*, quick: bool, runs: int, say: Callable[[str], None]) -> list[Row]:
    """The original's steps, Griffin-Lim after riffstream's inversion, and the vocoder, at Riffusion's parameters."""
    params = SpectrogramParams.riffusion()
    waves = {name: wave.mean(0, keepdim=True) for name, wave in _materials(params, RIFFUSION_FRAMES).items()}

    def original(mel: Tensor) -> Tensor:
        return parity.waveform(mel, params, generator=torch.Generator().manual_seed(0))

    ways: list[tuple[str, Synthesis, int]] = []
    if not quick:
        ways.append(("original: SGD 200, Griffin-Lim 32 at n_fft 17640", original, 1))
    ways.append(("Griffin-Lim 32", Vocoder(params, method="griffin-lim"), min(runs, 2)))
    ways += [(f"phase gradient + {n}", Vocoder(params, iterations=n), runs) for n in (0, 4, 8)]
    rows = []
    for name, way, count in ways:
        say(f"{name} at Riffusion's parameters")
        rows.append(_measure(name, way, params, waves, runs=count, through_image=True))
    return rows


def mini_rows(*, runs: int, say: Callable[[str], None]) -> list[Row]:
    """Griffin-Lim and the vocoder at the embedded model's parameters, including mel inversion."""
    params = SpectrogramParams.mini()
    waves = _materials(params, MINI_FRAMES)
    ways: list[tuple[str, Synthesis]] = [("Griffin-Lim 32", Vocoder(params, method="griffin-lim"))]
    ways += [(f"phase gradient + {n}", Vocoder(params, iterations=n)) for n in (0, 4, 8)]
    rows = []
    for name, way in ways:
        say(f"{name} at the embedded model's parameters")
        rows.append(_measure(name, way, params, waves, runs=runs, through_image=False))
    return rows


def _materials(params: SpectrogramParams, frames: int) -> dict[str, Tensor]:
    length = int(frames * params.hop())
    found = {"synthetic": synthetic_piece(params.sample_rate), "MIDI": rendered_midi(params.sample_rate)}
    return {name: torch.from_numpy(wave[:, :length]) for name, wave in found.items() if wave is not None}


def _measure(
    name: str, way: Synthesis, params: SpectrogramParams, waves: dict[str, Tensor], *, runs: int, through_image: bool
) -> Row:
    mels = {material: _mel(wave, params, through_image) for material, wave in waves.items()}
    first = next(iter(waves))
    results: dict[str, Tensor] = {}

    def work() -> None:
        results[first] = way(mels[first])

    timing = time_runs(work, runs=runs, warm_up=1 if runs > 1 else 0, clock=time.process_time)
    distance, convergence = {}, {}
    for material, wave in waves.items():
        sound = results[first] if material == first else way(mels[material])
        distance[material], convergence[material] = quality(sound, wave, params)
    hits, onsets = drum_hits(params.sample_rate)
    seconds = waves[first].shape[-1] / params.sample_rate
    drums = way(_mel(torch.from_numpy(hits).expand(len(waves[first]), -1), params, through_image))[0]
    return Row(
        name,
        timing.median_s,
        timing.p95_s,
        seconds / timing.median_s,
        distance,
        convergence,
        pre_echo_db(drums, onsets, params.sample_rate),
    )


def _mel(wave: Tensor, params: SpectrogramParams, through_image: bool) -> Tensor:
    frames = math.ceil(wave.shape[-1] / params.hop())
    mel = analyse(wave * INT16, params, frames=frames)
    if not through_image:
        return mel
    image = image_from_amplitudes(mel.numpy(), params)
    return torch.from_numpy(amplitudes_from_image(image, power=params.power_for_image, stereo=params.stereo))


def quality(wave: Tensor, source: Tensor, params: SpectrogramParams) -> tuple[float, float]:
    """Log-spectral distance in dB and spectral convergence, at the best common gain.

    Both compare magnitudes (window 2048, hop 256) from 20 Hz to the top of the mel scale, without the first and last
    100 ms. The distance is the root mean square of the difference in dB over a frame's bins, averaged over
    frames, with a floor 80 dB below the source's loudest bin; the convergence is the relative error of the magnitudes.
    """
    rate = params.sample_rate
    edge, length = rate // 10, min(wave.shape[-1], source.shape[-1])
    low, high = math.ceil(20 / rate * 2048), int(params.max_frequency / rate * 2048)
    want, got = (
        stft_magnitude(x[..., edge : length - edge], n_fft=2048, window=2048, hop=256)[..., low:high, :]
        for x in (source, wave)
    )
    got = got * ((want * got).sum() / got.square().sum().clamp_min(1e-30))
    convergence = float((got - want).norm() / want.norm())
    floor = 1e-4 * float(want.max())
    difference = 20 * (got.clamp_min(floor) / want.clamp_min(floor)).log10()
    return float(difference.square().mean(-2).sqrt().mean()), convergence


def pre_echo_db(wave: Tensor, onsets: list[int], rate: int) -> float:
    """Level from 20 to 3 ms before drum hits out of silence, relative to the 20 ms after them: mean in dB."""
    near, far = int(0.003 * rate), int(0.02 * rate)
    ratios = [
        float(wave[start - far : start - near].square().mean() / wave[start : start + far].square().mean())
        for start in onsets
    ]
    return sum(10 * math.log10(max(ratio, 1e-12)) for ratio in ratios) / len(ratios)


def inversion_curve(*, say: Callable[[str], None], params: SpectrogramParams | None = None) -> list[list[float]]:
    """Residuals and seconds of the original's inversion and of riffstream's, by the number of frames.

    ``params`` are Riffusion's by default. Columns of a row: frames; then for each inversion the relative residual of
    all bins, that of the lowest 64 bins, and seconds.
    """
    params = SpectrogramParams.riffusion() if params is None else params
    wave = _materials(params, max(CURVE_FRAMES))["synthetic"].mean(0, keepdim=True)
    whole = _mel(wave, params, through_image=True)
    filters = filterbank(params)
    inverter = MelInverter(params)
    rows: list[list[float]] = []
    for frames in CURVE_FRAMES:
        say(f"mel inversion of {frames} frames")
        mel = whole[..., :frames]
        results: dict[str, Tensor] = {}

        def sgd(mel: Tensor = mel, results: dict[str, Tensor] = results) -> None:
            results["sgd"] = parity.invert_mel_sgd(mel, params, generator=torch.Generator().manual_seed(0))

        def ours(mel: Tensor = mel, results: dict[str, Tensor] = results) -> None:
            results["ours"] = inverter(mel)

        slow, fast = (
            time_runs(work, runs=count, warm_up=int(count > 1), clock=time.process_time).median_s
            for work, count in ((sgd, 1), (ours, 3))
        )
        row: list[float] = [frames]
        for seconds, linear in ((slow, results["sgd"]), (fast, results["ours"])):
            again = (linear.transpose(-1, -2) @ filters).transpose(-1, -2)
            row += [float((again - mel)[:, k].norm() / mel[:, k].norm()) for k in (slice(None), slice(64))] + [seconds]
        rows.append(row)
    return rows
