"""Tempo and key of real recordings: the music of two games, from Debian packages.

The table was made by hand: tempos from the distance of repeated bars (peaks of a fine autocorrelation of the spectral
flux, to 0.1 %), keys from the pitch classes and the bass, both compared with five profiles and two tempo estimators of
essentia.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from riffstream.audio.beats import find_beats
from riffstream.audio.files import read_audio
from riffstream.audio.key import find_key

RATE = 44_100
START_S, LENGTH_S = 10, 30
AMOEBAX, RACER = Path("/usr/share/games/amoebax/music"), Path("/usr/share/games/etr/music")
# File, bpm, semitones above C major and A minor: two where the recording has the seventh of both scales.
TRUTH = [
    (AMOEBAX / "AngusBackground.ogg", 131.0, (0,)),  # C major
    (AMOEBAX / "K.QuitaBackground.ogg", 85.0, (2,)),  # B minor
    (AMOEBAX / "KerberosBackground.ogg", 140.0, (0,)),  # A minor
    (AMOEBAX / "Mr.BonesBackground.ogg", 120.0, (0,)),  # C major, with B natural
    (AMOEBAX / "PenBackground.ogg", 140.0, (2,)),  # B minor
    (AMOEBAX / "training.ogg", 140.0, (0,)),  # C major
    (RACER / "freezingpoint.ogg", 120.0, (4,)),  # C sharp minor
    (RACER / "options1-jt.ogg", 125.0, (1, 6)),  # D flat major, with C and C flat
    (RACER / "race1-jt.ogg", 125.0, (1, 6)),  # D flat major, with C and C flat
    (RACER / "spunkyrace-ks.ogg", 156.0, (0,)),  # C major
    (RACER / "start1-jt.ogg", 125.0, (3,)),  # C minor
]


def heard(path: Path) -> np.ndarray:
    whole = read_audio(path, sample_rate=RATE, channels=2, max_seconds=START_S + LENGTH_S, cut=True).samples.T
    return np.ascontiguousarray(whole[:, START_S * RATE :])


@pytest.fixture(scope="module")
def excerpts() -> dict[str, tuple[np.ndarray, float, tuple[int, ...]]]:
    missing = [place.parent.name for place in (AMOEBAX, RACER) if not place.is_dir()]
    if missing:
        pytest.skip(f"no recordings of {', '.join(missing)}: apt-get install amoebax-data extremetuxracer-data")
    return {path.stem: (heard(path), bpm, keys) for path, bpm, keys in TRUTH}


def test_tempos_are_found_to_half_a_percent(excerpts: dict[str, tuple[np.ndarray, float, tuple[int, ...]]]) -> None:
    off = {}
    for name, (wave, bpm, _) in excerpts.items():
        found = find_beats(wave, RATE)
        assert not found.drifts, f"{name} was made by a machine"
        if not any(found.bpm == pytest.approx(bpm * octave, rel=0.005) for octave in (0.5, 1, 2)):
            off[name] = found.bpm
    assert not off


def test_keys_are_found_or_called_unclear(excerpts: dict[str, tuple[np.ndarray, float, tuple[int, ...]]]) -> None:
    unclear, wrong = {}, {}
    for name, (wave, _, keys) in excerpts.items():
        found = find_key(wave, RATE)
        assert found is not None, name
        if found.above not in keys:
            wrong[name] = found
        if found.doubt:
            unclear[name] = found.doubt
    assert len(unclear) <= 4
    assert len(wrong) <= 1
    assert set(wrong) <= set(unclear), "never wrong without a word"
