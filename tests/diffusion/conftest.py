"""Tiny checkpoints for the tests of this room."""

from __future__ import annotations

from pathlib import Path

import pytest

from riffstream.diffusion.checkpoint import Checkpoint
from riffstream.diffusion.sd.family import StableDiffusion
from tests.diffusion.tiny import write_tiny_sd

COMPACT = Path(__file__).parent.parent / "data" / "parity"


@pytest.fixture(scope="session")
def tiny_sd_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable Diffusion checkpoint with random weights; latents 4 x 8 x 8. Do not write to it: copy it."""
    return write_tiny_sd(tmp_path_factory.mktemp("tiny_sd"))


@pytest.fixture(scope="session")
def tiny_sd(tiny_sd_folder: Path) -> StableDiffusion:
    """That checkpoint, loaded in float32 on the CPU. Do not change its weights."""
    family = Checkpoint.load(tiny_sd_folder, device="cpu", dtype="float32", progress=False)
    assert isinstance(family, StableDiffusion)
    return family
