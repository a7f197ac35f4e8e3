"""Tone controls as one linear-phase filter: levels of three bands, tilt, and a filter sweep.

A recursive filter turns the phase, so its neutral setting differs from the input and a change of its frequency is
heard. This filter has no phase: a neutral setting is the input itself, bands of any levels add up without notches, and
a crossfade between two settings is a setting between them. Its price is a look-ahead of ``REACH`` samples.
"""

from __future__ import annotations

import functools
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from riffstream.audio.checks import Pcm

__all__ = ["CHUNK", "LOW_HZ", "NEUTRAL", "REACH", "Tone", "filtered", "gain", "response"]

REACH: Final = 480  # half of the impulse response, samples at 48 kHz: 10 ms, for bands 100 Hz wide
CHUNK: Final = 480  # samples filtered at once
LOW_HZ, HIGH_HZ = 250.0, 2500.0  # borders of the bands
OFF_DB: Final = -60.0  # levels from here down are silence
TILT_DB: Final = 12.0  # limit of the tilt's effect at both ends
_SIZE: Final = 1536  # of the Fourier transform: at least CHUNK + 2 * REACH + 1, a product of small primes
_RATE: Final = 48_000

Response = NDArray[np.float32]
Floats = NDArray[np.floating[Any]]


class Tone(NamedTuple):
    """A setting of the tone controls.

    Attributes:
        low, mid, high: levels of the bands in dB; -60 and less is silence.
        tilt: dB an octave around 1 kHz.
        filter: -1 (low-pass at 100 Hz) over 0 (open) to 1 (high-pass at 10 kHz).
    """

    low: float = 0.0
    mid: float = 0.0
    high: float = 0.0
    tilt: float = 0.0
    filter: float = 0.0


NEUTRAL: Final = Tone()


def gain(db: float) -> float:
    """Amplitude of a level in dB; 0 at -60 dB and below."""
    return 0.0 if db <= OFF_DB else float(10 ** (db / 20))


@functools.lru_cache(maxsize=64)
def response(tone: Tone, *, bass: bool = False) -> Response:
    """Frequency response [bins] of a setting; ``bass`` also removes everything above the low band."""
    hz = np.fft.rfftfreq(_SIZE, 1 / _RATE)
    hz[0] = hz[1] / 4  # logarithms follow
    below, above = _step(LOW_HZ / hz), _step(hz / HIGH_HZ)
    curve = gain(tone.low) * below + gain(tone.high) * above + gain(tone.mid) * (1 - below - above)
    curve *= 10 ** (np.clip(tone.tilt * np.log2(hz / 1000), -TILT_DB, TILT_DB) / 20)
    if tone.filter < 0:
        curve /= np.sqrt(1 + (hz / (20_000 * (100 / 20_000) ** -tone.filter)) ** 8)  # 24 dB an octave
    elif tone.filter > 0:
        curve /= np.sqrt(1 + ((20 * (10_000 / 20) ** tone.filter) / hz) ** 8)
    if bass:
        curve *= below
    impulse = np.fft.irfft(curve)
    place = np.minimum(np.arange(_SIZE), _SIZE - np.arange(_SIZE)) / (REACH + 1)
    impulse *= np.where(place < 1, 0.5 + 0.5 * np.cos(np.pi * place), 0)
    smooth: Response = np.fft.rfft(impulse).real.astype(np.float32)
    smooth.flags.writeable = False
    return smooth


def _step(ratio: Floats) -> Floats:
    """0 to 1 over an octave around a ratio of 1."""
    place = np.clip(np.log2(ratio) + 0.5, 0, 1)
    return np.asarray(place * place * (3 - 2 * place))


def filtered(around: Pcm, curve: Response) -> Pcm:
    """Filter a chunk.

    Args:
        around: [REACH + CHUNK + REACH, channels] float32, the chunk with its neighbourhood.
        curve: from :func:`response`.

    Returns:
        [CHUNK, channels] float32. The result depends on nothing else, so chunks of a stream equal those of a whole.
    """
    spectrum = np.fft.rfft(np.ascontiguousarray(around.T), _SIZE)
    wave = np.fft.irfft(spectrum * curve, _SIZE)[:, REACH : REACH + CHUNK]
    return wave.T.astype(np.float32, copy=False)
