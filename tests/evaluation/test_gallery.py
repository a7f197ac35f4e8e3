"""The gallery: renders through the command line, hears finished audio, and says what it heard."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from riffstream.cli import main
from riffstream.errors import ParameterError
from riffstream.evaluation.gallery import hear, picture, windows
from riffstream.evaluation.probe import Probe


@pytest.fixture
def probe(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "probe.safetensors"
    Probe(["techno", "jazz"], ["piano", "drums", "bass"]).save(path)
    return path


def test_windows_are_eight_beats_of_the_audio() -> None:
    samples = np.zeros((48_000 * 10, 2), np.float32)
    beat = 60 / 120 * 48_000
    for k in range(20):  # a click on each beat of the second stretch of 8 alone
        if 8 <= k < 16:
            samples[round(k * beat) + 240 : round(k * beat) + 480] = 0.5
    mels = windows(samples, 120.0)
    assert [mel.shape for mel in mels] == [(2, 256, 512)] * 2
    assert mels[1].max() > 100 * mels[0][..., :-16].max()
    beats = mels[1].sum((0, 1)).reshape(8, 64)
    assert (beats[:, :8].max(1) > 10 * beats[:, 16:48].max(1)).all()
    with pytest.raises(ParameterError, match="8 beats"):
        windows(samples[: 48_000 * 3], 120.0)


def test_pictures_are_dark_where_it_is_loud() -> None:
    mel = np.full((2, 256, 512), 1e-4, np.float32)
    mel[:, :64] = 1.0
    shade = np.array(picture([mel]))
    assert shade[-20:].mean() < 10
    assert shade[:60].mean() > 250


def test_opinions_are_averaged_over_clips() -> None:
    torch.manual_seed(1)
    probe = Probe(["techno", "jazz"], ["piano", "drums", "bass"])
    rng = np.random.default_rng(0)
    mels = [rng.random((2, 256, 512)).astype(np.float32) * level for level in (1, 100)]
    both, one, other = hear(probe, mels), hear(probe, mels[:1]), hear(probe, mels[1:])
    assert sum(both.styles.values()) == pytest.approx(1, abs=0.02)
    for style, share in both.styles.items():
        assert share == pytest.approx((one.styles[style] + other.styles[style]) / 2, abs=0.011)


def test_the_command_renders_hears_and_lists(tmp_path: Path, probe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = ["--model", "tone", "--seconds", "5", "--prompt", "techno", "--prompt", "a piano"]
    code = main(["train", "gallery", *told, "--probe", str(probe), "--out", str(tmp_path / "out"), "--json"])
    assert code == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["prompt"] for row in rows] == ["techno", "a piano"]
    assert set(rows[0]["styles"]) == {"techno", "jazz"}
    assert "| 2 | a piano |" in (tmp_path / "out" / "gallery.md").read_text()
    with Image.open(tmp_path / "out" / "gallery.jpg") as image:
        assert image.size == (1024, 320)


def test_what_cannot_be_rendered_is_said(tmp_path: Path) -> None:
    assert main(["train", "gallery", "--bpm", "5", "--out", str(tmp_path / "out"), "--quiet"]) == 2
