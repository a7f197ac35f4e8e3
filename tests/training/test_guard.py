"""Steps that are not finite: they are passed over, a run of them ends the training, and saved states stay good."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from riffstream.training import codec, denoiser, distil, loop
from riffstream.training.guard import StepGuard, TrainingError, all_finite
from riffstream.training.latents import LatentSet
from tests.training.small import small_latents, write_corpus

CPU = torch.device("cpu")
PRESET = replace(denoiser.PRESETS["smoke"], warm_up=1)
CODEC = replace(codec.PRESETS["smoke"], config=replace(codec.PRESETS["smoke"].config, channels=2))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> LatentSet:
    return small_latents(tmp_path_factory.mktemp("corpus"))


def poison(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, bad: Callable[[int], bool]) -> None:
    """Losses that ``bad`` names by their number (of those with a gradient) become NaN, and so do their gradients."""
    real, numbers = getattr(module, name), itertools.count()

    def loss(*args: Any, **options: Any) -> Tensor:
        value: Tensor = real(*args, **options)
        return value * torch.nan if value.requires_grad and bad(next(numbers)) else value

    monkeypatch.setattr(module, name, loss)


def train_denoiser(data: LatentSet, out: Path, steps: int) -> dict[str, Any]:
    return denoiser.train_denoiser(data, out, PRESET, minutes=10, max_steps=steps, device=CPU)


def test_a_bad_step_changes_nothing(data: LatentSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_denoiser(data, tmp_path, 2)
    before = torch.load(tmp_path / "denoiser.pt", weights_only=True)
    poison(monkeypatch, denoiser, "flow_loss", lambda number: True)
    result = train_denoiser(data, tmp_path, 4)
    after = torch.load(tmp_path / "denoiser.pt", weights_only=True)
    assert (after["step"], after["examples"]) == (4, before["examples"]), "the numbers of bad batches are used up"
    assert result["held_out"] > 0
    for name, value in before["model"].items():
        assert torch.equal(after["model"][name], value), name
    assert all_finite(after)


def test_training_goes_on_after_a_bad_step(data: LatentSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, denoiser, "flow_loss", lambda number: number == 1)
    train_denoiser(data, tmp_path, 4)
    state = torch.load(tmp_path / "denoiser.pt", weights_only=True)
    assert (state["step"], state["examples"]) == (4, 3 * PRESET.batch)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["skipped"] for line in lines if "skipped" in line] == [1]


def test_endless_bad_steps_end_the_denoiser(data: LatentSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_denoiser(data, tmp_path, 2)
    before = (tmp_path / "denoiser.pt").read_bytes()
    poison(monkeypatch, denoiser, "flow_loss", lambda number: True)
    with pytest.raises(TrainingError, match="10 steps in a row"):
        train_denoiser(data, tmp_path, 1000)
    assert (tmp_path / "denoiser.pt").read_bytes() == before


def test_endless_bad_steps_end_a_distillation(data: LatentSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_denoiser(data, tmp_path, 2)
    distil.distil(data, tmp_path, PRESET, minutes=1e-4, device=CPU)
    before = (tmp_path / "distilled.pt").read_bytes()
    poison(monkeypatch, distil, "walk_loss", lambda number: True)
    with pytest.raises(TrainingError, match="not finite"):
        distil.distil(data, tmp_path, PRESET, minutes=10, device=CPU)
    assert (tmp_path / "distilled.pt").read_bytes() == before


def test_endless_bad_steps_end_the_codec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = write_corpus(tmp_path / "corpus")
    codec.train_codec(corpus, tmp_path, CODEC, minutes=1e-4, device=CPU, quiet=True)
    before = (tmp_path / "codec.pt").read_bytes()
    poison(monkeypatch, codec, "codec_loss", lambda number: True)
    with pytest.raises(TrainingError, match="not finite"):
        codec.train_codec(corpus, tmp_path, CODEC, minutes=10, device=CPU, quiet=True)
    assert (tmp_path / "codec.pt").read_bytes() == before


def test_a_finite_loss_with_an_infinite_gradient_is_refused() -> None:
    guard = StepGuard(limit=3)
    assert not guard.passes(torch.tensor(1.0), torch.tensor(torch.inf))
    assert not guard.passes(torch.tensor(torch.nan), torch.tensor(1.0))
    assert guard.passes(torch.tensor(1.0), torch.tensor(1.0)), "two bad ones, then a good one"
    assert not guard.passes(torch.tensor(torch.nan), torch.tensor(1.0))
    assert not guard.passes(torch.tensor(torch.nan), torch.tensor(1.0))
    assert guard.skipped == 4
    with pytest.raises(TrainingError):
        guard.passes(torch.tensor(torch.nan), torch.tensor(1.0))


def test_a_state_that_is_not_finite_never_replaces_a_good_one(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    loop.save_state(path, {"model": {"a": torch.ones(2)}, "optimisers": [{"state": {0: {"m": torch.ones(2)}}}]})
    with pytest.raises(TrainingError, match="keeps the last good state"):
        loop.save_state(path, {"model": {"a": torch.ones(2)}, "optimisers": [{"state": {0: {"m": torch.ones(2) / 0}}}]})
    state = loop.load_state(path, CPU)
    assert state is not None
    assert torch.equal(state["optimisers"][0]["state"][0]["m"], torch.ones(2))


def test_the_log_is_json_whatever_the_numbers_are(tmp_path: Path) -> None:
    loop.Log(tmp_path, "denoiser", quiet=True)(loss=float("nan"), rate=float("inf"), step=3)
    line = (tmp_path / "log.jsonl").read_text()
    read = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert (read["loss"], read["rate"], read["step"]) == (None, None, 3)
