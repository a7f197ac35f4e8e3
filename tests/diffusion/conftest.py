"""Tiny checkpoints for the tests of this room."""

from __future__ import annotations

import json
import lzma
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

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


@pytest.fixture(scope="session")
def parity_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compact set of the original's numbers, unpacked into the layout of the full one."""
    folder = tmp_path_factory.mktemp("parity")
    shutil.copytree(COMPACT, folder, dirs_exist_ok=True)
    packed = lzma.decompress((folder / "weights.xz").read_bytes())
    length = int.from_bytes(packed[:4], "little")
    # Byte planes compress, floats do not: all first bytes, then all second ones, and so on.
    planes = np.frombuffer(packed[4 + length :], np.uint8).reshape(4, -1)
    numbers = planes.T.copy().view("<f4").ravel()
    at = 0
    for part in json.loads(packed[4 : 4 + length]):
        tensors = {}
        for name, shape in part["tensors"]:
            count = int(np.prod(shape))
            tensors[name] = numbers[at : at + count].reshape(shape)
            at += count
        save_file(tensors, str(folder / part["file"]))
    return folder
