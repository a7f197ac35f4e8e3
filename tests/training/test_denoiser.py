"""The denoiser's training: what it learns from, resuming, helpers."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from riffstream.training.checkpoints import load_denoiser
from riffstream.training.denoiser import PRESETS, draw, flow_loss, make_job, train_denoiser
from riffstream.training.gradient_helper import GradientHelper
from riffstream.training.latents import LatentSet
from tests.training.small import compile_eagerly, small_denoiser, small_latents

CPU = torch.device("cpu")
PRESET = replace(PRESETS["smoke"], rate=5e-3, adam_rate=5e-3, warm_up=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> LatentSet:
    return small_latents(tmp_path_factory.mktemp("corpus"))


def test_latent_set_knows_meters_splits_and_neighbours(data: LatentSet) -> None:
    assert len(data) == 18
    assert data.triple.sum() == 6
    assert data.held_out.sum() == 3
    assert (data.latents[data.triple][..., 24:] == 0).all()
    firsts = data.previous < 0
    assert firsts.sum() == 6
    assert (data.previous[~firsts] == torch.arange(18)[~firsts] - 1).all()
    assert {data.texts[row] for row in data.captions[0]} <= {"low tone", "low organ 0", "high tone", "high organ 0"}


def test_latent_set_is_restored(data: LatentSet, tmp_path: Path) -> None:
    data.save(tmp_path)
    other = LatentSet(data._corpus, data.codec, data.text)
    other.restore(tmp_path)
    assert torch.equal(other.latents, data.latents)
    assert other.captions == data.captions
    assert other.refresh() == 0


def test_latents_of_songs_that_were_made_anew_are_not_taken_for_theirs(tmp_path: Path) -> None:
    data = small_latents(tmp_path / "corpus")
    data.save(tmp_path)
    song = sorted((tmp_path / "corpus").glob("songs/*/*.json"))[0]
    os.utime(song, ns=(1, 1))
    other = LatentSet(data._corpus, data.codec, data.text)
    other.restore(tmp_path)
    assert len(other) == 0
    assert other.texts == data.texts, "captions stay"
    assert other.refresh() == 6


def test_a_mixed_batch_treats_3_4_as_a_narrow_grid_does(data: LatentSet) -> None:
    model = small_denoiser()
    torch.nn.init.normal_(model.patch_out.weight)
    x = torch.randn(2, 4, 16, 32)
    x[1, :, :, 24:] = 0
    tokens, t = torch.randn(2, 8, 16), torch.tensor([0.3, 0.6])
    with torch.enable_grad():
        mixed = model(x, t, tokens, triple=torch.tensor([False, True]))
        wide = model(x[:1], t[:1], tokens[:1])
        narrow = model(x[1:, ..., :24], t[1:], tokens[1:])
    torch.testing.assert_close(mixed[:1], wide, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(mixed[1:, ..., :24], narrow, atol=1e-4, rtol=1e-4)


def test_training_learns_and_resumes_exactly(data: LatentSet, tmp_path: Path) -> None:
    def train(name: str, steps: int) -> float:
        result = train_denoiser(data, tmp_path / name, PRESET, minutes=10, max_steps=steps, device=CPU)
        assert result["step"] == steps
        return float(result["held_out"])

    whole = train("whole", 60)
    first, second = train("parts", 30), train("parts", 60)
    assert whole < first < 1.9
    assert second == pytest.approx(whole, rel=1e-4)
    a, b = (load_denoiser(tmp_path / name / "denoiser.pt", CPU).state_dict() for name in ("whole", "parts"))
    for name in a:
        torch.testing.assert_close(a[name], b[name], msg=name)


def test_the_last_minutes_leave_the_earlier_state_for_later_runs(data: LatentSet, tmp_path: Path) -> None:
    train_denoiser(data, tmp_path, PRESET, minutes=0.02, decay_minutes=0.015, device=CPU)
    assert (tmp_path / "denoiser_final.pt").is_file()
    kept = torch.load(tmp_path / "denoiser.pt", weights_only=True)
    final = torch.load(tmp_path / "denoiser_final.pt", weights_only=True)
    assert kept["step"] < final["step"]


def test_samples_are_painted_with_every_checkpoint(data: LatentSet, tmp_path: Path) -> None:
    for steps in (3, 6):
        train_denoiser(
            data, tmp_path, PRESET, minutes=10, max_steps=steps, device=CPU, pictures=("low tone", "high tone")
        )
    files = sorted((tmp_path / "samples").iterdir())
    assert [file.name for file in files] == ["000003.webp", "000006.webp"]
    first, second = (np.asarray(Image.open(file)) for file in files)
    assert first.shape == second.shape
    assert first.shape[1] == 2 * 512
    assert (first != second).any(), "of the weights as they are then"
    plain = train_denoiser(data, tmp_path / "plain", PRESET, minutes=10, max_steps=6, device=CPU)
    whole = train_denoiser(data, tmp_path, PRESET, minutes=10, max_steps=6, device=CPU)
    assert whole["held_out"] == pytest.approx(plain["held_out"], rel=1e-4), "looking changes nothing"


def test_helper_adds_its_gradient(data: LatentSet) -> None:
    model = small_denoiser()
    rows = data.rows(held_out=False)
    helper = GradientHelper(model, make_job, (data, rows, 2, 0, 24))
    try:
        flow_loss(model, draw(data, rows, 2, 0, CPU), 24).backward()  # type: ignore[no-untyped-call]
        own = model.patch_out.weight.grad
        assert own is not None
        before = own.clone()
        for _ in range(600):
            if helper.add_to(2):
                break
            time.sleep(0.05)
        else:
            pytest.fail("the helper delivered nothing within 30 s")
        assert not torch.equal(before, own)
        assert torch.isfinite(own).all()
    finally:
        helper.close()
        helper.close()


@pytest.mark.filterwarnings("ignore")  # torch's own, while it traces
def test_compiled_training_takes_the_same_steps(
    data: LatentSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = train_denoiser(data, tmp_path / "plain", PRESET, minutes=10, max_steps=3, device=CPU)
    compiled = compile_eagerly(monkeypatch)
    quick = train_denoiser(data, tmp_path / "quick", PRESET, minutes=10, max_steps=3, device=CPU, compiled=True)
    assert len(compiled) == PRESET.config.layers
    assert quick["held_out"] == pytest.approx(plain["held_out"], rel=1e-3)
