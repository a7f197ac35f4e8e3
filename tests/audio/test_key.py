"""The key of music whose key is known, and of sounds that have none."""

from __future__ import annotations

import numpy as np
import pytest

from riffstream.audio.key import find_key, pitch_classes
from tests.audio.signals import RATE, cadence, clicks, noise, tone


@pytest.mark.parametrize("drums", [0.0, 2.0])
@pytest.mark.parametrize("minor", [False, True])
@pytest.mark.parametrize("key", range(-5, 7))
def test_every_key_is_found(key: int, minor: bool, drums: float) -> None:
    # C minor has the notes of E flat major, three semitones above C.
    expected = (key + (3 if minor else 0) + 5) % 12 - 5
    assert find_key(cadence(key, minor=minor, drums=drums), RATE) == expected


def test_what_has_no_key_has_none() -> None:
    chromatic = np.concatenate([tone(220 * 2 ** (n / 12), -12, 0.3) for n in range(24)]).T
    for wave in (clicks(120, 6), noise(5 * RATE).T, tone(440, -6, 4).T, np.zeros((2, RATE), np.float32), chromatic):
        assert find_key(wave, RATE) is None


def test_what_fits_c_major_stays() -> None:
    """C, D, E, G, A: as much C major as F or G major."""
    scale = [tone(261.63 * 2 ** (n / 12), -12, 0.4) for n in (0, 2, 4, 7, 9, 12, 9, 7, 4, 2, 0)]
    assert find_key(np.concatenate(scale).T, RATE) == 0


@pytest.mark.parametrize("rate", [22_050, 48_000])
def test_pitch_classes_are_those_of_the_notes(rate: int) -> None:
    chord = sum(tone(hz, -20, 2, rate=rate) for hz in (261.63, 329.63, 392.0)).T
    heard = pitch_classes(chord, rate)
    assert heard.sum() == pytest.approx(1)
    assert heard[[0, 4, 7]].min() > 0.25
    assert pitch_classes(np.zeros((1, 100), np.float32), rate).sum() == 0
