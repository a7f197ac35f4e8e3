"""Sustained patches: pads, leads, basses, voices, organs.

Each takes (hertz, samples until release, velocity 0 to 1, random generator) and returns [2, n] float32, release
included.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import signal

from riffstream.corpus.oscillators import both, envelope, oscillator, spread, swept
from riffstream.corpus.production import RATE, low_pass, moving_filter

Patch = Callable[[float, int, float, np.random.Generator], np.ndarray]


def supersaw(hz: float, length: int, velocity: float, rng: np.random.Generator) -> np.ndarray:
    n = length + int(0.25 * RATE)
    wave = spread(hz, n, rng, voices=7, cents=22)
    return np.asarray(wave * envelope(n, 0.006, 0.4, 0.75, 0.25, length) * velocity)


def super_pluck(hz: float, length: int, velocity: float, rng: np.random.Generator) -> np.ndarray:
    n = min(length, int(0.35 * RATE)) + int(0.3 * RATE)
    wave = spread(hz, n, rng, voices=5, cents=16)
    return np.asarray(
        swept(wave, 9000 * velocity + 500, 350, 0.09, 0.2) * envelope(n, 0.002, 0.18, 0.05, 0.2, n) * velocity * 1.4
    )


def warm_pad(hz: float, length: int, velocity: float, rng: np.random.Generator) -> np.ndarray:
    n = length + int(1.6 * RATE)
    wave = spread(hz, n, rng, voices=4, cents=11) + 0.5 * both(oscillator("triangle", hz / 2, n))
    points = np.linspace(0, 2 * np.pi * rng.uniform(0.3, 1.0), 32)
    cutoff = (500 + 900 * velocity) * 2 ** (0.9 * np.sin(points + rng.random() * 6))
    return np.asarray(moving_filter(wave, cutoff, 0.1, slope=2) * envelope(n, 0.5, 1.0, 0.9, 1.6, length) * velocity)


def glass_pad(hz: float, length: int, velocity: float, rng: np.random.Generator) -> np.ndarray:
    n = length + int(2.2 * RATE)
    wave = spread(hz, n, rng, voices=3, cents=7, shape="glass") + 0.3 * spread(
        hz * 2, n, rng, voices=2, cents=9, shape="glass"
    )
    tremolo = 1 + 0.15 * np.sin(2 * np.pi * rng.uniform(0.2, 0.6) * np.arange(n) / RATE)
    return np.asarray(wave * tremolo.astype(np.float32) * envelope(n, 0.8, 1.0, 0.9, 2.2, length) * velocity)


def noise_pad(hz: float, length: int, velocity: float, rng: np.random.Generator) -> np.ndarray:
    n = length + int(2.0 * RATE)
    noise = rng.standard_normal((2, n)).astype(np.float32)
    out = np.zeros((2, n), np.float32)
    for harmonic in (1, 2, 3, 4):
        b, a = signal.iirpeak(hz * harmonic, 40 * harmonic, fs=RATE)
        out += signal.lfilter(b, a, noise).astype(np.float32) * 5 / harmonic
    return np.asarray(out * envelope(n, 1.2, 1.0, 0.9, 2.0, length) * velocity)


def choir(hz: float, length: int, velocity: float, rng: np.random.Generator) -> np.ndarray:
    n = length + int(0.9 * RATE)
    time = np.arange(n) / RATE
    out = np.zeros((2, n), np.float32)
    for voice in range(4):
        vibrato = 1 + 0.004 * np.sin(2 * np.pi * rng.uniform(4.6, 5.8) * time + rng.random() * 6) * np.minimum(
            time / 0.6, 1
        )
        wave = oscillator("saw", hz * 2 ** (rng.normal(0, 6) / 1200) * vibrato, n, rng.random())
        out[voice % 2] += wave
        out[1 - voice % 2] += 0.4 * wave
    formants = ((650, 80), (1080, 90), (2650, 120), (3300, 140)) if rng.random() < 2 else ()
    shaped = 0.08 * low_pass(out, 500, 1)
    for centre, width in formants:
        b, a = signal.iirpeak(centre, centre / width, fs=RATE)
        shaped = shaped + signal.lfilter(b, a, out).astype(np.float32) * (650 / centre) ** 0.7
    return np.asarray(shaped * envelope(n, 0.25, 1.0, 0.9, 0.9, length) * velocity * 0.9)


def string_machine(hz: float, length: int, velocity: float, rng: np.random.Generator) -> np.ndarray:
    n = length + int(0.8 * RATE)
    wave = low_pass(spread(hz, n, rng, voices=5, cents=14), 4200, 1)
    return np.asarray(wave * envelope(n, 0.18, 1.0, 0.9, 0.8, length) * velocity)


def acid(hz: float, length: int, velocity: float, rng: np.random.Generator) -> np.ndarray:
    n = length + int(0.05 * RATE)
    wave = oscillator("saw", hz, n)
    accent = 1.0 if velocity > 0.85 else 0.55
    wave = swept(wave, 600 + 3800 * accent * velocity, 180 + 320 * velocity, 0.08 + 0.08 * velocity, 0.85, 4)
    return both(np.tanh(1.8 * wave) * envelope(n, 0.003, 0.3, 0.5, 0.05, length)) * (0.5 + 0.5 * velocity)


def sub_bass(hz: float, length: int, velocity: float, rng: np.random.Generator) -> np.ndarray:
    n = length + int(0.08 * RATE)
    wave = np.tanh(1.3 * np.sin(2 * np.pi * hz * np.arange(n) / RATE)) + 0.12 * oscillator("triangle", 2 * hz, n)
    return both((wave * envelope(n, 0.008, 0.8, 0.8, 0.08, length) * velocity).astype(np.float32))


def bass_808(hz: float, length: int, velocity: float, rng: np.random.Generator) -> np.ndarray:
    n = length + int(0.15 * RATE)
    time = np.arange(n) / RATE
    sweep = hz * (1 + 2.5 * np.exp(-time / 0.018))
    wave = np.tanh(2.2 * np.sin(2 * np.pi * np.cumsum(sweep) / RATE))
    return both((wave * envelope(n, 0.002, 0.9, 0.25, 0.15, length) * velocity).astype(np.float32))


def saw_bass(hz: float, length: int, velocity: float, rng: np.random.Generator) -> np.ndarray:
    n = length + int(0.06 * RATE)
    wave = (
        oscillator("saw", hz, n) + 0.7 * oscillator("saw", hz * 1.006, n, 0.3) + 0.5 * oscillator("square", hz / 2, n)
    )
    return both(
        swept(wave, 1200 + 1800 * velocity, 250, 0.12, 0.25)
        * envelope(n, 0.003, 0.3, 0.7, 0.06, length)
        * velocity
        * 0.7
    )


def reese(hz: float, length: int, velocity: float, rng: np.random.Generator) -> np.ndarray:
    n = length + int(0.08 * RATE)
    wave = spread(hz, n, rng, voices=3, cents=28)
    wave = moving_filter(wave, 450 * 2 ** (0.8 * np.sin(np.linspace(0, 5, 32) + rng.random() * 6)), 0.2, slope=2)
    return np.asarray(
        (wave + 0.7 * np.sin(2 * np.pi * hz * np.arange(n) / RATE).astype(np.float32))
        * envelope(n, 0.01, 1, 0.95, 0.08, length)
        * velocity
    )


def wobble(hz: float, length: int, velocity: float, rng: np.random.Generator) -> np.ndarray:
    n = length + int(0.05 * RATE)
    wave = spread(hz, n, rng, voices=3, cents=18) + both(oscillator("square", hz / 2, n))
    turns = float(rng.choice([1, 2, 3, 4]))
    cutoff = 180 * 2 ** (2.2 * (1 - np.cos(2 * np.pi * turns * np.linspace(0, 1, 96))))
    return np.asarray(
        np.tanh(1.5 * moving_filter(wave, cutoff, 0.5)) * envelope(n, 0.005, 1, 0.95, 0.05, length) * velocity
    )


def square_lead(hz: float, length: int, velocity: float, rng: np.random.Generator) -> np.ndarray:
    n = length + int(0.12 * RATE)
    time = np.arange(n) / RATE
    bend = hz * (1 + 0.005 * np.sin(2 * np.pi * 5.2 * time) * np.clip((time - 0.15) / 0.2, 0, 1))
    wave = low_pass(oscillator("square", bend, n) + 0.4 * oscillator("saw", bend * 1.004, n), 5000, 2)
    return both(wave * envelope(n, 0.008, 0.4, 0.75, 0.12, length) * velocity * 0.7)


def saw_lead(hz: float, length: int, velocity: float, rng: np.random.Generator) -> np.ndarray:
    n = length + int(0.15 * RATE)
    time = np.arange(n) / RATE
    bend = hz * (1 + 0.004 * np.sin(2 * np.pi * 5.5 * time) * np.clip((time - 0.2) / 0.2, 0, 1))
    wave = oscillator("saw", bend, n) + 0.8 * oscillator("saw", bend * 1.006, n, 0.4)
    return both(swept(wave, 8000, 2800, 0.3, 0.15) * envelope(n, 0.01, 0.5, 0.8, 0.15, length) * velocity * 0.6)


def chip(duty: str) -> Patch:
    def patch(hz: float, length: int, velocity: float, rng: np.random.Generator) -> np.ndarray:
        n = length + 240
        wave = oscillator(duty, hz, n)
        steps = np.floor(envelope(n, 0.001, 0.35, 0.45, 0.005, length) * 15) / 15  # four-bit volume, as the chips had
        return both((np.round(wave * 8) / 8 * steps * velocity * 0.7).astype(np.float32))

    return patch


def synth_brass(hz: float, length: int, velocity: float, rng: np.random.Generator) -> np.ndarray:
    n = length + int(0.2 * RATE)
    wave = spread(hz, n, rng, voices=3, cents=10)
    points = np.linspace(0, n / RATE, 64)
    cutoff = 500 + 4500 * velocity * np.minimum(points / 0.08, 1) * np.exp(-points / 0.8)
    return np.asarray(moving_filter(wave, cutoff, 0.1, slope=2) * envelope(n, 0.03, 0.6, 0.8, 0.2, length) * velocity)


def organ(hz: float, length: int, velocity: float, rng: np.random.Generator) -> np.ndarray:
    n = length + int(0.08 * RATE)
    wave = oscillator("organ", hz, n, rng.random())
    click = np.zeros(n, np.float32)
    click[:200] = rng.standard_normal(200) * np.exp(-np.arange(200) / 40) * 0.15
    sway = 0.12 * np.sin(2 * np.pi * 6.4 * np.arange(n) / RATE + rng.random())
    wave = (wave + click) * envelope(n, 0.004, 1, 1, 0.08, length) * velocity * 0.6
    return np.stack([wave * (1 + sway), wave * (1 - sway)]).astype(np.float32)


def theremin(hz: float, length: int, velocity: float, rng: np.random.Generator) -> np.ndarray:
    n = length + int(0.2 * RATE)
    time = np.arange(n) / RATE
    bend = hz * (1 + 0.012 * np.sin(2 * np.pi * 5.6 * time) * np.minimum(time / 0.4, 1) - 0.03 * np.exp(-time / 0.06))
    wave = np.sin(2 * np.pi * np.cumsum(bend) / RATE) + 0.2 * np.sin(4 * np.pi * np.cumsum(bend) / RATE)
    return both((wave * envelope(n, 0.09, 1, 0.95, 0.2, length) * velocity).astype(np.float32))


def drone(hz: float, length: int, velocity: float, rng: np.random.Generator) -> np.ndarray:
    n = length + int(1.5 * RATE)
    wave = spread(hz, n, rng, voices=5, cents=9) + 0.6 * spread(hz * 1.5, n, rng, voices=3, cents=6)
    points = np.linspace(0, 1, 48)
    cutoff = 250 * 2 ** (1.4 * np.sin(2 * np.pi * (points * rng.uniform(0.5, 2) + rng.random())))
    return np.asarray(moving_filter(wave, cutoff, 0.45, slope=2) * envelope(n, 1.5, 1, 1, 1.5, length) * velocity)
