"""Synthetic drum kits and drum patterns.

A pattern is one bar of sixteen steps (twelve in 3/4) for each voice: ``x`` a hit, ``X`` an accent, ``o`` soft, ``r`` a
roll of two, ``?`` an optional hit.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache

import numpy as np

from riffstream.corpus.music import Note, Track
from riffstream.corpus.production import RATE, high_pass, low_pass
from riffstream.corpus.styles import read_table

__all__ = ["GM_DRUMS", "KITS", "PATTERNS", "drum_hits", "drum_track", "render_drums"]

Pattern = Mapping[str, tuple[str, ...]]  # voice -> alternating bars

GM_DRUMS = {
    "kick": 36,
    "snare": 38,
    "rim": 37,
    "clap": 39,
    "hat": 42,
    "open": 46,
    "ride": 51,
    "crash": 49,
    "tom": 45,
    "low_tom": 41,
    "shaker": 70,
    "tambourine": 54,
    "cowbell": 56,
    "conga": 63,
    "bongo": 60,
    "clave": 75,
    "brush": 38,
    "triangle": 81,
    "timpani": 41,
    "pedal": 44,
}


def _noise(seconds: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((2, int(seconds * RATE))).astype(np.float32)


def _time(seconds: float) -> np.ndarray:
    return np.arange(int(seconds * RATE)) / RATE


def _kick(low: float, sweep: float, fall: float, decay: float, drive: float, click: float) -> np.ndarray:
    t = _time(decay * 4)
    phase = 2 * np.pi * (low * t + sweep * fall * (1 - np.exp(-t / fall)))
    wave = np.tanh(drive * np.sin(phase) * np.exp(-t / decay)) / np.tanh(drive)
    wave[: int(0.004 * RATE)] += click * np.random.default_rng(1).standard_normal(int(0.004 * RATE))
    wave *= np.minimum(1, (t[-1] - t) / 0.01)
    return np.stack([wave, wave]).astype(np.float32)


def _snare(tone: float, body: float, noise_decay: float, bright: float, seed: int) -> np.ndarray:
    t = _time(noise_decay * 4)
    drum = np.sin(2 * np.pi * (tone * t + 40 * 0.02 * (1 - np.exp(-t / 0.02)))) * np.exp(-t / 0.07) * body
    rattle = low_pass(high_pass(_noise(noise_decay * 4, seed), 900, 1), bright, 1) * np.exp(-t / noise_decay) * 0.6
    return (drum + rattle).astype(np.float32)


def _clap(decay: float, seed: int) -> np.ndarray:
    t = _time(0.4)
    shape = sum(np.exp(-np.maximum(t - d, 0) / 0.006) * (t >= d) for d in (0, 0.011, 0.022))
    shape = shape * 0.5 + np.exp(-np.maximum(t - 0.03, 0) / decay) * (t >= 0.03)
    return (high_pass(low_pass(_noise(0.4, seed), 4500, 1), 800, 2) * shape * 0.9).astype(np.float32)


def _hat(decay: float, low: float, seed: int, metal: float = 0.5) -> np.ndarray:
    t = _time(decay * 5)
    tone = sum(np.sign(np.sin(2 * np.pi * f * t + i)) for i, f in enumerate((205.3, 304.4, 369.6, 522.7, 540.0, 800.0)))
    wave = metal * 0.3 * np.stack([tone, tone]) + (1 - metal) * _noise(decay * 5, seed)
    return (high_pass(wave.astype(np.float32), low, 3) * np.exp(-t / decay) * 0.7).astype(np.float32)


def _tom(hz: float, decay: float) -> np.ndarray:
    t = _time(decay * 4)
    wave = np.sin(2 * np.pi * (hz * t + hz * 0.5 * 0.05 * (1 - np.exp(-t / 0.05)))) * np.exp(-t / decay)
    return np.stack([wave, wave]).astype(np.float32)


def _click(hz: float, decay: float) -> np.ndarray:
    t = _time(decay * 6)
    wave = (np.sin(2 * np.pi * hz * t) + 0.5 * np.sin(2 * np.pi * hz * 1.48 * t)) * np.exp(-t / decay)
    return np.stack([wave, wave]).astype(np.float32) * 0.6


@lru_cache(maxsize=8)
def _kit(name: str) -> dict[str, np.ndarray]:
    common = {
        "cowbell": _click(560, 0.09),
        "clave": _click(2500, 0.02),
        "conga": _tom(210, 0.12),
        "bongo": _tom(330, 0.08),
        "shaker": _hat(0.03, 5500, 31, 0.0) * 0.6,
        "tambourine": _hat(0.06, 7500, 32, 0.3),
        "rim": _click(1750, 0.012),
        "crash": _hat(0.7, 3500, 33, 0.4),
        "ride": _hat(0.25, 5500, 34, 0.8) * 0.6,
    }
    kits: dict[str, dict[str, np.ndarray]] = {
        "909": {
            "kick": _kick(48, 210, 0.03, 0.16, 2.5, 0.5),
            "snare": _snare(190, 0.8, 0.11, 9000, 2),
            "clap": _clap(0.09, 3),
            "hat": _hat(0.03, 7000, 4),
            "open": _hat(0.16, 6500, 5),
            "tom": _tom(140, 0.16),
            "low_tom": _tom(95, 0.2),
        },
        "808": {
            "kick": _kick(45, 90, 0.03, 0.38, 1.4, 0.2),
            "snare": _snare(180, 1.0, 0.07, 7000, 6),
            "clap": _clap(0.12, 7),
            "hat": _hat(0.018, 8000, 8, 0.9),
            "open": _hat(0.2, 7500, 9, 0.9),
            "tom": _tom(120, 0.25),
            "low_tom": _tom(80, 0.3),
        },
        "hard": {
            "kick": _kick(50, 380, 0.025, 0.2, 8.0, 0.9),
            "snare": _snare(210, 1.0, 0.13, 11000, 10),
            "clap": _clap(0.15, 11),
            "hat": _hat(0.03, 8000, 12, 0.3),
            "open": _hat(0.15, 7000, 13, 0.3),
            "tom": _tom(130, 0.2),
            "low_tom": _tom(90, 0.2),
        },
        "dusty": {
            "kick": low_pass(_kick(58, 120, 0.02, 0.11, 1.8, 0.3), 2500, 1),
            "snare": _snare(220, 0.9, 0.09, 4500, 14),
            "clap": low_pass(_clap(0.07, 15), 4000, 1),
            "hat": low_pass(_hat(0.03, 5000, 16, 0.2), 9000, 1),
            "open": low_pass(_hat(0.12, 4500, 17, 0.2), 9000, 1),
            "tom": _tom(150, 0.14),
            "low_tom": _tom(100, 0.18),
        },
        "break": {
            "kick": _kick(62, 150, 0.018, 0.09, 2.2, 0.6),
            "snare": _snare(240, 1.0, 0.1, 10000, 18),
            "clap": _clap(0.06, 19),
            "hat": _hat(0.035, 6000, 20, 0.2),
            "open": _hat(0.14, 5000, 21, 0.2),
            "tom": _tom(170, 0.12),
            "low_tom": _tom(110, 0.15),
        },
        "chip": {
            "kick": _kick(60, 300, 0.02, 0.08, 6, 0.0),
            "snare": high_pass(_noise(0.12, 22), 600, 1) * 0.5 * np.exp(-_time(0.12) / 0.04).astype(np.float32),
            "clap": _clap(0.04, 23),
            "hat": _hat(0.012, 5000, 24, 0.0),
            "open": _hat(0.05, 4500, 25, 0.0),
            "tom": _tom(160, 0.1),
            "low_tom": _tom(110, 0.1),
        },
    }
    kit = {**common, **kits[name]}
    return {voice: wave / np.abs(wave).max() * _LEVELS.get(voice, 0.4) for voice, wave in kit.items()}


_LEVELS = {
    "kick": 1.0,
    "snare": 0.75,
    "clap": 0.6,
    "hat": 0.28,
    "open": 0.3,
    "ride": 0.25,
    "crash": 0.4,
    "tom": 0.7,
    "low_tom": 0.7,
    "shaker": 0.2,
    "rim": 0.4,
    "tambourine": 0.25,
}
_PANS = {
    "hat": 0.25,
    "open": 0.2,
    "ride": -0.3,
    "crash": 0.4,
    "tom": -0.3,
    "low_tom": 0.35,
    "shaker": -0.5,
    "conga": 0.4,
    "bongo": -0.4,
    "tambourine": 0.45,
    "cowbell": -0.3,
    "clave": 0.5,
}
KITS = ("909", "808", "hard", "dusty", "break", "chip")

PATTERNS: dict[str, Pattern] = {
    name: {voice: tuple(rows) for voice, rows in voices.items()} for name, voices in read_table("drums.toml").items()
}


def drum_hits(
    pattern: str,
    bars: int,
    rng: np.random.Generator,
    *,
    beats: int = 4,
    fills: bool = True,
    borders: Collection[int] = (),
    human: float = 0.06,
    active: list[bool] | None = None,
) -> list[tuple[float, str, int]]:
    """(beat, voice, velocity) for a number of bars.

    Args:
        pattern: a name in ``PATTERNS``.
        bars: number of bars.
        beats: beats in a bar, 3 or 4.
        fills: whether most eighth bars, and most bars before ``borders``, end with a fill.
        borders: first bars of sections.
        human: spread of the velocities.
        active: for each bar, whether the drums play.
    """
    voices = PATTERNS[pattern]
    dropped = {voice for voice in voices if voice not in ("kick", "snare", "clap") and rng.random() < 0.12}
    out = []
    steps = 4 * beats
    for bar in range(bars):
        if active is not None and not active[bar]:
            continue
        fill = fills and (bar % 8 == 7 or bar + 1 in borders) and rng.random() < 0.7
        for voice, rows in voices.items():
            if voice in dropped:
                continue
            row = (rows[bar % len(rows)] * 2)[:steps]
            for step, mark in enumerate(row):
                if mark == "." or (mark == "?" and rng.random() < 0.5):
                    continue
                if fill and step >= steps - 4 and voice in ("snare", "clap", "tom"):
                    continue
                velocity = {"X": 118, "x": 96, "o": 58, "r": 88, "?": 78}[mark] * (1 + human * rng.standard_normal())
                beat = bar * beats + step / 4
                out.append((beat, voice, int(np.clip(velocity, 20, 127))))
                if mark == "r":
                    out.append((beat + 0.125, voice, int(np.clip(velocity * 0.8, 20, 127))))
        if fill:
            drum = "snare" if "snare" in voices else "tom" if "tom" in voices else "clap"
            for step in range(4):
                if rng.random() < 0.8:
                    voice = drum if step < 2 or drum != "snare" else str(rng.choice(["tom", "low_tom", "snare"]))
                    out.append(((bar + 1) * beats - 1 + step / 4, voice, 85 + 10 * step))
    return out


def drum_track(hits: list[tuple[float, str, int]], *, name: str = "drums", kit: int = 0, volume: int = 100) -> Track:
    """The hits as a General MIDI drum track."""
    notes = [Note(beat, 0.2, GM_DRUMS[voice], velocity) for beat, voice, velocity in sorted(hits)]
    return Track(name, kit, True, notes, volume)


def render_drums(
    kit: str, hits: list[tuple[float, str, int]], *, bpm: float, samples: int, tune: float = 1.0
) -> np.ndarray:
    """The hits on a synthetic kit of ``KITS``, [2, samples]; ``tune`` scales every pitch (0.9 to 1.1)."""
    sounds = _kit(kit)
    out = np.zeros((2, samples), np.float32)
    per_beat = RATE * 60 / bpm
    tuned: dict[str, np.ndarray] = {}
    for beat, voice, velocity in hits:
        if voice not in sounds:
            voice = {"pedal": "hat", "brush": "shaker", "timpani": "low_tom", "triangle": "open"}.get(voice, "hat")
        if voice not in tuned:
            wave = sounds[voice]
            places = np.arange(0, wave.shape[1] - 1, tune)
            pan = _PANS.get(voice, 0.0)
            tuned[voice] = np.stack(
                [np.interp(places, np.arange(wave.shape[1]), wave[c]) * (1 + (pan if c else -pan)) for c in range(2)]
            ).astype(np.float32)
        wave = tuned[voice]
        start = round(beat * per_beat)
        count = min(wave.shape[1], samples - start)
        if count > 0:
            out[:, start : start + count] += wave[:, :count] * (velocity / 127) ** 1.5
    return out
