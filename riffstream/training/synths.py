"""Synthesisers: what General MIDI lacks. A patch turns notes into a stereo stem, vectorised over samples.

Every oscillator is band-limited by construction (wavetables built from harmonics below 16 kHz), and tables are shared
between notes, so a stem renders at well over a hundred times real time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from scipy import signal

from riffstream.training.music import Note, hertz
from riffstream.training.production import RATE, chorus, low_pass, moving_filter

__all__ = ["PATCHES", "Patch", "envelope", "render_patch"]

Patch = Callable[[float, int, float, np.random.Generator], np.ndarray]  # (hz, samples, velocity 0-1, chance) -> [2, n]
_TABLE_BITS = 12


def envelope(samples: int, attack: float, decay: float, sustain: float, release: float, length: int) -> np.ndarray:
    """Attack, decay, sustain, release in seconds; ``length`` is when the key is released, in samples."""
    # Drawn at one point in sixteen, then joined by lines: a millisecond of attack still has three points.
    points = np.append(np.arange(0, samples, 16), samples)
    time = points / RATE
    rise = np.minimum(time / max(attack, 1e-4), 1.0)
    fall = sustain + (1 - sustain) * np.exp(-np.maximum(time - attack, 0) / max(decay, 1e-4))
    after = np.maximum(points - length, 0) / RATE
    shape = rise * fall * np.exp(-after / max(release / 3, 1e-4))
    return np.interp(np.arange(samples), points, shape).astype(np.float32)


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
    """A band-limited wave, [samples]; ``hz`` may move (an array of that length).

    The phase is a 32-bit integer that wraps by itself; its top twelve bits index the table.
    """
    top = float(np.max(hz))
    table = _wavetable(shape, int(np.clip(16000 / max(top, 20), 1, 400)))
    if isinstance(hz, np.ndarray):
        turns = ((phase + np.cumsum(hz) / RATE) % 1.0 * 2.0**32).astype(np.uint64).astype(np.uint32)
    else:
        step = np.uint32(round(hz / RATE * 2**32))
        turns = np.arange(samples, dtype=np.uint32) * step + np.uint32(int(phase % 1.0 * 2**32))
    return table[turns >> np.uint32(32 - _TABLE_BITS)]


def _spread(hz: float, samples: int, rng: np.random.Generator, *, voices: int, cents: float, shape: str = "saw") -> np.ndarray:
    out = np.zeros((2, samples), np.float32)
    for offset in np.linspace(-1, 1, voices):
        voice = oscillator(shape, hz * 2 ** (cents * offset / 1200), samples, rng.random())
        pan = 0.5 + 0.45 * offset * (1 if rng.random() < 0.5 else -1)
        out[0] += voice * np.sqrt(1 - pan)
        out[1] += voice * np.sqrt(pan)
    return out / np.sqrt(voices)


def _both(wave: np.ndarray) -> np.ndarray:
    return np.stack([wave, wave])


def _swept(wave: np.ndarray, start: float, end: float, seconds: float, resonance: float = 0.0, slope: float = 3.0) -> np.ndarray:
    points = np.linspace(0, wave.shape[-1] / RATE, 64)
    return moving_filter(wave, end + (start - end) * np.exp(-points / seconds), resonance, slope=slope)


def supersaw(hz: float, length: int, velocity: float, rng: np.random.Generator) -> np.ndarray:
    n = length + int(0.25 * RATE)
    wave = _spread(hz, n, rng, voices=7, cents=22)
    return wave * envelope(n, 0.006, 0.4, 0.75, 0.25, length) * velocity


def super_pluck(hz: float, length: int, velocity: float, rng: np.random.Generator) -> np.ndarray:
    n = min(length, int(0.35 * RATE)) + int(0.3 * RATE)
    wave = _spread(hz, n, rng, voices=5, cents=16)
    return _swept(wave, 9000 * velocity + 500, 350, 0.09, 0.2) * envelope(n, 0.002, 0.18, 0.05, 0.2, n) * velocity * 1.4


def warm_pad(hz: float, length: int, velocity: float, rng: np.random.Generator) -> np.ndarray:
    n = length + int(1.6 * RATE)
    wave = _spread(hz, n, rng, voices=4, cents=11) + 0.5 * _both(oscillator("triangle", hz / 2, n))
    points = np.linspace(0, 2 * np.pi * rng.uniform(0.3, 1.0), 32)
    cutoff = (500 + 900 * velocity) * 2 ** (0.9 * np.sin(points + rng.random() * 6))
    return moving_filter(wave, cutoff, 0.1, slope=2) * envelope(n, 0.5, 1.0, 0.9, 1.6, length) * velocity


def glass_pad(hz: float, length: int, velocity: float, rng: np.random.Generator) -> np.ndarray:
    n = length + int(2.2 * RATE)
    wave = _spread(hz, n, rng, voices=3, cents=7, shape="glass") + 0.3 * _spread(hz * 2, n, rng, voices=2, cents=9, shape="glass")
    tremolo = 1 + 0.15 * np.sin(2 * np.pi * rng.uniform(0.2, 0.6) * np.arange(n) / RATE)
    return wave * tremolo.astype(np.float32) * envelope(n, 0.8, 1.0, 0.9, 2.2, length) * velocity


def noise_pad(hz: float, length: int, velocity: float, rng: np.random.Generator) -> np.ndarray:
    n = length + int(2.0 * RATE)
    noise = rng.standard_normal((2, n)).astype(np.float32)
    out = np.zeros((2, n), np.float32)
    for harmonic in (1, 2, 3, 4):
        b, a = signal.iirpeak(hz * harmonic, 40 * harmonic, fs=RATE)
        out += signal.lfilter(b, a, noise).astype(np.float32) * 5 / harmonic
    return out * envelope(n, 1.2, 1.0, 0.9, 2.0, length) * velocity


def choir(hz: float, length: int, velocity: float, rng: np.random.Generator) -> np.ndarray:
    n = length + int(0.9 * RATE)
    time = np.arange(n) / RATE
    out = np.zeros((2, n), np.float32)
    for voice in range(4):
        vibrato = 1 + 0.004 * np.sin(2 * np.pi * rng.uniform(4.6, 5.8) * time + rng.random() * 6) * np.minimum(time / 0.6, 1)
        wave = oscillator("saw", hz * 2 ** (rng.normal(0, 6) / 1200) * vibrato, n, rng.random())
        out[voice % 2] += wave
        out[1 - voice % 2] += 0.4 * wave
    formants = ((650, 80), (1080, 90), (2650, 120), (3300, 140)) if rng.random() < 2 else ()
    shaped = 0.08 * low_pass(out, 500, 1)
    for centre, width in formants:
        b, a = signal.iirpeak(centre, centre / width, fs=RATE)
        shaped = shaped + signal.lfilter(b, a, out).astype(np.float32) * (650 / centre) ** 0.7
    return shaped * envelope(n, 0.25, 1.0, 0.9, 0.9, length) * velocity * 0.9


def string_machine(hz: float, length: int, velocity: float, rng: np.random.Generator) -> np.ndarray:
    n = length + int(0.8 * RATE)
    wave = low_pass(_spread(hz, n, rng, voices=5, cents=14), 4200, 1)
    return wave * envelope(n, 0.18, 1.0, 0.9, 0.8, length) * velocity


def acid(hz: float, length: int, velocity: float, rng: np.random.Generator) -> np.ndarray:
    n = length + int(0.05 * RATE)
    wave = oscillator("saw", hz, n)
    accent = 1.0 if velocity > 0.85 else 0.55
    wave = _swept(wave, 600 + 3800 * accent * velocity, 180 + 320 * velocity, 0.08 + 0.08 * velocity, 0.85, 4)
    return _both(np.tanh(1.8 * wave) * envelope(n, 0.003, 0.3, 0.5, 0.05, length)) * (0.5 + 0.5 * velocity)


def sub_bass(hz: float, length: int, velocity: float, rng: np.random.Generator) -> np.ndarray:
    n = length + int(0.08 * RATE)
    wave = np.tanh(1.3 * np.sin(2 * np.pi * hz * np.arange(n) / RATE)) + 0.12 * oscillator("triangle", 2 * hz, n)
    return _both((wave * envelope(n, 0.008, 0.8, 0.8, 0.08, length) * velocity).astype(np.float32))


def bass_808(hz: float, length: int, velocity: float, rng: np.random.Generator) -> np.ndarray:
    n = length + int(0.15 * RATE)
    time = np.arange(n) / RATE
    sweep = hz * (1 + 2.5 * np.exp(-time / 0.018))
    wave = np.tanh(2.2 * np.sin(2 * np.pi * np.cumsum(sweep) / RATE))
    return _both((wave * envelope(n, 0.002, 0.9, 0.25, 0.15, length) * velocity).astype(np.float32))


def saw_bass(hz: float, length: int, velocity: float, rng: np.random.Generator) -> np.ndarray:
    n = length + int(0.06 * RATE)
    wave = oscillator("saw", hz, n) + 0.7 * oscillator("saw", hz * 1.006, n, 0.3) + 0.5 * oscillator("square", hz / 2, n)
    return _both(_swept(wave, 1200 + 1800 * velocity, 250, 0.12, 0.25) * envelope(n, 0.003, 0.3, 0.7, 0.06, length) * velocity * 0.7)


def reese(hz: float, length: int, velocity: float, rng: np.random.Generator) -> np.ndarray:
    n = length + int(0.08 * RATE)
    wave = _spread(hz, n, rng, voices=3, cents=28)
    wave = moving_filter(wave, 450 * 2 ** (0.8 * np.sin(np.linspace(0, 5, 32) + rng.random() * 6)), 0.2, slope=2)
    return (wave + 0.7 * np.sin(2 * np.pi * hz * np.arange(n) / RATE).astype(np.float32)) * envelope(
        n, 0.01, 1, 0.95, 0.08, length
    ) * velocity


def wobble(hz: float, length: int, velocity: float, rng: np.random.Generator) -> np.ndarray:
    n = length + int(0.05 * RATE)
    wave = _spread(hz, n, rng, voices=3, cents=18) + _both(oscillator("square", hz / 2, n))
    turns = float(rng.choice([1, 2, 3, 4]))
    cutoff = 180 * 2 ** (2.2 * (1 - np.cos(2 * np.pi * turns * np.linspace(0, 1, 96))))
    return np.tanh(1.5 * moving_filter(wave, cutoff, 0.5)) * envelope(n, 0.005, 1, 0.95, 0.05, length) * velocity


def square_lead(hz: float, length: int, velocity: float, rng: np.random.Generator) -> np.ndarray:
    n = length + int(0.12 * RATE)
    time = np.arange(n) / RATE
    bend = hz * (1 + 0.005 * np.sin(2 * np.pi * 5.2 * time) * np.clip((time - 0.15) / 0.2, 0, 1))
    wave = low_pass(oscillator("square", bend, n) + 0.4 * oscillator("saw", bend * 1.004, n), 5000, 2)
    return _both(wave * envelope(n, 0.008, 0.4, 0.75, 0.12, length) * velocity * 0.7)


def saw_lead(hz: float, length: int, velocity: float, rng: np.random.Generator) -> np.ndarray:
    n = length + int(0.15 * RATE)
    time = np.arange(n) / RATE
    bend = hz * (1 + 0.004 * np.sin(2 * np.pi * 5.5 * time) * np.clip((time - 0.2) / 0.2, 0, 1))
    wave = oscillator("saw", bend, n) + 0.8 * oscillator("saw", bend * 1.006, n, 0.4)
    return _both(_swept(wave, 8000, 2800, 0.3, 0.15) * envelope(n, 0.01, 0.5, 0.8, 0.15, length) * velocity * 0.6)


def chip(duty: str) -> Patch:
    def patch(hz: float, length: int, velocity: float, rng: np.random.Generator) -> np.ndarray:
        n = length + 240
        wave = oscillator(duty, hz, n)
        steps = np.floor(envelope(n, 0.001, 0.35, 0.45, 0.005, length) * 15) / 15  # four-bit volume, as the chips had
        return _both((np.round(wave * 8) / 8 * steps * velocity * 0.7).astype(np.float32))

    return patch


def synth_brass(hz: float, length: int, velocity: float, rng: np.random.Generator) -> np.ndarray:
    n = length + int(0.2 * RATE)
    wave = _spread(hz, n, rng, voices=3, cents=10)
    points = np.linspace(0, n / RATE, 64)
    cutoff = 500 + 4500 * velocity * np.minimum(points / 0.08, 1) * np.exp(-points / 0.8)
    return moving_filter(wave, cutoff, 0.1, slope=2) * envelope(n, 0.03, 0.6, 0.8, 0.2, length) * velocity


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


# A church bell's partials: hum, prime, tierce (a minor third), quint, nominal and above (Rossing, Science of Percussion).
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
    for ratio, amplitude, decay in ((1, 1, 0.9), (2.0, 0.25, 0.6), (5.4, 0.2, 0.15), (6.27, 0.3, 0.25), (9.1, 0.08, 0.08)):
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
    return _both((wave * np.minimum(time / 0.001, 1) * velocity).astype(np.float32))


def string_pluck(brightness: float, decay: float) -> Patch:
    """Karplus and Strong's string (Computer Music Journal 7(2), 1983), its loop run as one recursive filter."""

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
        return _both((wave * envelope(n, 0.001, 10, 1, 0.15, length) * velocity * 0.8).astype(np.float32))

    return patch


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
    return _both((wave * envelope(n, 0.09, 1, 0.95, 0.2, length) * velocity).astype(np.float32))


def drone(hz: float, length: int, velocity: float, rng: np.random.Generator) -> np.ndarray:
    n = length + int(1.5 * RATE)
    wave = _spread(hz, n, rng, voices=5, cents=9) + 0.6 * _spread(hz * 1.5, n, rng, voices=3, cents=6)
    points = np.linspace(0, 1, 48)
    cutoff = 250 * 2 ** (1.4 * np.sin(2 * np.pi * (points * rng.uniform(0.5, 2) + rng.random())))
    return moving_filter(wave, cutoff, 0.45, slope=2) * envelope(n, 1.5, 1, 1, 1.5, length) * velocity


PATCHES: dict[str, Patch] = {
    "supersaw": supersaw, "super_pluck": super_pluck, "warm_pad": warm_pad, "glass_pad": glass_pad, "noise_pad": noise_pad,
    "choir": choir, "string_machine": string_machine, "acid": acid, "sub_bass": sub_bass, "bass_808": bass_808,
    "saw_bass": saw_bass, "reese": reese, "wobble": wobble, "square_lead": square_lead, "saw_lead": saw_lead,
    "chip_25": chip("pulse25"), "chip_50": chip("square"), "chip_12": chip("pulse12"), "chip_triangle": chip("triangle"),
    "synth_brass": synth_brass, "electric_piano": electric_piano, "fm_bell": fm_bell, "church_bell": church_bell,
    "music_box": music_box, "marimba": marimba, "steel_string": string_pluck(0.9, 2.5), "nylon_string": string_pluck(0.35, 1.6),
    "harp_string": string_pluck(0.6, 3.0), "muted_string": string_pluck(0.5, 0.25), "organ": organ, "theremin": theremin,
    "drone": drone,
}  # fmt: skip

def render_patch(
    patch: str, notes: Sequence[Note], *, bpm: float, samples: int, rng: np.random.Generator, octave: int = 0
) -> np.ndarray:
    """Play notes on a patch.

    Args:
        patch: a name in ``PATCHES``.
        notes: what to play; sample 0 is beat 0.
        bpm: beats a minute.
        samples: length of the result.
        rng: source of chance (phases, noise).
        octave: shift.

    Returns:
        [2, samples] float32.
    """
    play = PATCHES[patch]
    per_beat = RATE * 60 / bpm
    out = np.zeros((2, samples), np.float32)
    cache: dict[tuple[int, int, int], np.ndarray] = {}
    for note in notes:
        start = round(note.start * per_beat)
        if start >= samples:
            continue
        length = max(240, round(note.length * per_beat))
        # Equal notes share one rendering: velocity in 8 steps, length in 10 ms.
        key = (note.pitch, length // 480, note.velocity // 16)
        sound = cache.get(key)
        if sound is None:
            sound = play(float(hertz(note.pitch + 12 * octave)), length, (key[2] * 16 + 8) / 127, rng)
            cache[key] = sound
        count = min(sound.shape[1], samples - start)
        out[:, start : start + count] += sound[:, :count]
    return chorus(out, mix=0.35) if patch in ("string_machine", "warm_pad") else out
