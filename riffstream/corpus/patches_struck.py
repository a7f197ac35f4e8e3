"""Struck and plucked patches: bells, bars, strings, electric pianos.

Each takes (hertz, samples until release, velocity 0 to 1, random generator) and returns [2, n] float32.
"""

from __future__ import annotations

import numpy as np
from scipy import signal

from riffstream.corpus.oscillators import both, envelope
from riffstream.corpus.patches_held import Patch
from riffstream.corpus.production import RATE, low_pass


def electric_piano(hz: float, length: int, velocity: float, rng: np.random.Generator) -> np.ndarray:
    n = length + int(0.35 * RATE)
    time = np.arange(n) / RATE
    index = 1.6 * velocity * np.exp(-time / 0.5)
    tine = 0.25 * np.exp(-time / 0.06) * np.sin(2 * np.pi * hz * 14 * time) * velocity * (hz < 1000)
    wave = np.sin(2 * np.pi * hz * time + index * np.sin(2 * np.pi * hz * time)) + tine
    wave *= envelope(n, 0.002, 1.3, 0.05, 0.35, length) * velocity
    sway = 0.3 * np.sin(2 * np.pi * 4.5 * time)
    return np.stack([wave * (1 + sway), wave * (1 - sway)]).astype(np.float32) * 0.8


def fm_bell(hz: float, length: int, velocity: float, rng: np.random.Generator) -> np.ndarray:
    n = int(1.8 * RATE)
    time = np.arange(n) / RATE
    wave = np.sin(2 * np.pi * hz * time + 2.2 * velocity * np.exp(-time / 0.35) * np.sin(2 * np.pi * hz * 3.5 * time))
    wave *= np.exp(-time / 0.55) * np.minimum(time / 0.002, 1) * velocity
    return np.stack([wave, np.roll(wave, 200)]).astype(np.float32)


# A church bell's partials: hum, prime, tierce (a minor third), quint, nominal and above (Rossing, Science of
# Percussion Instruments): ratio to the prime, amplitude, decay in seconds.
_BELL = ((0.5, 0.5, 6.0), (1.0, 0.9, 3.5), (1.2, 0.7, 2.6), (1.5, 0.4, 1.8), (2.0, 1.0, 2.0), (2.51, 0.45, 1.1),
         (2.66, 0.3, 1.0), (3.01, 0.4, 0.8), (4.17, 0.25, 0.5), (5.43, 0.15, 0.35), (6.8, 0.1, 0.25))  # fmt: skip


def church_bell(hz: float, length: int, velocity: float, rng: np.random.Generator) -> np.ndarray:
    n = int(5.0 * RATE)
    time = np.arange(n, dtype=np.float32) / RATE
    out = np.zeros((2, n), np.float32)
    for ratio, amplitude, decay in _BELL:
        for channel in range(2):
            beat = hz * ratio * (1 + (channel - 0.5) * 0.0012)
            out[channel] += amplitude * np.exp(-time / decay) * np.sin(2 * np.pi * beat * time + rng.random() * 6)
    strike = rng.standard_normal(int(0.03 * RATE)).astype(np.float32) * np.exp(-np.arange(int(0.03 * RATE)) / 250)
    out[:, : len(strike)] += 0.5 * strike
    return out * velocity * 0.45


def music_box(hz: float, length: int, velocity: float, rng: np.random.Generator) -> np.ndarray:
    n = int(1.6 * RATE)
    time = np.arange(n) / RATE
    wave = np.zeros(n)
    for ratio, amplitude, decay in (
        (1, 1, 0.9),
        (2.0, 0.25, 0.6),
        (5.4, 0.2, 0.15),
        (6.27, 0.3, 0.25),
        (9.1, 0.08, 0.08),
    ):
        if hz * ratio < 18000:
            wave += amplitude * np.exp(-time / decay) * np.sin(2 * np.pi * hz * ratio * time)
    wave *= velocity
    return np.stack([wave, wave * 0.8]).astype(np.float32)


def marimba(hz: float, length: int, velocity: float, rng: np.random.Generator) -> np.ndarray:
    n = int(0.9 * RATE)
    time = np.arange(n) / RATE
    wave = np.zeros(n)
    for ratio, amplitude, decay in ((1, 1, 0.28), (3.93, 0.35 * velocity, 0.07), (9.5, 0.15 * velocity, 0.03)):
        wave += amplitude * np.exp(-time / (decay * (300 / hz) ** 0.3)) * np.sin(2 * np.pi * hz * ratio * time)
    return both((wave * np.minimum(time / 0.001, 1) * velocity).astype(np.float32))


def string_pluck(brightness: float, decay: float) -> Patch:
    """Karplus and Strong's string (Computer Music Journal 7(2), 1983), with the loop as one recursive filter."""

    def patch(hz: float, length: int, velocity: float, rng: np.random.Generator) -> np.ndarray:
        n = min(length + int(0.25 * RATE), int(3.0 * RATE))
        period = RATE / hz - 0.5
        whole = int(period)
        fraction = period - whole
        burst = np.zeros(n, np.float32)
        burst[: whole + 1] = rng.uniform(-1, 1, whole + 1)
        pick = max(1, int(whole * 0.18))
        burst[pick:] -= 0.8 * burst[:-pick].copy()
        burst = low_pass(burst, 1500 + 9000 * brightness * velocity, 1)
        loss = 0.5 * 10 ** (-3 / (decay * hz))
        a = np.zeros(whole + 3)
        a[0] = 1.0
        a[whole] -= loss * (1 - fraction)
        a[whole + 1] -= loss
        a[whole + 2] -= loss * fraction
        wave = signal.lfilter([1.0], a, burst)
        return both((wave * envelope(n, 0.001, 10, 1, 0.15, length) * velocity * 0.8).astype(np.float32))

    return patch
