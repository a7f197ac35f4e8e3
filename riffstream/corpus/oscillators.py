"""Oscillators and envelopes of the synthesisers: band-limited by construction, vectorised over samples."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from riffstream.corpus.production import RATE, moving_filter

__all__ = ["both", "envelope", "oscillator", "spread", "swept"]

_TABLE_BITS = 12


def envelope(samples: int, attack: float, decay: float, sustain: float, release: float, length: int) -> np.ndarray:
    """Attack, decay, sustain, release in seconds; ``length`` is the time of the key release, in samples."""
    # One point per 16 samples, with linear interpolation: an attack of 1 ms still has three points.
    points = np.append(np.arange(0, samples, 16), samples)
    time = points / RATE
    rise = np.minimum(time / max(attack, 1e-4), 1.0)
    fall = sustain + (1 - sustain) * np.exp(-np.maximum(time - attack, 0) / max(decay, 1e-4))
    after = np.maximum(points - length, 0) / RATE
    shape = rise * fall * np.exp(-after / max(release / 3, 1e-4))
    return np.asarray(np.interp(np.arange(samples), points, shape).astype(np.float32))


@lru_cache(maxsize=512)
def _wavetable(shape: str, harmonics: int) -> np.ndarray:
    n = np.arange(1, harmonics + 1)
    if shape == "saw":
        amplitudes = 1.0 / n
    elif shape == "square":
        amplitudes = (n % 2) / n
    elif shape == "triangle":
        amplitudes = (n % 2) * np.where(n % 4 == 1, 1, -1) / n**2
    elif shape.startswith("pulse"):
        duty = float(shape[5:]) / 100
        amplitudes = np.sin(np.pi * n * duty) / n * 1.3
    elif shape == "organ":
        amplitudes = np.zeros(harmonics)
        for harmonic, value in ((1, 0.8), (2, 1.0), (3, 0.8), (4, 0.6), (6, 0.3), (8, 0.4)):
            if harmonic <= harmonics:
                amplitudes[harmonic - 1] = value * 0.5
    elif shape == "glass":
        amplitudes = np.exp(-0.45 * (n - 1)) * (1 + 0.6 * np.cos(n * 1.9))
    else:
        amplitudes = np.exp(-0.9 * (n - 1))
    spectrum = np.zeros(2 ** (_TABLE_BITS - 1) + 1, complex)
    spectrum[1 : harmonics + 1] = -0.5j * amplitudes * 2**_TABLE_BITS
    return (np.fft.irfft(spectrum) * 0.6).astype(np.float32)


def oscillator(shape: str, hz: float | np.ndarray, samples: int, phase: float = 0.0) -> np.ndarray:
    """A band-limited wave, [samples]; ``hz`` is a constant, or an array [samples].

    The phase is a 32-bit integer with natural wrap-around; its top twelve bits index the table.
    """
    top = float(np.max(hz))
    table = _wavetable(shape, int(np.clip(16000 / max(top, 20), 1, 400)))
    if isinstance(hz, np.ndarray):
        turns = ((phase + np.cumsum(hz) / RATE) % 1.0 * 2.0**32).astype(np.uint64).astype(np.uint32)
    else:
        step = np.uint32(round(hz / RATE * 2**32))
        turns = np.arange(samples, dtype=np.uint32) * step + np.uint32(int(phase % 1.0 * 2**32))
    return np.asarray(table[turns >> np.uint32(32 - _TABLE_BITS)])


def spread(
    hz: float, samples: int, rng: np.random.Generator, *, voices: int, cents: float, shape: str = "saw"
) -> np.ndarray:
    out = np.zeros((2, samples), np.float32)
    for offset in np.linspace(-1, 1, voices):
        voice = oscillator(shape, hz * 2 ** (cents * offset / 1200), samples, rng.random())
        pan = 0.5 + 0.45 * offset * (1 if rng.random() < 0.5 else -1)
        out[0] += voice * np.sqrt(1 - pan)
        out[1] += voice * np.sqrt(pan)
    return np.asarray(out / np.sqrt(voices))


def both(wave: np.ndarray) -> np.ndarray:
    return np.stack([wave, wave])


def swept(
    wave: np.ndarray, start: float, end: float, seconds: float, resonance: float = 0.0, slope: float = 3.0
) -> np.ndarray:
    points = np.linspace(0, wave.shape[-1] / RATE, 64)
    return moving_filter(wave, end + (start - end) * np.exp(-points / seconds), resonance, slope=slope)
