"""A loop made of the last beats of a live input, and the gate that ignores silence and noise. Pure functions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from riffstream.protocol import SAMPLE_RATE

__all__ = ["Loop", "make_loop"]

QUIET_DB: Final = -50.0  # root mean square of a beat, in dBFS; a room's noise is below
LEVEL: Final = 0.1  # root mean square of the loop, as in the material that the model learned
FADE: Final = 240  # samples of the fade at each joint: 5 ms
LOW_HZ, HIGH_HZ = 40.0, 12_000.0
FFT, SHORT_FFT = 16_384, 4096  # of at least a second of sound, and of less
# Noise of a microphone, a fan or an open line: its spectrum is smooth within each third of an octave, and its loudness
# does not change. Music fails the first (notes) or the second (drums).
SMOOTH: Final = 0.6  # geometric over arithmetic mean of the averaged spectrum within third octaves
STEADY: Final = 0.85  # the same of the energies of 20 ms

Status = Literal["live", "quiet", "noise"]


@dataclass(frozen=True, slots=True, eq=False)
class Loop:
    """Result of :func:`make_loop`.

    Attributes:
        status: ``quiet`` and ``noise`` must change nothing.
        level_db: root mean square in dBFS; -120 for silence.
        samples: float32 [n, channels], beats of equal length at a fixed level; None unless ``live``.
    """

    status: Status
    level_db: float
    samples: NDArray[np.float32] | None = None


def make_loop(recorded: NDArray[np.int16], lengths: Sequence[int]) -> Loop:
    """Make a loop of consecutive beats.

    Every beat gets the length of the last one (cut, or followed by silence, with short fades). Rests stay rests. A
    performer who began in the second half is repeated in the first; one whose second half is silent has stopped.

    Args:
        recorded: samples [n, channels] of all beats.
        lengths: length of each beat in samples; their sum is n.
    """
    wave = recorded.astype(np.float32) / 32768.0
    wave = wave - wave.mean(0, dtype=np.float64).astype(np.float32)  # without the offset of a cheap converter
    beats = np.split(wave, np.cumsum(lengths)[:-1])
    loud = [_decibels(beat) for beat in beats]
    level_db = _decibels(wave)
    count = len(beats)
    half = count // 2
    if max(loud[half:]) < QUIET_DB:
        return Loop("quiet", level_db)
    sounding = np.concatenate([beat for beat, db in zip(beats, loud, strict=True) if db >= QUIET_DB])
    if _is_noise(sounding.mean(1)):
        return Loop("noise", level_db)
    parts = [_fitted(beat, lengths[-1]) for beat in beats]
    if max(loud[:half]) < QUIET_DB:
        parts[:half] = parts[count - half :]
    loop = np.concatenate(parts)
    rms = float(np.sqrt(np.square(loop, dtype=np.float64).mean()))
    return Loop("live", level_db, loop * np.float32(LEVEL / rms))


def _decibels(wave: NDArray[np.float32]) -> float:
    mean = float(wave.var(0, dtype=np.float64).mean()) if wave.size else 0.0
    return 10 * math.log10(max(mean, 1e-12))


def _fitted(beat: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """A beat of ``size`` samples. Only a beat of another length gets fades: equal ones follow each other anyway."""
    if len(beat) == size:
        return beat
    out = np.zeros((size, beat.shape[1]), np.float32)
    kept = min(size, len(beat))
    out[:kept] = beat[:kept]
    fade = min(FADE, kept)
    out[kept - fade : kept] *= np.linspace(1, 0, fade, dtype=np.float32)[:, None]
    return out


def _is_noise(mono: NDArray[np.float32]) -> bool:
    """Whether the sound is steady noise of any colour. Its silent parts do not count."""
    fft = FFT if len(mono) >= 3 * FFT else SHORT_FFT
    if len(mono) < 2 * fft:
        return False
    step = SAMPLE_RATE // 50
    blocks = mono[: len(mono) // step * step].reshape(-1, step)
    sounding = blocks.var(1, dtype=np.float64) > 10 ** (QUIET_DB / 10)
    # Differences, because the lowest, slowest part of the noise alone would decide otherwise.
    energies = np.square(np.diff(blocks), dtype=np.float64).mean(1)[sounding]
    if len(energies) < 2 or _flatness(energies) < STEADY:
        return False
    frames = np.lib.stride_tricks.sliding_window_view(mono, fft)[:: fft // 2]
    power = (np.abs(np.fft.rfft(frames * np.hanning(fft).astype(np.float32))) ** 2).mean(0)
    hz = np.fft.rfftfreq(fft, 1 / SAMPLE_RATE)
    edges = LOW_HZ * 2 ** np.arange(0, math.log2(HIGH_HZ / LOW_HZ), 1 / 3)
    total, smooth = 0.0, 0.0
    for low, high in itertools.pairwise(edges):
        band = power[(hz >= low) & (hz < high)]
        if len(band) >= 3:
            total += float(band.sum())
            smooth += float(band.sum()) * _flatness(band)
    return total > 0 and smooth / total > SMOOTH


def _flatness(values: NDArray[np.float64]) -> float:
    """Geometric over arithmetic mean, 0 to 1."""
    floor = values + 1e-12
    return float(np.exp(np.log(floor).mean()) / floor.mean())
