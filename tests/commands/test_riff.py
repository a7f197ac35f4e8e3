"""``riffstream riff``: a song again in its own tempo, between two songs, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from riffstream.audio.tempo import rise_of_loudness
from riffstream.cli import main
from riffstream.spectrogram.image import image_params
from tests.models.test_songs import RATE, music, written


def riff(*args: object) -> int:
    return main(["riff", "--quiet", "--steps", "1", "--device", "cpu", *map(str, args)])


def aligned(one: np.ndarray, two: np.ndarray) -> tuple[int, float]:
    """Lag of ``two`` behind ``one`` in steps of 10 ms, and the correlation of their onsets there."""
    size = min(len(one), len(two))
    a, b = (rise_of_loudness(each[:size].T.astype(np.float32), RATE)[50:-50] for each in (one, two))
    found = {lag: float(np.corrcoef(a[30:-30], np.roll(b, -lag)[30:-30])[0, 1]) for lag in range(-25, 26)}
    best = max(found, key=lambda lag: found[lag])
    return best, found[best]


def test_a_song_keeps_its_beats_and_its_length(tmp_path: Path) -> None:
    wave = music(13, 107)
    song, out = written(tmp_path, wave), tmp_path / "out.flac"
    assert riff(song, "--prompt", "church organ", "--strength", 0, "-o", out, "--image") == 0
    made, rate = soundfile.read(out)
    assert rate == RATE
    assert len(made) == pytest.approx(13 * RATE, abs=RATE // 20)
    lag, likeness = aligned(wave, made)
    assert abs(lag) <= 2  # also in the third clip
    assert likeness > 0.3  # the codec softens clicks of 15 ms; without a common beat it is below 0.1
    asked = tmp_path / "asked.flac"
    assert riff(song, "--prompt", "church organ", "--strength", 0.6, "-o", asked) == 0
    assert not np.allclose(soundfile.read(asked)[0], made, atol=0.05)
    pictures = sorted(path.name for path in tmp_path.glob("out-*.png"))
    assert pictures == ["out-01.png", "out-02.png", "out-03.png"]
    with Image.open(tmp_path / pictures[0]) as picture:
        assert image_params(picture).frames_per_beat == 64


def test_from_one_song_to_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = written(tmp_path, music(10, 100), "one.flac")
    two = written(tmp_path, music(9, 120, semitones=2), "two.flac")
    out = tmp_path / "out.wav"
    options = ["--to", two, "--prompt", "piano", "--prompt", "techno", "--strength", 0.3, "--json"]
    assert riff(one, *options, "-o", out) == 0
    assert json.loads(capsys.readouterr().out)["seconds"] == pytest.approx(9, abs=0.1)
    made, _ = soundfile.read(out)
    assert np.isfinite(made).all()
    assert np.abs(made).max() > 0.05


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ((), "--prompt"),
        (("--prompt", " "), "1 or more characters"),
        (("--prompt", "a", "--strength", 1.5), "--strength is 1.5"),
        (("--prompt", "a", "--bpm", 500), "bpm is 500"),
        (("--prompt", "a", "--key", 7), "key is 7"),
        (("--prompt", "a", "--seed", -1), "seed is -1"),
        (("--prompt", "a", "--model", "tone"), "does not listen"),
        (("--prompt", "a", "--to", "x", "--prompt", "b", "--prompt", "c"), "one for each recording"),
        (("--prompt", "a", "--seconds", 60), "the length of the music"),
        (("--prompt", "a", "--lufs", 0), "lufs is 0"),
    ],
)
def test_a_mistake_is_named(
    tmp_path: Path, options: tuple[object, ...], shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    song = written(tmp_path, music(3, 120))
    assert riff(song, *options, "-o", tmp_path / "out.flac") == 2
    assert shown in capsys.readouterr().err
    assert not (tmp_path / "out.flac").exists()


def test_a_file_without_sound_is_an_error_of_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.mp3").write_bytes(b"no sound")
    assert riff(tmp_path / "x.mp3", "--prompt", "a", "-o", tmp_path / "out.flac") != 0
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
