"""Mixing of stems: balance, room, production."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from riffstream.corpus import production as fx
from riffstream.corpus.production import RATE

__all__ = ["LOOKS", "Look", "Stem", "balance", "loudness_by_window", "master"]

# Level of each role in the mix, dB RMS of its active passages.
ROLE_DB = {"drums": -15.0, "bass": -18.0, "chords": -20.5, "pad": -23.0, "arp": -22.0, "lead": -18.5, "extra": -23.0}
_ALONE_DB = {"pad": -18.0, "arp": -19.0}  # if no other role carries the piece


@dataclass(slots=True)
class Stem:
    """Audio of one instrument: its name in captions, its role, [2, N] float32."""

    words: str
    role: str
    wave: np.ndarray


@dataclass(frozen=True, slots=True)
class Look:
    """A production style of the whole mix, and words for it."""

    words: tuple[str, ...]
    apply: Callable[[np.ndarray, float, int], np.ndarray]  # (wave, beat in seconds, seed) -> wave


def _filtered(wave: np.ndarray, beat: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    turns = wave.shape[1] / RATE / beat / float(rng.choice([16, 32]))
    points = np.linspace(0, 2 * np.pi * turns, 256)
    return fx.moving_filter(wave, 500 * 2 ** (1.6 * (1 - np.cos(points))), 0.25, slope=2)


def _dub(wave: np.ndarray, beat: float, seed: int) -> np.ndarray:
    return fx.reverb(fx.delay(wave, 0.75 * beat, feedback=0.6, mix=0.4, damp_hz=2500), 2.5, 0.2, seed=seed)


LOOKS: dict[str, Look] = {
    "plain": Look((), lambda w, beat, seed: w),
    "room": Look(
        ("in a small room", "intimate and close", "dry room sound"),
        lambda w, beat, seed: fx.reverb(w, 0.5, 0.3, seed=seed),
    ),
    "hall": Look(
        ("in a concert hall", "with hall reverb", "spacious reverb"),
        lambda w, beat, seed: fx.reverb(w, 2.4, 0.45, seed=seed),
    ),
    "church": Look(
        ("in a cathedral", "with long church reverb", "huge echoing space"),
        lambda w, beat, seed: fx.reverb(w, 5.0, 0.7, seed=seed),
    ),
    "warm": Look(
        ("warm sound", "warm and soft", "mellow tone"),
        lambda w, beat, seed: fx.equalise(fx.low_pass(w, 6500, 1), 250, 2.5),
    ),
    "bright": Look(
        ("bright and crisp", "crisp modern sound", "sparkling highs"),
        lambda w, beat, seed: fx.equalise(w, 8500, 5, 0.6),
    ),
    "filtered": Look(
        ("filter sweep", "sweeping low-pass filter", "muffled, the filter opening and closing"), _filtered
    ),
    "vinyl": Look(("vinyl crackle", "dusty record crackle", "old vinyl"), lambda w, beat, seed: fx.vinyl(w, seed=seed)),
    "tape": Look(
        ("tape hiss", "worn cassette", "wobbly tape", "warm tape saturation"),
        lambda w, beat, seed: fx.tape(w, seed=seed),
    ),
    "dusty": Look(
        ("lo-fi and dusty", "muffled lo-fi sound", "lo-fi"),
        lambda w, beat, seed: fx.vinyl(fx.tape(fx.low_pass(w, 3800, 2), seed=seed), amount=0.6, seed=seed),
    ),
    "chorus": Look(("chorus effect", "lush chorus", "shimmering chorus"), lambda w, beat, seed: fx.chorus(w, mix=0.6)),
    "phaser": Look(("phaser", "swirling phaser", "psychedelic phasing"), lambda w, beat, seed: fx.phaser(w)),
    "wide": Look(
        ("wide stereo", "wide and enveloping"), lambda w, beat, seed: fx.reverb(fx.widen(w, 1.7), 2.0, 0.2, seed=seed)
    ),
    "dub": Look(("dub echo", "drenched in echo", "echo and delay"), _dub),
    "compressed": Look(
        ("punchy compression", "loud and compressed", "punchy"),
        lambda w, beat, seed: fx.compress(w, 20 * np.log10(np.sqrt((w**2).mean()) + 1e-9) - 4, 4),
    ),
    "radio": Look(
        ("old radio", "through a telephone", "thin vintage radio sound"),
        lambda w, beat, seed: 1.6 * np.tanh(fx.low_pass(fx.high_pass(w, 350, 2), 3200, 2) * 2) / 2,
    ),
}


def _active_rms(wave: np.ndarray) -> float:
    block = RATE // 10
    count = max(1, wave.shape[1] // block)
    power = (
        (wave[:, : count * block].reshape(2, count, -1) ** 2).mean((0, 2))
        if wave.shape[1] >= block
        else (wave**2).mean()
    )
    power = np.atleast_1d(power)
    loud = power[power > power.max() * 0.01]
    return float(np.sqrt(loud.mean())) if len(loud) and power.max() > 0 else 0.0


def balance(stems: Sequence[Stem], rng: np.random.Generator, gains_db: Sequence[float]) -> None:
    """Set every stem to the level of its role, with a small random offset per song. Changes the stems in place."""
    roles = {stem.role for stem in stems}
    for stem, gain in zip(stems, gains_db, strict=True):
        level = ROLE_DB.get(stem.role, -21.0)
        if not roles & {"drums", "chords", "lead"}:
            level = _ALONE_DB.get(stem.role, level)
        rms = _active_rms(stem.wave)
        if rms > 1e-7:
            stem.wave *= np.float32(10 ** ((level + 0.5 * gain + rng.normal(0, 1.2)) / 20) / rms)


def loudness_by_window(stems: Sequence[Stem], window: float, count: int) -> np.ndarray:
    """Level of each stem in each window, dB, [stems, windows]; -120 where silent.

    Args:
        stems: balanced stems.
        window: length of a window in samples.
        count: number of windows.
    """
    out = np.full((len(stems), count), -120.0)
    for i, stem in enumerate(stems):
        for k in range(count):
            part = stem.wave[:, round(k * window) : round((k + 1) * window)]
            if part.size:
                out[i, k] = 10 * np.log10(float((part**2).mean()) + 1e-12)
    return out


def master(
    stems: Sequence[Stem],
    look: str,
    *,
    bpm: float,
    seed: int,
    room: tuple[float, float],
    pump: float,
    opening: float = 0.0,
    target_lufs: float = -18.0,
) -> np.ndarray:
    """Mix and master the stems.

    Args:
        stems: balanced stems.
        look: a name in ``LOOKS``.
        bpm: beats per minute.
        seed: seed of the effects.
        room: reverb time in seconds, and reverb level; drums and bass get a quarter of the level.
        pump: depth of the ducking, 0 to 1; drums are not ducked.
        opening: beats of a low-pass filter sweep at the start; 0: no sweep.
        target_lufs: integrated loudness of the mix, in LUFS.

    Returns:
        [2, N] float32.
    """
    beat = 60 / bpm
    dry = np.zeros_like(stems[0].wave)
    wet = np.zeros_like(dry)
    for stem in stems:
        (dry if stem.role in ("drums", "bass") else wet)[...] += stem.wave
    if pump > 0 and any(stem.role == "drums" for stem in stems):
        ducked = fx.pump(wet, beat * RATE, depth=pump)
        bass = sum((stem.wave for stem in stems if stem.role == "bass"), np.zeros_like(dry))
        dry = dry - bass + fx.pump(bass, beat * RATE, depth=min(1.0, pump * 0.8))
        wet = ducked
    if room[1] > 0.01:
        wet = fx.reverb(wet, room[0], room[1], seed=seed)
        if room[1] > 0.15:
            dry = fx.reverb(dry, min(room[0], 0.8), room[1] * 0.25, seed=seed)
    mix = dry + wet
    if opening > 0:
        end = min(mix.shape[1], round(opening * beat * RATE))
        cutoff = np.concatenate([np.geomspace(250, 14000, 96), np.full(32, 20000.0)])
        mix[:, :end] = fx.moving_filter(mix[:, :end], cutoff[:96], 0.3)
    return fx.level(LOOKS[look].apply(mix, beat, seed).astype(np.float32), target_lufs)
