"""What the server is told of a model."""

from __future__ import annotations

import pytest
import torch

from riffstream.diffusion.mini.family import MiniFamily
from riffstream.generator.model_info import describe
from tests.diffusion.tiny_family import TinyFamily


def test_a_model_with_beats_says_how_many_frames_they_take() -> None:
    family = TinyFamily()
    info = describe(family, family.frames)
    assert (info.model, info.frames, info.beats, info.bpm) == ("tiny", 128, 8, 120.0)
    assert info.meters == {4: (128, 8), 3: (96, 6)}
    assert info.hop == 375.0  # 64 frames a beat, 24,000 samples
    assert (info.steps, info.guidance, info.denoising) == (6, 3.0, 0.75)


def test_without_beats_clips_count_as_two_bars() -> None:
    family = TinyFamily("ddpm", continues=False)
    family.beats = None
    assert describe(family, 96).meters == {4: (96, 8), 3: (96, 6)}


def test_another_weight_is_another_model() -> None:
    family = MiniFamily.random(seed=1)
    before = describe(family, 512).weights
    assert describe(family, 512).weights == before
    with torch.no_grad():
        next(family.denoiser.parameters()).flatten()[0] += 1.0
    assert describe(family, 512).weights != before


def test_another_map_of_distances_is_another_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same steer of a recording gives other clips, so a log of the older version is not replayed as this one's."""
    family = MiniFamily.random()
    before = describe(family, 512).weights
    monkeypatch.setattr(MiniFamily, "start_time", lambda self, denoising: denoising)
    assert describe(family, 512).weights != before
