"""Tempo of a recording and position of its first beat."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["find_tempo", "first_onset", "rise_of_loudness", "tempo_of"]

STEP_S = 0.01
LOW_BPM, HIGH_BPM = 70.0, 170.0
TAPPED_BPM, TAPPED_OCTAVES = 110.0, 0.7  # log-normal prior that decides the octave: people tap near 110 bpm
STRONG = 0.35  # of the strongest rise
EARLY_S = 0.035  # a beat at most this long before the recording counts as its first


def rise_of_loudness(wave: NDArray[np.float32], rate: int) -> NDArray[np.float64]:
    """Rise of loudness from each 10 ms to the next, 0 where it falls: an onset curve.

    Args:
        wave: [channels, N], in [-1, 1].
        rate: samples a second, 100 or more.

    Returns:
        float64 [N / (rate / 100)], >= 0.
    """
    step = rate // 100
    mono = wave.mean(0)[: wave.shape[1] // step * step]
    energy = np.log1p(30 * np.sqrt((mono.reshape(-1, step).astype(np.float64) ** 2).mean(1)))
    rise: NDArray[np.float64] = np.maximum(np.diff(energy, prepend=0.0), 0.0)
    # A recording may begin in the middle of a sound. This is an onset too, but not the strongest one.
    rise[:1] = np.minimum(rise[:1], rise[1:].max(initial=0.0))
    return rise


def first_onset(rise: NDArray[np.float64]) -> int:
    """Index of the first strong rise: the start of the music after silence or a fade-in; 0 without any rise."""
    return int(np.argmax(rise >= STRONG * rise.max())) if rise.any() else 0


def find_tempo(
    wave: NDArray[np.float32],
    rate: int = 48_000,
    *,
    bpm: float | None = None,
    low: float = LOW_BPM,
    high: float = HIGH_BPM,
) -> tuple[float, int]:
    """Find the tempo and the first beat of a recording.

    The onset curve in 10 ms steps is autocorrelated. Of all tempos from ``low`` to ``high`` in steps of 0.1 bpm, the
    one with the best agreement at one beat (three votes), two, four and eight beats wins. A second search within
    0.1 bpm, in steps of 0.01, maximises the onsets on the beats: 0.1 bpm is a fifth of a beat after four minutes. Of a
    tempo, its half and its double, the one nearest to 110 bpm is chosen, as most people would tap.

    Args:
        wave: [channels, N], in [-1, 1].
        rate: samples a second, 100 or more.
        bpm: a known tempo; then only the first beat is searched.
        low: lowest tempo, bpm.
        high: highest tempo, bpm.

    Returns:
        The tempo in beats a minute, and the position of the first beat in samples.
    """
    rise = rise_of_loudness(wave, rate)
    if bpm is not None:
        tempos = [bpm]
    else:
        found = tempo_of(rise, low=low, high=high)
        tempos = sorted((round(found + k / 100, 2) for k in range(-10, 11)), key=lambda tempo: abs(tempo - found))
    beats = [_first_beat(rise, tempo) for tempo in tempos]
    best = max(range(len(beats)), key=lambda k: beats[k][0])  # the first of equals: the one nearest to what was found
    tempo, phase = tempos[best], beats[best][1]
    lag = 60 / tempo / STEP_S
    silent = max(0, round((first_onset(rise) - phase) / lag))  # beats before the music begins
    return tempo, round((phase + silent * lag) * (rate // 100))


def _first_beat(rise: NDArray[np.float64], bpm: float) -> tuple[float, int]:
    """Mean rise on the beats of a tempo at its best phase, and that phase in steps of 10 ms."""
    lag = 60 / bpm / STEP_S
    beats = np.arange(int(len(rise) / lag) - 1)
    if not len(beats):
        return 0.0, 0
    at = np.arange(int(lag))[:, None] + (beats * lag)[None]
    sums = np.interp(at, np.arange(len(rise)), rise).mean(1)
    phase = int(sums.argmax())
    return float(sums.max()), phase if phase < lag - EARLY_S / STEP_S else 0


def tempo_of(
    rise: NDArray[np.float64], step_s: float = STEP_S, *, low: float = LOW_BPM, high: float = HIGH_BPM
) -> float:
    """Tempo in bpm of an onset curve with steps of ``step_s`` seconds; 110 if nothing repeats."""
    if len(rise) < 2 or not rise.any():
        return TAPPED_BPM
    rise = rise - rise.mean()
    size = 1 << (2 * len(rise)).bit_length()
    likeness = np.fft.irfft(np.abs(np.fft.rfft(rise, size)) ** 2)[: len(rise)]
    tempos = np.arange(low, high, 0.1)
    lags = 60 / tempos / step_s
    scores = sum(np.interp(lags * k, np.arange(len(likeness)), likeness, right=0.0) for k in (1, 1, 1, 2, 4, 8))
    prior = np.exp(-0.5 * (np.log2(tempos / TAPPED_BPM) / TAPPED_OCTAVES) ** 2)
    return round(float(tempos[int(np.argmax(np.asarray(scores) * prior))]), 1)
