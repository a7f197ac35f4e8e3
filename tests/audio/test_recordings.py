"""Tempo, key and beats of real recordings: the music of three games, from Debian packages.

``tests/data/recordings.toml`` has the truth and its origin; ``python -m tests.recordings`` measures more packages.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from riffstream.audio.beats import find_beats
from riffstream.audio.key import find_key
from tests.recordings import (
    RATE,
    Recording,
    beats_of_one_tempo,
    drifting,
    f_measure,
    read,
    recordings,
    start_and_length,
    tempo_off,
)

PACKAGES = ("amoebax-data", "extremetuxracer-data", "drascula-music")


@pytest.fixture(scope="module")
def excerpts() -> list[tuple[Recording, np.ndarray]]:
    each = recordings(PACKAGES)
    missing = {one.package for one in each if not (Path("/") / one.path).is_file()}
    if missing:
        pytest.skip(f"recordings are missing: apt-get install {' '.join(sorted(missing))}")
    return [(one, read(Path("/") / one.path, *start_and_length())) for one in each]


def test_tempos_are_found_to_half_a_percent(excerpts: list[tuple[Recording, np.ndarray]]) -> None:
    off = {}
    for each, wave in excerpts:
        found = find_beats(wave, RATE)
        assert not found.drifts, f"{each.path.name} was made by a machine"
        assert each.bpm is not None
        if tempo_off(found.bpm, each.bpm) > 0.005:
            off[each.path.name] = found.bpm
    assert not off


def test_keys_are_found_or_called_unclear(excerpts: list[tuple[Recording, np.ndarray]]) -> None:
    unclear, wrong = {}, {}
    for each, wave in excerpts:
        if not each.keys:
            continue
        found = find_key(wave, RATE)
        assert found is not None, each.path.name
        if found.above not in each.keys + each.also:
            wrong[each.path.name] = found
        if found.doubt:
            unclear[each.path.name] = found.doubt
    assert len(unclear) <= 5
    assert len(wrong) <= 2
    assert set(wrong) - set(unclear) <= {"track4.ogg"}, "wrong without a word"


def test_a_drifting_recording_is_followed() -> None:
    each = next(one for one in drifting() if one.package in PACKAGES)
    if not (Path("/") / each.path).is_file():
        pytest.skip(f"a recording is missing: apt-get install {each.package}")
    wave = read(Path("/") / each.path, *start_and_length())
    found = find_beats(wave, RATE)
    assert found.drifts
    assert found.doubt is None
    assert f_measure(each.beats, found.at / RATE)[0] > 0.95
    assert f_measure(each.beats, beats_of_one_tempo(wave))[0] < 0.65, "one tempo would do: no test of drift"
