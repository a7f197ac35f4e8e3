"""The drift figures see what they are there to see."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest

from riffstream.bench.seams import add_arguments, drift, run
from riffstream.errors import ParameterError
from tests.training.small import write_corpus

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


def test_songs_of_a_corpus_are_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    corpus = write_corpus(tmp_path, songs=2, windows=5)
    given = ["--corpus", str(corpus), "--json"]
    assert run(parser.parse_args([*given, "--prompt", "low"])) == 0
    (row,) = json.loads(capsys.readouterr().out)["prompts"]
    assert (row["prompt"], row["places"]) == ("low", 4)
    assert set(row["ratio"]) == set(row["p"]) == {"flux", "phase", "level"}
    with pytest.raises(ParameterError, match="high, low"):
        run(parser.parse_args([*given, "--prompt", "polka"]))
