"""Measures of form against music with known borders, and a whole run with a model that has learned nothing."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from riffstream.cli import main
from riffstream.diffusion.engine import Engine
from riffstream.diffusion.mini.family import MiniFamily
from riffstream.evaluation import form as module
from riffstream.evaluation.form import borders_found, likeness, markdown, measure, novelty
from riffstream.journey.conditions import SIZE


def _clips(kinds: list[int], seed: int = 0) -> list[np.ndarray]:
    """Clips of noise with the spectral shape of their kind."""
    draw = np.random.default_rng(seed)
    shapes = draw.uniform(0.1, 10, (max(kinds) + 1, 256, 1))
    return [(shapes[kind] * draw.uniform(0.5, 1.5, (2, 256, 512))).astype(np.float32) for kind in kinds]


def test_borders_are_found_where_the_sound_changes() -> None:
    lengths = [4, 6, 4, 8, 5, 4, 9, 4]
    clips = _clips([kind for kind, length in enumerate(lengths) for _ in range(length)])
    borders = 8 * np.cumsum(lengths)[:-1]
    peaks = module._peaks(novelty(clips))
    assert borders_found(borders, peaks) == 1.0
    assert len(peaks) <= len(borders) + 1
    assert borders_found(borders + 8, peaks) < 0.3


def test_music_without_sections_has_no_borders_by_plan() -> None:
    curve = novelty(_clips([0] * 40))
    assert borders_found([64, 128, 192], module._peaks(curve)) < 1
    assert borders_found([], [8]) == 0
    assert borders_found([8], []) == 0
    assert borders_found([8, 40], [9, 44]) == 0.5


def test_likeness_tells_the_same_sound_from_another() -> None:
    assert likeness(_clips([0, 0, 0, 0])) > 0.99
    assert likeness(_clips([0, 1, 2, 3])) < 0.5
    assert likeness(_clips([0])) == 0


@pytest.mark.parametrize("conditions", [0, SIZE])
def test_a_stretch_is_rendered_and_measured(conditions: int) -> None:
    engine = Engine(MiniFamily.random(conditions=conditions), steps=1)
    report = measure(engine, "song", minutes=1.0, quiet=True)
    assert report["conditions"] is bool(conditions)
    assert report["clips"] >= 8
    assert report["borders"]["planned"] >= 1
    assert 0 <= report["borders"]["found"] <= 1
    assert set(report["chords"]) == ({"stretch", "single clips"} if conditions else set())
    assert set(report["drums"]) == ({"resting", "playing"} if conditions else set())
    assert json.loads(json.dumps(report)) == report
    assert ("words alone" in markdown(report)) is not bool(conditions)


class _Songs:
    """Clips of songs whose arrangement changes every four clips."""

    def __init__(self) -> None:
        self._mels = _clips([kind for kind in range(6) for _ in range(4)])
        self.clips = [
            SimpleNamespace(song=f"s/{n // 8}", beats=8, bars=({"starts": n % 4 == 0}, {"starts": False}))
            for n in range(len(self._mels))
        ]

    def mel(self, index: int) -> np.ndarray:
        return self._mels[index]


def test_songs_show_the_ceiling() -> None:
    songs = _Songs()
    assert module._borders_of_songs(songs) == 1.0  # type: ignore[arg-type]
    assert 0.5 < module._likeness_of_songs(songs) < 1  # type: ignore[arg-type]


def test_the_length_is_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "form", "--minutes", "1", "--out", str(tmp_path)]) == 2
    assert "2 to 600" in capsys.readouterr().err
