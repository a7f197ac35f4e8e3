"""The numbers of the original Riffusion that travel with the tests."""

from __future__ import annotations

import json
import lzma
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.diffusion.conftest import tiny_sd, tiny_sd_folder

__all__ = ["parity_set", "tiny_sd", "tiny_sd_folder"]

COMPACT = Path(__file__).parent.parent / "data" / "parity"


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
