"""Tempo of a recording and position of its first beat."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from riffstream.audio.mono import mono_of

__all__ = ["STEP_S", "find_tempo", "first_onset", "music_start", "onset_curve", "rise_of_loudness", "tempo_of"]

STEP_S = 0.01
LOW_BPM, HIGH_BPM = 70.0, 170.0
TAPPED_BPM, TAPPED_OCTAVES = 110.0, 0.7  # log-normal prior that decides the octave: people tap near 110 bpm
# Beats at which a tempo must repeat. Quarters and halves exclude 3/4 and 4/3 of the tempo of music with dotted notes.
MULTIPLES = (0.25, 0.5, 1, 1, 2, 4, 8, 16)
STRONG = 0.35  # of the strongest rise
# Before a strong rise the music plays already if its level is this share of the one behind it, and above this share of
# the highest level (-60 dB), and if its loud parts are this much louder than its soft ones: noise is even. A bang lasts
# half a second.
AS_LOUD, AUDIBLE, UNEVEN, BANG_S = 0.7, 0.001, 1.5, 0.5
EARLY_S = 0.035  # a beat at most this long before the recording counts as its first
WINDOW_S = 0.021
BANDS, LOWEST_HZ, HIGHEST_HZ = 40, 30.0, 14_000.0
BLOCK = 2000  # spectra in memory at a time


def rise_of_loudness(wave: NDArray[np.float32], rate: int) -> NDArray[np.float64]:
    """Rise of loudness from each 10 ms to the next, 0 where it falls: an onset curve.

    Args:
        wave: [channels, N], in [-1, 1].
        rate: samples a second, 100 or more.

    Returns:
        float64 [N / (rate / 100)], >= 0.
    """
    loudness = np.log1p(30 * _levels(wave, rate))
    rise: NDArray[np.float64] = np.maximum(np.diff(loudness, prepend=0.0), 0.0)
    # A recording may begin in the middle of a sound. This is an onset too, but not the strongest one.
    rise[:1] = np.minimum(rise[:1], rise[1:].max(initial=0.0))
    return rise


def _levels(wave: NDArray[np.float32], rate: int) -> NDArray[np.float64]:
    """Root mean square of each 10 ms."""
    edges = _steps(wave.shape[1], rate)
    if len(edges) < 2:
        return np.zeros(0)
    squares = np.square(mono_of(wave)[: edges[-1]])
    return np.asarray(np.sqrt(np.add.reduceat(squares, edges[:-1], dtype=np.float64) / np.diff(edges)))


def _steps(samples: int, rate: int) -> NDArray[np.int64]:
    """Borders of the whole steps of 10 ms, in samples: at any rate, also at those that 100 does not divide."""
    return np.arange(samples * 100 // rate + 1, dtype=np.int64) * rate // 100


def first_onset(rise: NDArray[np.float64]) -> int:
    """Index of the first strong rise: the start of the music after silence or a fade-in; 0 without any rise."""
    return int(np.argmax(rise >= STRONG * rise.max())) if rise.any() else 0


def music_start(wave: NDArray[np.float32], rate: int) -> int:
    """First strong onset of a recording in steps of 10 ms, as :func:`first_onset`.

    A bang that is much louder than the music would be the only strong onset. Where the music plays before it as loud
    as behind it, the start is searched there.
    """
    levels, rise = _levels(wave, rate), rise_of_loudness(wave, rate)
    start = first_onset(rise)
    while start and _plays_before(levels, start):
        start = first_onset(rise[:start])
    return start


def _plays_before(levels: NDArray[np.float64], start: int) -> bool:
    before, behind = levels[:start], levels[start + round(BANG_S / STEP_S) :]
    soft, loud = np.quantile(before, (0.25, 0.95))
    least = max(AUDIBLE * levels.max(), AS_LOUD * _mean_level(behind))
    return bool(loud > UNEVEN * soft and _mean_level(before) > least)


def _mean_level(levels: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.square(levels).mean())) if len(levels) else 0.0


def onset_curve(wave: NDArray[np.float32], rate: int) -> NDArray[np.float64]:
    """Rise of level in 40 mel-spaced bands, above its mean over a second, in steps of 10 ms.

    Unlike :func:`rise_of_loudness`, it hears notes that begin while others sound. This is the spectral flux of
    Böck and Widmer, "Maximum filter vibrato suppression for onset detection" (2013), without the maximum filter.

    Args:
        wave: [channels, N], in [-1, 1].
        rate: samples a second, 100 or more.

    Returns:
        float64 [N / (rate / 100)], >= 0.
    """
    size = 1 << max(4, round(np.log2(WINDOW_S * rate)))
    places = _steps(wave.shape[1], rate)[:-1]
    if not len(places):
        return np.zeros(0)
    mono = np.pad(mono_of(wave), (size // 2, size))
    frames = np.lib.stride_tricks.sliding_window_view(mono, size)
    hertz = _from_mel(np.linspace(_to_mel(LOWEST_HZ), _to_mel(min(HIGHEST_HZ, 0.45 * rate)), BANDS + 1))
    edges = np.unique((hertz * size / rate).astype(int))
    window = np.hanning(size).astype(np.float32)
    bands = np.concatenate(
        [
            np.add.reduceat(np.abs(np.fft.rfft(frames[places[k : k + BLOCK]] * window)), edges, axis=1)[:, :-1]
            for k in range(0, len(places), BLOCK)
        ]
    )
    levels = np.log1p(10 * bands / (bands.mean() + 1e-9))
    rise = np.maximum(np.diff(levels, axis=0, prepend=levels[:1]), 0.0).mean(1)
    around = np.convolve(rise, np.ones(100) / 100, "same")[: len(rise)] if len(rise) >= 100 else rise.mean()
    return np.asarray(np.maximum(rise - around, 0.0), np.float64)


def _to_mel(hertz: float) -> float:
    return float(2595 * np.log10(1 + hertz / 700))


def _from_mel(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(700 * (10 ** (mel / 2595) - 1))


def find_tempo(
    wave: NDArray[np.float32],
    rate: int = 48_000,
    *,
    bpm: float | None = None,
    low: float = LOW_BPM,
    high: float = HIGH_BPM,
) -> tuple[float, int]:
    """Find the tempo and the first beat of a recording with one tempo.

    :func:`tempo_of` finds the tempo to 0.1 bpm. A second search within 0.1 bpm, in steps of 0.01, maximises the onsets
    on the beats: 0.1 bpm is a fifth of a beat after four minutes.

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
        found = tempo_of(onset_curve(wave, rate), low=low, high=high)
        tempos = sorted((round(found + k / 100, 2) for k in range(-10, 11)), key=lambda tempo: abs(tempo - found))
    beats = [_first_beat(rise, tempo) for tempo in tempos]
    best = max(range(len(beats)), key=lambda k: beats[k][0])  # the first of equals: the one nearest to what was found
    tempo, phase = tempos[best], beats[best][1]
    lag = 60 / tempo / STEP_S
    silent = max(0, round((music_start(wave, rate) - phase) / lag))  # beats before the music begins
    return tempo, round((phase + silent * lag) * rate / 100)


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
    """Tempo in bpm of an onset curve with steps of ``step_s`` seconds; 110 if nothing repeats.

    The curve is autocorrelated. Of all tempos from ``low`` to ``high`` in steps of 0.1 bpm, the one with the best mean
    agreement at a quarter, a half, 1 (two votes), 2, 4, 8 and 16 beats wins, as far as these are shorter than half the
    curve. Of a tempo, its half
    and its double, the one nearest to 110 bpm is preferred, as most people would tap.
    """
    if len(rise) < 2 or not rise.any():
        return TAPPED_BPM
    likeness = likeness_of(rise)
    tempos = np.arange(low, high, 0.1)
    prior = np.exp(-0.5 * (np.log2(tempos / TAPPED_BPM) / TAPPED_OCTAVES) ** 2)
    scores = agreement(likeness, 60 / tempos / step_s, MULTIPLES)
    return round(float(tempos[int(np.argmax(np.maximum(scores, 0.0) * prior))]), 1)


def likeness_of(rise: NDArray[np.float64]) -> NDArray[np.float64]:
    """Autocorrelation of an onset curve by lag, [N], each divided by the length of its overlap; 1 at lag 0."""
    rise = rise - rise.mean()
    size = 1 << (2 * len(rise)).bit_length()
    products = np.fft.irfft(np.abs(np.fft.rfft(rise, size)) ** 2)[: len(rise)]
    return np.asarray(products / np.arange(len(rise), 0, -1) / (products[0] / len(rise) + 1e-30))


def agreement(
    likeness: NDArray[np.float64], lags: NDArray[np.float64], multiples: tuple[float, ...]
) -> NDArray[np.float64]:
    """Mean likeness at multiples of each lag, [L]; only multiples within half the curve count, and the
    lag itself."""
    half = len(likeness) / 2
    total, count = np.zeros(len(lags)), np.zeros(len(lags))
    for multiple in multiples:
        inside = (lags * multiple < half) | (multiple <= 1)
        found = np.interp(lags * multiple, np.arange(len(likeness)), likeness, right=0.0)
        total += np.where(inside, found, 0.0)
        count += inside
    return np.asarray(total / count)
