"""What evaluates the network: the generator's heartbeats say it, and clips are made before, with and after OpenVINO."""

from __future__ import annotations

import queue
import threading
import time
from pathlib import Path

import pytest
import torch

from riffstream.diffusion.compiled.cache import NetworkCache
from riffstream.diffusion.compiled.network import CompiledDenoiser
from riffstream.diffusion.engine import Engine
from riffstream.diffusion.family import Runtime as FamilyRuntime
from riffstream.errors import RiffstreamError
from riffstream.generator.isolation import Isolation
from riffstream.generator.messages import Done, FromGenerator, Heartbeat, Runtime, Shutdown, ToGenerator
from riffstream.generator.model_renderer import ModelRenderer
from riffstream.generator.process import serve
from riffstream.spectrogram.vocoder import Vocoder
from tests.diffusion.compiled.conftest import tiny
from tests.generator.test_model_renderer import job


def test_the_heartbeats_name_the_runtime_and_clips_go_on(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    family, go = tiny(), threading.Event()

    def fail(folder: Path) -> None:
        assert go.wait(60)
        raise RiffstreamError("no memory")

    family.compiled = CompiledDenoiser(family.denoiser, torch.float32, cache=NetworkCache(tmp_path), launch=fail)
    family.compiled.start(32)
    renderer = Isolation(ModelRenderer(Engine(family, steps=2), Vocoder(family.params, device="cpu")))
    commands: queue.Queue[ToGenerator] = queue.Queue()
    found: list[FromGenerator] = []

    def send(report: tuple[FromGenerator, object]) -> None:
        found.append(report[0])

    thread = threading.Thread(target=serve, args=(renderer, commands, send))
    thread.start()
    try:
        commands.put(job(0))
        until(lambda: any(isinstance(each, Done) for each in found))
        go.set()
        fault = Runtime("torch", "OpenVINO cannot be used: no memory", fault=True)
        until(lambda: any(isinstance(each, Heartbeat) and each.runtime == fault for each in found))
        commands.put(job(1, clip=5))
        until(lambda: sum(isinstance(each, Done) for each in found) == 2)
    finally:
        go.set()
        commands.put(Shutdown())
        thread.join(60)
    told = [each.runtime for each in found if isinstance(each, Heartbeat)]
    assert told[0].name == "torch"
    assert not told[0].fault
    assert told[0].note, "it says what torch is used before"


def until(true: object) -> None:
    """Wait until a condition holds, at most a minute."""
    end = time.monotonic() + 60
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("runtime", "text"), [(Runtime("torch"), "torch"), (Runtime("torch", "why"), "torch (why)"), (Runtime(), "")]
)
def test_a_runtime_in_words(runtime: Runtime, text: str) -> None:
    assert str(runtime) == text


def test_other_families_are_evaluated_by_torch() -> None:
    assert tiny().runtime == FamilyRuntime("torch")
