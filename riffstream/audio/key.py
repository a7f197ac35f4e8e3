"""Key detection: the distance of a recording's notes from those of C major and A minor, in semitones."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["find_key", "pitch_classes"]

WINDOW_S: Final = 0.34  # 3 Hz a bin: semitones are separate above 52 Hz
LOW_HZ, HIGH_HZ = 55.0, 2000.0
PEAK_SHARE: Final = 0.01  # of the loudest peak of the window; lower peaks are noise
SCALE: Final = np.array([1, 0, 1, 0, 1, 1, 0, 1, 0, 1, 0, 1], float)  # C major's notes, which are A minor's too
# Frequency of each pitch class, from the tonic up: Temperley, "What's Key for Key?" (1999), table 2.
MAJOR: Final = np.array([5.0, 2.0, 3.5, 2.0, 4.5, 4.0, 2.0, 4.5, 2.0, 3.5, 1.5, 4.0])
MINOR: Final = np.array([5.0, 2.0, 3.5, 4.5, 2.0, 4.0, 2.0, 4.5, 3.5, 2.0, 1.5, 4.0])
FITS: Final = 0.8  # least share of the sound on a key's notes; noise has 7/12
AS_GOOD: Final = 0.05  # keys whose shares differ by less are considered to have the same notes


def pitch_classes(wave: NDArray[np.float32], rate: int) -> NDArray[np.float64]:
    """Share of each pitch class in a recording: [12] from C up, with sum 1; zeros if nothing has a pitch.

    Only spectral peaks count, each at its interpolated frequency, so that drums and noise have little weight.

    Args:
        wave: [channels, N], in [-1, 1].
        rate: samples a second.
    """
    mono = wave.mean(0).astype(np.float64)
    size = 1 << round(np.log2(WINDOW_S * rate))
    mono = np.pad(mono, (0, max(0, size - len(mono))))
    frames = np.lib.stride_tricks.sliding_window_view(mono, size)[:: size // 2]
    found = np.zeros(12)
    for frame in frames:
        level = np.abs(np.fft.rfft(frame * np.hanning(size)))
        low, high = int(LOW_HZ * size / rate), min(int(HIGH_HZ * size / rate), len(level) - 1)
        inner = level[low:high]
        peak = (inner > level[low - 1 : high - 1]) & (inner >= level[low + 1 : high + 1])
        at = np.flatnonzero(peak & (inner > PEAK_SHARE * inner.max(initial=0.0))) + low
        if not len(at):
            continue
        before, here, after = (np.log(level[at + shift] + 1e-12) for shift in (-1, 0, 1))
        exact = at + 0.5 * (before - after) / (before - 2 * here + after - 1e-12)  # parabola through the peak
        pitch = 69 + 12 * np.log2(exact * rate / size / 440)
        near = np.maximum(0.0, 1 - 4 * np.abs(pitch - np.round(pitch)))  # a pitch between two notes counts for neither
        np.add.at(found, np.round(pitch).astype(int) % 12, near * np.sqrt(level[at]))
    total = found.sum()
    return found / total if total > 0 else found


def find_key(wave: NDArray[np.float32], rate: int) -> int | None:
    """Distance of a recording's notes above those of C major and A minor, in semitones, -5 to 6.

    A major key and its relative minor have the same notes and are not distinguished. If the notes fit several keys (a
    riff without the fourth and the seventh), C major is preferred, then the most likely key by the method of Krumhansl
    and Schmuckler.

    Args:
        wave: [channels, N], in [-1, 1].
        rate: samples a second.

    Returns:
        The distance; None without a clear key: drums, noise, a single note, music that changes key.
    """
    heard = pitch_classes(wave, rate)
    if np.count_nonzero(heard > 0.02) < 4:
        return None
    shares = np.array([heard @ np.roll(SCALE, key) for key in range(12)])
    if shares.max() < FITS:
        return None
    fitting = [key for key in range(12) if shares[key] > shares.max() - AS_GOOD]
    best = 0 if 0 in fitting else max(fitting, key=lambda key: _alike(heard, key))
    return best if best <= 6 else best - 12


def _alike(heard: NDArray[np.float64], key: int) -> float:
    profiles = np.roll(MAJOR, key), np.roll(MINOR, key + 9)
    return max(float(np.corrcoef(profile, heard)[0, 1]) for profile in profiles)
