"""Ten prompts of ten styles, rendered as in ``riffstream render``, with pictures and recognised styles and instruments.

The listener is the probe of ``riffstream train evaluate``. Its input is the finished audio, including the effects of
vocoder, joins and loudness.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from riffstream.audio.files import read_audio
from riffstream.cli import main
from riffstream.errors import ParameterError, RiffstreamError
from riffstream.evaluation.probe import Probe, load_probe, probe_features
from riffstream.spectrogram.analysis import analyse
from riffstream.spectrogram.params import SpectrogramParams
from riffstream.training.sample import PROMPTS

__all__ = ["EXAMPLES", "Heard", "add_arguments", "hear", "markdown", "picture", "run"]

EXAMPLES = """examples:
  riffstream train gallery --probe runs/evaluation/probe.safetensors --out runs/gallery
  riffstream train gallery --prompt "slow waltz, strings" --seconds 10 --out runs/waltz
"""

RANGE_DB = 70.0  # dynamic range of the pictures


@dataclass(frozen=True, slots=True)
class Heard:
    """The probe's most likely styles and instruments of one recording, each with its share in [0, 1]."""

    styles: dict[str, float]
    instruments: dict[str, float]


def windows(samples: np.ndarray, bpm: float) -> list[np.ndarray]:
    """Mel amplitudes [2, 256, 512] of each complete section of 8 beats.

    Args:
        samples: [N, 2] at 48 kHz, beat 0 at sample 0.
        bpm: tempo.
    """
    params = SpectrogramParams.mini()
    hop = params.hop(bpm)
    frames = int(len(samples) / hop) // 512 * 512
    if not frames:
        raise ParameterError("seconds", round(len(samples) / params.sample_rate, 1), "8 beats or more")
    mel = analyse(torch.from_numpy(np.ascontiguousarray(samples.T)), params, hop=hop, frames=frames)
    return [mel[..., k : k + 512].numpy() for k in range(0, frames, 512)]


def hear(probe: Probe, mels: Sequence[np.ndarray], count: int = 3) -> Heard:
    """The probe's result for a recording, averaged over its clips: the ``count`` best styles and instruments."""
    _, style, kinds = probe.listen([probe_features(mel) for mel in mels])
    shares = np.exp(style - style.max(1, keepdims=True))
    shares = (shares / shares.sum(1, keepdims=True)).mean(0)
    sounding = (1 / (1 + np.exp(-kinds))).mean(0)

    def best(names: Sequence[str], values: np.ndarray) -> dict[str, float]:
        return {names[k]: round(float(values[k]), 2) for k in np.argsort(-values)[:count]}

    return Heard(best(probe.styles, shares), best(probe.instruments, sounding))


def picture(mels: Sequence[np.ndarray], width: int = 1024) -> Image.Image:
    """A grey picture with low notes at the bottom; dark is loud. The range is ``RANGE_DB`` below the loudest place."""
    level = 20 * np.log10(np.concatenate([mel.mean(0) for mel in mels], axis=1) + 1e-6)
    shade = np.clip((level.max() - level) / RANGE_DB, 0, 1) * 255
    image = Image.fromarray(np.ascontiguousarray(shade[::-1]).astype(np.uint8))
    return image.resize((width, 160), Image.Resampling.LANCZOS)


def markdown(rows: Sequence[tuple[str, Heard | None]], seconds: float) -> str:
    """The gallery as a table; pictures and rows have the same order."""
    lines = ["| | prompt | styles heard | instruments heard |", "|---|---|---|---|"]
    for number, (prompt, heard) in enumerate(rows, 1):
        cells = ("", "") if heard is None else (_listed(heard.styles), _listed(heard.instruments))
        lines.append(f"| {number} | {prompt} | {cells[0]} | {cells[1]} |")
    return "\n".join([*lines, "", f"{seconds:g} s each; the share is the probe's own certainty.", ""])


def _listed(shares: dict[str, float]) -> str:
    return ", ".join(f"{name} {share:.2f}" for name, share in shares.items())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``riffstream train gallery``."""
    parser.add_argument("--model", default="mini", help="mini or a checkpoint folder of the mini family")
    parser.add_argument("--prompt", action="append", default=None, help="replaces the ten prompts; may be repeated")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of each recording, at least 8 beats")
    parser.add_argument("--bpm", type=float, default=110.0, help="tempo, 40 to 240")
    parser.add_argument("--seed", type=int, default=0, help="seed of the noise")
    parser.add_argument("--probe", type=Path, default=None, help="probe.safetensors of 'riffstream train evaluate'")
    parser.add_argument("--out", type=Path, default=Path("runs/gallery"), help="folder for audio, picture and table")
    parser.add_argument("--quiet", action="store_true", help="no progress bars, no table")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """``riffstream train gallery``."""
    probe = None if args.probe is None else load_probe(args.probe)
    args.out.mkdir(parents=True, exist_ok=True)
    rows: list[tuple[str, Heard | None]] = []
    strips = []
    for number, prompt in enumerate(args.prompt or PROMPTS, 1):
        path = args.out / f"{number:02d}.flac"
        told = [
            "render",
            "--prompt",
            prompt,
            "--model",
            args.model,
            "--seed",
            str(args.seed),
            "-o",
            str(path),
            "--quiet",
        ]
        if main([*told, "--seconds", f"{args.seconds:g}", "--bpm", f"{args.bpm:g}"]):
            raise RiffstreamError(f"{path.name} could not be rendered")
        mels = windows(read_audio(path, sample_rate=48_000, channels=2).samples, args.bpm)
        strips.append(np.array(picture(mels)))
        rows.append((prompt, None if probe is None else hear(probe, mels)))
    Image.fromarray(np.concatenate(strips)).save(args.out / "gallery.jpg", quality=80)
    table = markdown(rows, args.seconds)
    (args.out / "gallery.md").write_text(table, encoding="utf-8")
    if args.json:
        print(json.dumps([{"prompt": prompt, **(asdict(heard) if heard else {})} for prompt, heard in rows]))
    elif not args.quiet:
        print(table)
    return 0
