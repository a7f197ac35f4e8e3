"""The tone controls: bands, tilt and sweep have the levels that they state, and nothing is shifted in time."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import firwin

from riffstream.audio.tone import CHUNK, NEUTRAL, REACH, Tone, filtered, response

RATE = 48_000


def sine(hz: float) -> np.ndarray:
    n = np.arange(-REACH, CHUNK + REACH)
    return np.repeat(np.sin(2 * np.pi * hz * n / RATE + 0.3)[:, None], 2, axis=1).astype(np.float32)


def level_db(tone: Tone, hz: float, *, bass: bool = False) -> float:
    """Level of a sine after the filter."""
    wave = sine(hz)
    out = filtered(wave, response(tone, bass=bass)).astype(np.float64)
    ref = wave[REACH : REACH + CHUNK].astype(np.float64)
    return 20 * float(np.log10(max(1e-9, abs((out * ref).sum() / (ref * ref).sum()))))


@pytest.mark.parametrize(
    ("tone", "hz", "expected", "within"),
    [
        (Tone(low=-60), 1000, 0, 0.05),
        (Tone(low=6), 80, 6, 0.3),
        (Tone(mid=-12), 800, -12, 0.1),
        (Tone(high=9), 8000, 9, 0.05),
        (Tone(tilt=2), 4000, 4, 0.1),
        (Tone(tilt=2), 500, -2, 0.2),
        (Tone(tilt=-3), 16000, -12, 0.1),
        (Tone(filter=-0.5), 2000, -12, 12),
        (Tone(filter=1), 18000, 0, 0.2),
        (Tone(filter=0.5), 4000, 0, 0.2),
    ],
)
def test_levels_are_those_that_the_setting_states(tone: Tone, hz: float, expected: float, within: float) -> None:
    assert level_db(tone, hz) == pytest.approx(expected, abs=within)


def test_bands_that_are_off_are_inaudible() -> None:
    assert level_db(Tone(low=-60), 60) < -40
    assert level_db(Tone(mid=-60), 900) < -60
    assert level_db(Tone(high=-60), 9000) < -60
    assert level_db(NEUTRAL, 60, bass=True) > -0.2
    assert level_db(NEUTRAL, 900, bass=True) < -60
    assert level_db(Tone(filter=-1), 2000) < -60
    assert level_db(Tone(filter=1), 200) < -60


@pytest.mark.parametrize("hz", [50, 120, 250, 400, 1000, 2500, 7000, 15000])
def test_equal_bands_add_up_to_a_plain_gain(hz: float) -> None:
    assert level_db(Tone(low=-6, mid=-6, high=-6), hz) == pytest.approx(-6, abs=0.02)


def test_the_filter_does_not_delay() -> None:
    click = np.zeros((CHUNK + 2 * REACH, 1), np.float32)
    click[REACH + 200] = 1
    for tone in (Tone(high=6), Tone(tilt=-2), Tone(filter=-0.4), Tone(low=-60)):
        assert np.abs(filtered(click, response(tone))).argmax() == 200


def test_chunks_equal_a_whole_convolution() -> None:
    """The same impulse response through numpy's direct convolution."""
    curve = response(Tone(low=-20, tilt=1, filter=-0.3))
    taps = np.fft.irfft(curve.astype(np.float64))
    taps = np.concatenate([taps[-REACH:], taps[: REACH + 1]])
    wave = np.random.default_rng(1).normal(size=4 * CHUNK + 2 * REACH).astype(np.float32)
    whole = np.convolve(wave.astype(np.float64), taps, "valid")
    for start in range(0, 4 * CHUNK, CHUNK):
        chunk = filtered(wave[start : start + CHUNK + 2 * REACH, None], curve)[:, 0]
        np.testing.assert_allclose(chunk, whole[start : start + CHUNK], atol=2e-6)


def test_the_bands_are_as_narrow_as_scipys_window_method_allows() -> None:
    """scipy's filter of the same length and border has the same -6 dB point."""
    taps = firwin(2 * REACH + 1, 250, window="hann", fs=RATE)
    hz = 250.0
    theirs = abs(np.exp(-2j * np.pi * hz / RATE * np.arange(len(taps))) @ taps)
    assert level_db(Tone(mid=-60, high=-60), hz) == pytest.approx(20 * np.log10(theirs), abs=1)
