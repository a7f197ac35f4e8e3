"""The drift figures see what they are there to see."""

from __future__ import annotations

import numpy as np
import pytest

from riffstream.bench.seams import drift

CLIP = 96_000.0


def clips(count: int, *, level_db: float = 0.0, loop: bool = False, up: float = 1.0) -> np.ndarray:
    draw = np.random.default_rng(0)
    parts = []
    for n in range(count):
        share = n / (count - 1)
        if not (loop and n >= count // 2):
            notes = draw.uniform(100, 2000, 16)
        t = np.arange(6000) / 48_000
        tones = [np.sin(2 * np.pi * hz * up**share * t) * np.exp(-t * 20) for hz in notes]
        parts.append(np.concatenate(tones) * 10 ** (level_db * share / 20))
    mono = 0.2 * np.concatenate(parts).astype(np.float32)
    return np.repeat(mono[:, None], 2, axis=1)


def test_music_that_varies_does_not_drift() -> None:
    found = drift(clips(32), CLIP)
    assert abs(found["level_db"]) < 1
    assert abs(found["centroid_octaves"]) < 0.2
    assert abs(found["settling"]) < 0.1
    assert found["far"] < 0.9


def test_a_rise_in_level_is_seen() -> None:
    assert drift(clips(32, level_db=8), CLIP)["level_db"] == pytest.approx(6, abs=1)


def test_a_rise_in_pitch_is_seen() -> None:
    assert drift(clips(32, up=2.0), CLIP)["centroid_octaves"] == pytest.approx(0.75, abs=0.25)


def test_settling_on_a_loop_is_seen() -> None:
    found = drift(clips(32, loop=True), CLIP)
    assert found["near"] > 0.99
    assert found["settling"] > 0.2
