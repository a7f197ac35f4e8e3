"""Synthetic sound and measures that several tests share."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from riffstream.spectrogram.analysis import stft_magnitude


def tone(frequency: float, seconds: float = 1.0, rate: int = 48000) -> Tensor:
    return 0.3 * torch.sin(2 * math.pi * frequency * torch.arange(int(seconds * rate)) / rate)


def music(seconds: float = 1.5, rate: int = 48000, seed: int = 0) -> Tensor:
    """[2, N]: a chord with decaying partials and a hit of noise every quarter of a second, differently panned."""
    rng = np.random.default_rng(seed)
    n = int(seconds * rate)
    out = np.zeros((2, n))
    step = rate // 4
    for beat in range(n // step):
        start = beat * step + rate // 20
        t = np.arange(min(2 * step, n - start)) / rate
        if not t.size:
            continue
        pitch = 110 * 2 ** (rng.integers(0, 24) / 12)
        voice = sum(np.sin(2 * np.pi * pitch * k * t + k) * np.exp(-3 * k * t) / k for k in range(1, 12))
        hit = rng.standard_normal(t.size) * np.exp(-60 * t)
        out[0, start : start + t.size] += 0.1 * voice + 0.1 * hit
        out[1, start : start + t.size] += 0.2 * voice + 0.05 * hit
    return torch.from_numpy(out.astype(np.float32))


def clicks(rate: int = 48000) -> tuple[Tensor, list[int]]:
    """[N] drum hits out of silence, and where they start."""
    rng = np.random.default_rng(3)
    onsets = [rate // 4 + k * rate // 3 for k in range(4)]
    wave = np.zeros(onsets[-1] + rate // 2)
    t = np.arange(rate // 4) / rate
    for start in onsets:
        wave[start : start + t.size] += rng.standard_normal(t.size) * np.exp(-25 * t) * 0.4
    return torch.from_numpy(wave.astype(np.float32)), onsets


def convergence(wave: Tensor, source: Tensor, window: int = 2048) -> float:
    """Spectral convergence: relative error of the magnitudes, 0 to about 1."""
    n = min(wave.shape[-1], source.shape[-1])
    got, want = (
        stft_magnitude(x[..., :n], n_fft=window, window=window, hop=window // 8)[..., : window // 3, :]
        for x in (wave, source)
    )
    return float((got - want).norm() / want.norm())


def pitch(wave: Tensor, rate: int = 48000) -> float:
    """Frequency of the loudest partial in Hertz, interpolated."""
    middle = wave[wave.shape[-1] // 5 : -wave.shape[-1] // 5]
    spectrum = torch.fft.rfft(middle * torch.hann_window(middle.shape[-1]), n=16 * middle.shape[-1]).abs()
    return int(spectrum.argmax()) * rate / (16 * middle.shape[-1])
