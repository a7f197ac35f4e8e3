"""Key detection: the distance of a recording's notes from those of C major and A minor, in semitones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from riffstream.audio.mono import mono_of

__all__ = ["NO_NOTES", "Key", "find_key", "pitch_classes", "scale_name"]

WINDOW_S: Final = 0.34  # 3 Hz a bin: semitones are separate above 52 Hz
LOW_HZ, HIGH_HZ = 55.0, 2000.0
PEAK_SHARE: Final = 0.01  # of the loudest peak of the window; lower peaks are noise
# Frequency of each pitch class, from the tonic up: Temperley, "What's Key for Key?" (1999), table 2.
MAJOR: Final = np.array([5.0, 2.0, 3.5, 2.0, 4.5, 4.0, 2.0, 4.5, 2.0, 3.5, 1.5, 4.0])
MINOR: Final = np.array([5.0, 2.0, 3.5, 4.5, 2.0, 4.0, 2.0, 4.5, 3.5, 2.0, 1.5, 4.0])
IN_TUNE: Final = (
    0.08  # least agreement of the peaks on one tuning in music with clear notes; noise has 0.02, bursts 0.06
)
# A note's peak is this much higher than the spectrum 12 Hz beside it. That of a drum is broad. Of the peaks of 42
# recordings of games, 0.06 to 0.47 by weight are so narrow; of noise and synthetic drums, 0.04 at most. Cymbals, tablas
# and toms have up to 0.4, but their peaks are not in tune (0.07 at most).
ABOVE, BESIDE = 4.0, 4
NARROW, FEW = 0.08, 0.05  # least share in any music, and in music that is in tune
LEAST: Final = 0.45  # least likeness of music with clear notes
CLEAR: Final = 0.5  # least likeness of a clear key
AHEAD: Final = 0.05  # least distance of a clear key's likeness from that of the next one
NO_NOTES: Final = "key unclear: no clear notes, so it is not transposed"
NAMES: Final = ("C", "D flat", "D", "E flat", "E", "F", "F sharp", "G", "A flat", "A", "B flat", "B")


@dataclass(frozen=True, slots=True)
class Key:
    """The nearest scale of a recording.

    Attributes:
        above: distance of its notes above those of C major and A minor, -5 to 6 semitones.
        likeness: correlation of the pitch classes with the scale's profile, -1 to 1.
        other: the scale that comes next, as ``above``.
        lead: distance of the two likenesses, >= 0.
        in_tune: agreement of the peaks on one tuning, 0 (noise) to 1.
    """

    above: int
    likeness: float
    other: int
    lead: float
    in_tune: float = 1.0

    @property
    def clear(self) -> bool:
        """Whether the key is clear: it fits well, no other one nearly as well, and the notes are in tune."""
        return self.fits and self.in_tune > IN_TUNE

    @property
    def fits(self) -> bool:
        """Whether the scale fits well, and no other one nearly as well. That of drums may do so by chance."""
        return self.likeness >= CLEAR and self.lead >= AHEAD

    @property
    def doubt(self) -> str | None:
        """A sentence about an unclear key; None for a clear one.

        >>> Key(2, 0.61, -5, 0.01).doubt
        'key unclear: taken as D major or B minor (likeness 0.61), could be G major or E minor (0.60)'
        """
        if self.clear:
            return None
        if self.fits:
            return f"key unclear: taken as {scale_name(self.above)}, but few notes are in tune with each other"
        next_one = f"{self.likeness - self.lead:.2f}"
        taken = f"taken as {scale_name(self.above)} (likeness {self.likeness:.2f})"
        return f"key unclear: {taken}, could be {scale_name(self.other)} ({next_one})"


def scale_name(above: int) -> str:
    """The two keys whose notes are ``above`` semitones above C major's.

    >>> scale_name(-5)
    'G major or E minor'
    """
    return f"{NAMES[above % 12]} major or {NAMES[(above + 9) % 12]} minor"


def pitch_classes(wave: NDArray[np.float32], rate: int) -> NDArray[np.float64]:
    """Share of each pitch class in a recording: [12] from C up, with sum 1; zeros if nothing has a pitch.

    Only spectral peaks count, each at its interpolated frequency, so that drums and noise have little weight. Every
    window has the same weight, and the tuning of the recording is its own.

    Args:
        wave: [channels, N], in [-1, 1].
        rate: samples a second.
    """
    return _hear(wave, rate)[0]


def _hear(wave: NDArray[np.float32], rate: int) -> tuple[NDArray[np.float64], float, float]:
    """Pitch classes, agreement of the peaks on one tuning (0: noise, 1: every note in tune), share of narrow peaks."""
    mono = mono_of(wave)
    size = 1 << round(np.log2(WINDOW_S * rate))
    mono = np.pad(mono, (0, max(0, size - len(mono))))
    window = np.hanning(size)
    peaks = [
        _peaks(frame * window, rate) for frame in np.lib.stride_tricks.sliding_window_view(mono, size)[:: size // 2]
    ]
    pitches = np.concatenate([pitch for pitch, _, _ in peaks])
    if not len(pitches):
        return np.zeros(12), 0.0, 0.0
    weights = np.concatenate([weight for _, weight, _ in peaks])
    shares = [weight[narrow].sum() / weight.sum() for _, weight, narrow in peaks if len(weight)]
    turns = (weights * np.exp(2j * np.pi * pitches)).sum()
    agreement = float(np.abs(turns) / weights.sum())
    tuning = np.angle(turns) / (2 * np.pi) if agreement > IN_TUNE else 0.0  # semitones above 440 Hz
    found = np.zeros(12)
    for pitch, weight, _ in peaks:
        tuned = pitch - tuning
        near = np.maximum(0.0, 1 - 1.6 * np.abs(2 * (tuned - np.round(tuned))))  # between two notes: neither
        notes = np.bincount(np.round(tuned).astype(int) % 12, near * weight, 12)
        found += notes / max(float(notes.sum()), 1e-12)
    total = found.sum()
    return np.asarray(found / total if total > 0 else found), agreement, float(np.mean(shares))


def _peaks(frame: NDArray[np.float64], rate: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Pitches (MIDI numbers with fractions) and weights of a windowed frame's spectral peaks, and which are narrow."""
    level = np.abs(np.fft.rfft(frame))
    low, high = int(LOW_HZ * len(frame) / rate), min(int(HIGH_HZ * len(frame) / rate), len(level) - 1)
    inner = level[low:high]
    peak = (inner > level[low - 1 : high - 1]) & (inner >= level[low + 1 : high + 1])
    at = np.flatnonzero(peak & (inner > PEAK_SHARE * inner.max(initial=0.0))) + low
    before, here, after = (np.log(level[at + shift] + 1e-12) for shift in (-1, 0, 1))
    exact = at + 0.5 * (before - after) / (before - 2 * here + after - 1e-12)  # parabola through the peak
    beside = (level[np.maximum(at - BESIDE, 0)] + level[np.minimum(at + BESIDE, len(level) - 1)]) / 2
    return 69 + 12 * np.log2(exact * rate / len(frame) / 440), np.sqrt(level[at]), level[at] > ABOVE * beside


def find_key(wave: NDArray[np.float32], rate: int) -> Key | None:
    """The nearest scale of a recording, by the method of Krumhansl and Schmuckler with Temperley's profiles.

    A major key and its relative minor have the same notes and are not distinguished. Of keys that fit equally well (a
    riff without the fourth and the seventh), C major is preferred.

    Args:
        wave: [channels, N], in [-1, 1].
        rate: samples a second.

    Returns:
        The nearest scale, clear or not; None for sound without narrow peaks (drums, noise) or without four pitch
        classes (one note).
    """
    heard, in_tune, narrow = _hear(wave, rate)
    # The pitch classes of a short drum loop resemble those of some key by chance.
    if np.count_nonzero(heard > 0.02) < 4 or narrow < (FEW if in_tune > IN_TUNE else NARROW):
        return None
    likenesses = np.array([_alike(heard, key) for key in range(12)])
    order = [int(key) for key in np.argsort(-likenesses, kind="stable")]
    best = 0 if likenesses[0] > likenesses.max() - 0.01 else order[0]
    other = next(key for key in order if key != best)
    lead = max(0.0, float(likenesses[best] - likenesses[other]))
    key = Key(_signed(best), float(likenesses[best]), _signed(other), lead, in_tune)
    return key if key.fits or (in_tune > IN_TUNE and key.likeness > LEAST) else None


def _signed(key: int) -> int:
    return key if key <= 6 else key - 12


def _alike(heard: NDArray[np.float64], key: int) -> float:
    if np.ptp(heard) < 1e-9:
        return 0.0
    profiles = np.roll(MAJOR, key), np.roll(MINOR, key + 9)
    return max(float(np.corrcoef(profile, heard)[0, 1]) for profile in profiles)
