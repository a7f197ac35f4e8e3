"""A tiny model with every input of the shipped one, and its converted network, made once for the session."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from riffstream.diffusion.compiled.cache import SUFFIX, NetworkCache
from riffstream.diffusion.compiled.convert import RESULT
from riffstream.diffusion.compiled.network import CompiledDenoiser
from riffstream.diffusion.mini.denoiser import Denoiser
from riffstream.diffusion.mini.family import MiniFamily
from riffstream.journey.conditions import SIZE


def tiny(seed: int = 0) -> MiniFamily:
    """A tiny model with context, conditions and emphasis."""
    family = MiniFamily.random(seed=seed, conditions=SIZE)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        grown = Denoiser(replace(family.denoiser.config, context=2))
        for parameter in grown.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)
    family.denoiser = grown.eval().requires_grad_(False)
    family.defaults = replace(family.defaults, silence=1.0, contrast=1.5)
    return family


@pytest.fixture(scope="session", autouse=True)
def needed() -> None:
    """Skip the tests of this room without the package."""
    pytest.importorskip("openvino", reason="the extra openvino is not installed")


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the network of ``tiny()`` for 4/4, converted in a process. Do not write to it."""
    folder = tmp_path_factory.mktemp("networks")
    compiled = CompiledDenoiser(tiny().denoiser, torch.float32, cache=NetworkCache(folder))
    compiled.start(32)
    runtime = compiled.wait()
    assert runtime.name == "openvino", runtime.note
    return folder


@pytest.fixture
def cache(converted: Path, tmp_path: Path) -> NetworkCache:
    """A copy of that cache."""
    shutil.copytree(converted, tmp_path / "networks")
    return NetworkCache(tmp_path / "networks")


@pytest.fixture
def relaunch(converted: Path) -> Callable[[Path], None]:
    """A conversion that gives the network of ``tiny()`` whatever it is asked for."""
    (file,) = converted.glob(f"*{SUFFIX}")
    data = NetworkCache(converted).load(file.stem)
    assert data is not None
    return lambda folder: (folder / RESULT).write_bytes(data) and None


@pytest.fixture
def fast(cache: NetworkCache) -> MiniFamily:
    """``tiny()``, evaluated by OpenVINO."""
    family = tiny()
    family.compiled = CompiledDenoiser(family.denoiser, family.dtype, cache=cache, launch=never)
    family.compiled.start(32)
    assert family.compiled.wait().name == "openvino"
    return family


def never(folder: Path) -> None:
    """A conversion that must not happen."""
    raise AssertionError(f"{folder} was to be converted")
