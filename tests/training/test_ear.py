"""``riffstream train ear``: the ear of a model, from the corpus to the model folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from riffstream.cli import main
from riffstream.diffusion.mini.ear import EAR, TrainedEar
from riffstream.diffusion.mini.sounds import FILE, Sounds, fingerprint
from riffstream.errors import CheckpointError, ParameterError
from riffstream.training import ear as ears
from riffstream.training.ear import Labels, build_ear
from riffstream.training.latents import LatentSet
from riffstream.training.loop import Log
from riffstream.training.sounds import build_sounds
from tests.training.small import small_latents
from tests.training.test_distil import CPU


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ears, "OWN", {**ears.OWN, "width": 8, "blocks": 1})


@pytest.fixture
def data(tmp_path: Path) -> LatentSet:
    return small_latents(tmp_path / "corpus")


def build(data: LatentSet, out: Path, minutes: float = 0.02) -> int:
    labels = Labels.of(data, out / "corpus")
    return build_ear(data, labels, out, minutes=minutes, seed=0, device=CPU, log=Log(out, "ear", quiet=True))


@pytest.mark.parametrize("with_sounds", [True, False])
def test_the_ear_is_of_the_codec_and_of_the_sounds(data: LatentSet, tmp_path: Path, with_sounds: bool) -> None:
    channels, rows, columns = data.latents.shape[1:]
    shape, sounds = (channels, rows, columns), None
    if with_sounds:
        build_sounds(data, tmp_path / FILE, 4, Labels.of(data, tmp_path / "corpus"))
        sounds = Sounds(tmp_path / FILE, shape)
    assert build(data, tmp_path) == (tmp_path / EAR).stat().st_size < 200_000
    reader = None if sounds is None else sounds.reader
    ear = TrainedEar(tmp_path / EAR, shape, 24, fingerprint(data.codec), reader)
    words = torch.nn.functional.normalize(data.tokens[1, 0].float(), dim=0)
    fits = ear.fit(data.latents[:3], words, None)
    assert (len(set(fits.tolist())) > 1) == with_sounds, "words count with a reader"
    with pytest.raises(CheckpointError, match="another codec"):
        TrainedEar(tmp_path / EAR, shape, 24, "00")


@pytest.mark.parametrize("minutes", [0.0, -1.0, 601.0, float("nan")])
def test_an_untrained_ear_is_refused(data: LatentSet, tmp_path: Path, minutes: float) -> None:
    with pytest.raises(ParameterError, match="minutes"):
        build(data, tmp_path, minutes)
    assert not (tmp_path / EAR).exists()


def test_sounds_of_another_codec_are_refused(data: LatentSet, tmp_path: Path) -> None:
    build_sounds(data, tmp_path / FILE, 4)
    data.codec.latent_scale *= 2
    with pytest.raises(CheckpointError, match="another codec"):
        build(data, tmp_path)


def test_the_command_writes_the_file(
    data: LatentSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("riffstream.training.denoiser.prepare_data", lambda *_: data)
    arguments = ["train", "ear", "--corpus", f"{tmp_path}/corpus", "--out", str(tmp_path), "--minutes", "0.01"]
    assert main([*arguments, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"bytes": (tmp_path / EAR).stat().st_size, "file": str(tmp_path / EAR)}
    assert main([*arguments, "--minutes", "0"]) != 0
    assert "minutes" in capsys.readouterr().err
