"""Benchmark of successive clips: audibility of joins, drift of the music, convergence to a loop."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from riffstream.bench import seam_measures as seams
from riffstream.bench.common import check_ranges, environment, markdown_table, report, to_json
from riffstream.errors import ParameterError
from riffstream.generator.messages import Pcm
from riffstream.protocol import SAMPLE_RATE

__all__ = ["EXAMPLES", "add_arguments", "drift", "run"]

PROMPTS: Final = ("deep house", "solo piano", "string quartet", "rock guitar riff", "ambient pads")
EXAMPLES = """Each prompt is rendered as a continuous stream, like a station without the leveller. Joins are compared
with the bar lines inside clips (ratio 1: equal; p: probability of at least this ratio if joins are like bar lines).
Drift compares the first clips with the last, and each clip with the previous one and the eighth before it.

With --corpus, the same places of a corpus's songs are measured through the same vocoder, as a reference from real
songs. Prompts are then names of styles.

examples:
  riffstream bench seams
  riffstream bench seams --prompt "techno beat" --clips 64 --json
  riffstream bench seams --corpus corpus --prompt string_quartet --prompt solo_piano"""
NEAR, FAR = 1, 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``riffstream bench seams``."""
    parser.add_argument("--prompt", action="append", metavar="P", help="a prompt (may be repeated; default: five)")
    parser.add_argument("--clips", type=int, default=32, metavar="N", help="clips per prompt, 24 to 10000 (32)")
    parser.add_argument("--corpus", type=Path, metavar="DIR", help="measure songs of a corpus instead of the stream")
    parser.add_argument("--model", default="mini", help="a model with a beat grid: mini or a checkpoint folder")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="seed of the noise (1)")
    parser.add_argument(
        "--drift", type=int, metavar="N", help="clips from one noise seed to the next (default: the model's)"
    )
    parser.add_argument("--json", action="store_true", help="JSON instead of tables")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")


def run(args: argparse.Namespace) -> int:
    """Render, measure and print."""
    check_ranges(args, clips=(24, 10_000))
    if args.corpus is not None:
        return _songs(args)
    from riffstream.generator.model_renderer import make_renderer

    renderer = make_renderer({"model": args.model}, lambda what: None)
    if renderer.info.bpm is None:
        raise ParameterError("--model", args.model, "a model whose clips have a beat")
    rows = []
    for prompt in args.prompt or PROMPTS:
        if not args.quiet:
            print(f"seams: {prompt} ...", file=sys.stderr, flush=True)
        rows.append({"prompt": prompt, **_measure(renderer, prompt, args.clips, args.seed, args.drift)})
    results = {"environment": environment(("torch", "numpy")), "clips": args.clips, "prompts": rows}
    print(to_json(results) if args.json else _page(results))
    return 0


def _songs(args: argparse.Namespace) -> int:
    from riffstream.corpus.data import Corpus

    corpus = Corpus(args.corpus)
    rows = []
    for style in args.prompt or corpus.styles:
        if style not in corpus.styles:
            raise ParameterError("--prompt", style, f"with --corpus a style of it: {', '.join(corpus.styles)}")
        found = _style(corpus, style, args.clips)
        if found is not None:
            rows.append({"prompt": style, "places": found.joins, "ratio": found.ratio, "p": found.p})
    machine = environment(("torch", "numpy"))
    results = {"environment": machine, "prompts": rows}
    print(to_json(results) if args.json else report("Songs", [_joins(rows)], machine))
    return 0


def _style(corpus: Any, style: str, clips: int) -> seams.SeamReport | None:
    """Songs of a style in 4/4, about ``clips`` clips; None for too few clips."""
    import torch

    from riffstream.spectrogram.params import SpectrogramParams
    from riffstream.spectrogram.vocoder import Vocoder

    songs: dict[str, list[int]] = {}
    for number, clip in enumerate(corpus.clips):
        if clip.style == style and clip.beats == 8:
            songs.setdefault(clip.song, []).append(number)
    params = SpectrogramParams.mini()
    vocoder = Vocoder(params)
    at_joins, inside = [], []
    for song in songs.values():
        hop = params.hop(corpus.bpm(song[0]))
        mel = torch.from_numpy(np.concatenate([corpus.mel(number) for number in song], axis=-1))
        pcm = vocoder(mel, hop=hop).numpy().T
        length = hop * corpus.mel(song[0]).shape[-1]
        at_joins += [seams.measure(pcm, round(length * n)) for n in range(1, len(song))]
        inside += [seams.measure(pcm, round(length * (n + 0.5))) for n in range(1, len(song) - 1)]
        if len(at_joins) >= clips:
            break
    return seams.compare(np.array(at_joins), np.array(inside)) if min(len(at_joins), len(inside)) >= 3 else None


def _measure(renderer: Any, prompt: str, clips: int, seed: int, pace: int | None) -> dict[str, Any]:
    from riffstream.config import StationConfig, TimelineSettings
    from riffstream.journey.journey import Journey
    from riffstream.station.offline import run as play
    from riffstream.station.score import Score

    renderer.forget("render")
    info = renderer.info
    clip = info.hop * info.frames
    score = Score.of(StationConfig(), info, Journey.single(prompt, seed=seed, drift=pace))
    settings = TimelineSettings(loudness_lufs=None, ahead_s=1.0)
    pcm = np.concatenate(list(play(score, renderer, round(clip * clips), settings)))
    joins = [round(clip * n) for n in range(1, clips)]
    inside = [round(clip * (n + 0.5)) for n in range(1, clips - 1)]
    found = seams.report(pcm, joins, inside)
    return {"ratio": found.ratio, "p": found.p, "worst_p": found.worst_p, "drift": drift(pcm, clip)}


def drift(pcm: Pcm, clip: float) -> dict[str, float]:
    """Change of music over successive clips.

    Args:
        pcm: [n, 2].
        clip: samples of a clip, fractional; 24 clips or more.

    Returns:
        ``level_db``, ``centroid_octaves``: difference between the last quarter and the first.
        ``near``: correlation of a clip's spectrogram (48 bands) with that of the previous clip, in the second half.
        ``far``: the same correlation with the eighth clip before.
        ``settling``: increase of ``far`` from the first half to the second, a sign of a loop.
    """
    count = int(len(pcm) / clip + 0.01)
    clips = [_picture(pcm[round(clip * n) : round(clip * (n + 1))]) for n in range(count)]
    power = np.array([np.exp(2 * each).mean() for each in clips])
    hz = np.array([_centroid(pcm[round(clip * n) : round(clip * (n + 1))]) for n in range(count)])
    quarter = max(1, count // 4)
    flat = np.stack([(each - each.mean()).ravel() for each in clips])
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9)
    alike = flat @ flat.T

    def mean(lag: int, first: int, last: int) -> float:
        return float(np.mean([alike[n, n - lag] for n in range(max(first, lag), last)]))

    half = count // 2
    return {
        "level_db": float(10 * np.log10(power[-quarter:].mean() / power[:quarter].mean())),
        "centroid_octaves": float(np.log2(hz[-quarter:].mean() / hz[:quarter].mean())),
        "near": mean(NEAR, half, count),
        "far": mean(FAR, half + FAR, count),
        "settling": mean(FAR, half + FAR, count) - mean(FAR, 0, half),
    }


def _spectra(pcm: Pcm) -> NDArray[np.float64]:
    """Amplitudes of the sum of both channels, [frames, 1025]."""
    mono = pcm.mean(axis=1).astype(np.float64)
    starts = range(0, len(mono) - 2048, 1024)
    found: NDArray[np.float64] = np.abs(
        np.fft.rfft(np.stack([mono[at : at + 2048] for at in starts]) * np.hanning(2048))
    )
    return found


def _picture(pcm: Pcm) -> NDArray[np.float64]:
    """Log-amplitudes [64, 48]: eighths of a beat, bands of equal ratio from 60 Hz to 16 kHz."""
    spectra = _spectra(pcm)
    edges = np.unique(np.round(np.geomspace(60, 16_000, 49) / SAMPLE_RATE * 2048).astype(int))
    bands = np.add.reduceat(spectra**2, edges[:-1], axis=1)
    times = np.linspace(0, len(bands), 65).astype(int)[:-1]
    cells: NDArray[np.float64] = 0.5 * np.log(np.add.reduceat(bands, times, axis=0) + 1e-6)
    return cells


def _centroid(pcm: Pcm) -> float:
    power = (_spectra(pcm) ** 2).sum(axis=0)
    return float((power * np.arange(len(power))).sum() / max(power.sum(), 1e-12) * SAMPLE_RATE / 2048)


def _joins(rows: list[dict[str, Any]]) -> tuple[str, str]:
    names = seams.MEASURES
    table = markdown_table(
        ("prompt", *(f"{name} {what}" for name in names for what in ("ratio", "p"))),
        [(row["prompt"], *(row[what][name] for name in names for what in ("ratio", "p"))) for row in rows],
    )
    return "Joins against the bar lines inside clips", table


def _page(results: dict[str, Any]) -> str:
    rows = results["prompts"]
    columns = list(rows[0]["drift"])
    drifts = markdown_table(
        ("prompt", *columns), [(row["prompt"], *(row["drift"][name] for name in columns)) for row in rows]
    )
    sections = [_joins(rows), (f"Drift over {results['clips']} clips", drifts)]
    return report("Clips that follow each other", sections, results["environment"])
