"""Evaluations by OpenVINO: parity with torch, preparation in the background, cache, and the return to torch."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from riffstream.diffusion.checkpoint import Checkpoint
from riffstream.diffusion.clip import ClipRequest
from riffstream.diffusion.compiled import network
from riffstream.diffusion.compiled.cache import SUFFIX, NetworkCache
from riffstream.diffusion.compiled.convert import JOB, RESULT, write_job
from riffstream.diffusion.compiled.network import CompiledDenoiser
from riffstream.diffusion.engine import Engine
from riffstream.diffusion.family import TextEmbedding
from riffstream.diffusion.mini.family import MiniFamily
from riffstream.errors import ParameterError, RiffstreamError
from riffstream.journey.conditions import SIZE
from riffstream.journey.journey import ClipSpec, Keyframe
from tests.conftest import ROOT
from tests.diffusion.compiled.conftest import never, tiny

# float32 sums in another order: 2e-6 is measured. A clip repeats it over its steps, and its mel is exponential.
EVALUATION, CLIP = 2e-5, 1e-3


def inputs(batch: int, tokens: int, seed: int = 0) -> tuple[Tensor, Tensor, TextEmbedding, dict[str, Tensor]]:
    """An evaluation of mixed clips: with and without previous clip, with weighted and ignored tokens, conditions."""
    generator = torch.Generator().manual_seed(seed)
    x, previous = (torch.randn(batch, 4, 16, 32, generator=generator) * 2 for _ in range(2))
    mask = torch.rand(batch, tokens, generator=generator) * 2
    mask[:, tokens // 2 + 1 :: 2] = 0
    text = TextEmbedding(torch.randn(batch, tokens, 16, generator=generator), mask)
    conditions = torch.rand(batch, 16, SIZE, generator=generator).round()
    given = torch.arange(batch) % 2 == 0
    extra = {"previous": previous, "previous_mask": given, "conditions": conditions}
    return x, torch.rand(batch, generator=generator), text, extra


def difference(made: Tensor, wanted: Tensor) -> float:
    """Largest difference relative to the largest value."""
    return float((made - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize(("batch", "tokens"), [(1, 2), (1, 17), (3, 16), (8, 40), (16, 64)])
@pytest.mark.parametrize("without", [(), ("conditions",), ("previous", "previous_mask"), ("previous_mask",)])
def test_an_evaluation_equals_torch(fast: MiniFamily, batch: int, tokens: int, without: tuple[str, ...]) -> None:
    x, t, text, extra = inputs(batch, tokens)
    extra = {name: value for name, value in extra.items() if name not in without}
    made = fast.denoise(x, t, text, **extra)
    wanted = tiny().denoise(x, t, text, **extra)
    assert not torch.equal(made, wanted), "torch did it"
    assert made.dtype == torch.float32
    assert difference(made, wanted) < EVALUATION
    assert fast.runtime.name == "openvino"


def test_every_input_counts(fast: MiniFamily) -> None:
    x, t, text, extra = inputs(2, 5)
    whole = fast.denoise(x, t, text, **extra)
    other = inputs(2, 5, seed=1)
    for name in extra:
        changed = {**extra, name: ~extra[name] if name == "previous_mask" else other[3][name]}
        assert difference(fast.denoise(x, t, text, **changed), whole) > 1e-3, name
    weightless = TextEmbedding(text.tokens)
    for name, made in (
        ("x", fast.denoise(other[0], t, text, **extra)),
        ("t", fast.denoise(x, 1 - t, text, **extra)),
        ("text", fast.denoise(x, t, other[2], **extra)),
        ("mask", fast.denoise(x, t, weightless, **extra)),
    ):
        assert difference(made, whole) > 1e-3, name


def clips(family: MiniFamily) -> list[Tensor]:
    """Mels of eight stations with different steps, guidance, texts and previous clips, in common batches."""
    engine = Engine(family)
    first = engine.render(request(0, steps=2))
    tickets = []
    for number in range(1, 9):
        previous = first.latents if number % 3 else None
        tickets.append(engine.submit(request(number, steps=2 + number, previous=previous)))
    while engine.pending:
        engine.tick()
    assert all(ticket.clip is not None for ticket in tickets)
    return [ticket.clip.mel for ticket in tickets if ticket.clip is not None]


def request(number: int, *, steps: int, previous: Tensor | None = None) -> ClipRequest:
    """A clip of the number's text, seed, guidance and conditions."""
    text = "piano " * (1 + 3 * number)
    keyframe = Keyframe.of(text, seed=number, guidance=2.0 if number % 2 else 1.0, denoising=1.0)
    conditions = None
    if number % 4:
        conditions = torch.rand(16, SIZE, generator=torch.Generator().manual_seed(number)).round().numpy()
    spec = ClipSpec(keyframe, keyframe, 0.0)
    return ClipRequest(spec, steps=steps, previous=previous, conditions=conditions, station=str(number))


def test_the_clips_of_eight_stations_equal_those_of_torch(fast: MiniFamily) -> None:
    for number, (made, wanted) in enumerate(zip(clips(fast), clips(tiny()), strict=True)):
        assert not torch.equal(made, wanted), number
        assert difference(made, wanted) < CLIP, number


def test_torch_evaluates_until_the_network_is_ready(cache: NetworkCache, relaunch: Callable[[Path], None]) -> None:
    family, go = tiny(), threading.Event()
    empty = NetworkCache(cache.folder / "empty")

    def slow(folder: Path) -> None:
        assert go.wait(60)
        relaunch(folder)

    family.compiled = CompiledDenoiser(family.denoiser, family.dtype, cache=empty, launch=slow)
    x, t, text, extra = inputs(2, 5)
    wanted = tiny().denoise(x, t, text, **extra)
    assert torch.equal(family.denoise(x, t, text, **extra), wanted)  # the first one begins the preparation
    assert (family.runtime.name, family.runtime.fault) == ("torch", False)
    go.set()
    assert family.compiled.wait(60).name == "openvino"
    made = family.denoise(x, t, text, **extra)
    assert not torch.equal(made, wanted)
    assert difference(made, wanted) < EVALUATION


def test_patient_evaluations_wait_for_the_network(cache: NetworkCache, relaunch: Callable[[Path], None]) -> None:
    results = []
    for _ in range(2):
        family = tiny()
        family.compiled = CompiledDenoiser(family.denoiser, family.dtype, cache=cache, launch=never)
        family.compiled.patient = True
        x, t, text, extra = inputs(2, 5)
        results.append(family.denoise(x, t, text, **extra))
        assert family.runtime.name == "openvino"
    assert torch.equal(*results)


@pytest.mark.parametrize("fill", [lambda data: data[:1000], lambda data: b""])
def test_a_damaged_cache_is_made_again(
    cache: NetworkCache, relaunch: Callable[[Path], None], fill: Callable[[bytes], bytes]
) -> None:
    (file,) = cache.folder.glob(f"*{SUFFIX}")
    file.write_bytes(fill(file.read_bytes()))
    made: list[Path] = []

    def counted(folder: Path) -> None:
        made.append(folder)
        relaunch(folder)

    for _ in range(2):
        compiled = CompiledDenoiser(tiny().denoiser, torch.float32, cache=cache, launch=counted)
        compiled.start(32)
        assert compiled.wait(60).name == "openvino"
    assert len(made) == 1, "the second start finds the new file"


def test_a_whole_file_that_is_no_network_is_made_again(
    cache: NetworkCache, relaunch: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    (file,) = cache.folder.glob(f"*{SUFFIX}")
    cache.store(file.stem, b"no network")
    compiled = CompiledDenoiser(tiny().denoiser, torch.float32, cache=cache, launch=relaunch)
    compiled.start(32)
    assert compiled.wait(60).name == "openvino"
    assert "made again" in caplog.text


def test_other_weights_and_precisions_have_networks_of_their_own(cache: NetworkCache) -> None:
    for denoiser, dtype in ((tiny(seed=5).denoiser, torch.float32), (tiny().denoiser, torch.bfloat16)):
        asked: list[Path] = []

        def refuse(folder: Path, asked: list[Path] = asked) -> None:
            asked.append(folder)
            raise RiffstreamError("not here")

        compiled = CompiledDenoiser(denoiser, dtype, cache=cache, launch=refuse)
        compiled.start(32)
        runtime = compiled.wait(60)
        assert len(asked) == 1
        assert (runtime.name, runtime.fault) == ("torch", True)
        assert runtime.note == "OpenVINO cannot be used: not here"


def test_a_network_with_another_result_is_refused(cache: NetworkCache, relaunch: Callable[[Path], None]) -> None:
    family = tiny(seed=5)
    family.compiled = CompiledDenoiser(family.denoiser, family.dtype, cache=cache, launch=relaunch)
    family.compiled.start(32)
    runtime = family.compiled.wait(60)
    assert runtime.fault
    assert "differs from torch's" in runtime.note
    x, t, text, extra = inputs(2, 5)
    assert torch.equal(family.denoise(x, t, text, **extra), tiny(seed=5).denoise(x, t, text, **extra))


@pytest.mark.parametrize("fault", ["raises", "not finite"])
def test_torch_takes_over_within_the_same_evaluation(
    fast: MiniFamily, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    def broken(request: Any, arrays: Any) -> Tensor:
        if fault == "raises":
            raise RuntimeError("[CPU] the node has failed")
        return torch.full((2, 4, 16, 32), float("nan"))

    monkeypatch.setattr("riffstream.diffusion.compiled.network.evaluate", broken)
    x, t, text, extra = inputs(2, 5)
    assert torch.equal(fast.denoise(x, t, text, **extra), tiny().denoise(x, t, text, **extra))
    assert fast.runtime.fault
    assert ("the node has failed" in fast.runtime.note) == (fault == "raises")
    monkeypatch.undo()
    assert torch.equal(fast.denoise(x, t, text, **extra), tiny().denoise(x, t, text, **extra)), "torch stays"


def test_a_folder_that_cannot_be_written_costs_only_the_next_start(
    cache: NetworkCache, relaunch: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    (cache.folder / "file").write_bytes(b"")
    closed = NetworkCache(cache.folder / "file" / "below")
    compiled = CompiledDenoiser(tiny().denoiser, torch.float32, cache=closed, launch=relaunch)
    compiled.start(32)
    assert compiled.wait(60).name == "openvino"
    assert "cannot be kept" in caplog.text


def test_a_conversion_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "write_job", lambda folder, *_: (folder / JOB).write_text('{"config": {}}'))
    compiled = CompiledDenoiser(tiny().denoiser, torch.float32, cache=NetworkCache(tmp_path))
    compiled.start(32)
    runtime = compiled.wait(60)
    assert runtime.fault
    assert "holds no weights.safetensors" in runtime.note


@pytest.mark.skipif(sys.platform == "win32", reason="signals and scripts are of POSIX systems")
def test_a_conversion_that_crashes_leaves_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crashing = tmp_path / "python"
    crashing.write_text("#!/bin/sh\nkill -SEGV $$\n", encoding="ascii")
    crashing.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(crashing))
    compiled = CompiledDenoiser(tiny().denoiser, torch.float32, cache=NetworkCache(tmp_path / "cache"))
    compiled.start(32)
    assert compiled.wait(60).note == "OpenVINO cannot be used: the conversion ended with code -11: without a message"


def test_a_conversion_ends_with_the_process_that_wants_it(tmp_path: Path) -> None:
    write_job(tmp_path, tiny().denoiser, 32, {})
    command = [sys.executable, "-m", "riffstream.diffusion.compiled.convert", str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(60) == 1
    assert not (tmp_path / RESULT).exists()


def test_other_lengths_of_clips_stay_with_torch(fast: MiniFamily) -> None:
    x, t, text, _ = inputs(1, 5)
    assert torch.equal(fast.denoise(x[..., :16], t, text), tiny().denoise(x[..., :16], t, text))
    assert fast.runtime.name == "openvino"


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "openvino" else found(name))
    with pytest.raises(ParameterError, match=r"riffstream\[openvino\]"):
        Checkpoint.load("mini", runtime="openvino")


def test_what_openvino_is_not_for_is_an_error(tiny_sd_folder: Path) -> None:
    with pytest.raises(ParameterError, match=r"runtime.*embedded model"):
        Checkpoint.load(tiny_sd_folder, device="cpu", dtype="float32", runtime="openvino", progress=False)
    with pytest.raises(ParameterError, match="torch or openvino"):
        Checkpoint.load("mini", runtime="onnx")
