"""A corpus of a few seconds' making, for the training tests: bars of tones whose pitch and place the captions name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from riffstream.corpus.mels import quantise
from riffstream.diffusion.mini.codec import Codec, CodecConfig
from riffstream.diffusion.mini.denoiser import Denoiser, DenoiserConfig
from riffstream.diffusion.mini.text import MiniTextEncoder
from riffstream.training.latents import LatentSet

MELS = 256


def write_corpus(folder: Path, songs: int = 6, windows: int = 3) -> Path:
    """Songs of tones; every third one is in 3/4, the last one is held out."""
    rng = np.random.default_rng(0)
    for index in range(songs):
        beats = 6 if index % 3 == 2 else 8
        style = ("low", "high")[index % 2]
        mel = np.full((windows, 2, MELS, 64 * beats), 0.02, np.float32)
        row = 20 if style == "low" else 120
        mel[:, :, row : row + 6] += 40.0
        mel[:, :, :, ::32] += 5.0
        mel *= rng.uniform(0.8, 1.25, mel.shape).astype(np.float32)
        base = folder / "songs" / style / f"{index:05d}"
        base.parent.mkdir(parents=True, exist_ok=True)
        np.save(base.with_suffix(".npy"), quantise(mel))
        record = {
            "song": f"{style}/{index}", "style": style, "bpm": 100.0, "beats": beats, "minor": False, "look": "plain",
            "split": "held_out" if index == songs - 1 else "train",
            "clips": [
                {"instruments": ["organ"], "section": "full", "captions": [f"{style} tone", f"{style} organ {k}"]}
                for k in range(windows)
            ],
        }  # fmt: skip
        base.with_suffix(".json").write_text(json.dumps(record))
    return folder


def small_latents(folder: Path) -> LatentSet:
    """Such a corpus as latents of an untrained codec."""
    torch.manual_seed(0)
    codec = Codec(CodecConfig(channels=4, width=8, fine_width=8)).requires_grad_(False)
    torch.nn.init.orthogonal_(codec.basis)
    latents = LatentSet(write_corpus(folder), codec, MiniTextEncoder.random())
    assert latents.refresh() == 6
    return latents


def small_denoiser() -> Denoiser:
    """An untrained denoiser for them."""
    torch.manual_seed(1)
    return Denoiser(DenoiserConfig(channels=4, width=16, layers=2, heads=2, mlp=32, text_width=16))


def compile_eagerly(monkeypatch: pytest.MonkeyPatch) -> list[torch.nn.Module]:
    """Modules that are compiled from now on are traced into graphs, without the C++ compiler's minute; lists them."""
    compiled: list[torch.nn.Module] = []
    with_backend = torch.nn.Module.compile

    def traced(module: torch.nn.Module, **options: Any) -> None:
        compiled.append(module)
        with_backend(module, backend="eager", **options)

    monkeypatch.setattr(torch.nn.Module, "compile", traced)
    return compiled
