"""The GPU's run measures part by part, keeps what it has, and refuses a machine without a GPU."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from riffstream.bench import gpu
from riffstream.bench import model as bench_model
from riffstream.bench.random_sd15 import random_sd15
from riffstream.cli import main
from riffstream.errors import ParameterError
from tests.diffusion.tiny_family import TinyFamily


def arguments(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    gpu.add_arguments(parser)
    return parser.parse_args([*given, "--quiet"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_machine_without_a_gpu_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "gpu"]) != 0
    assert "--small tests this benchmark on the CPU" in capsys.readouterr().err


def test_small_networks_take_the_same_way(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[dict[str, Any]] = []

    def load(args: argparse.Namespace, *, small: bool = False) -> TinyFamily:
        asked.append({"compile": args.compile, "rivals": args.rivals, "guidance": args.guidance, "small": small})
        return TinyFamily()

    monkeypatch.setattr(bench_model, "load", load)
    out = tmp_path / "gpu.json"
    assert gpu.run(arguments("--small", "--only", "sd", "--only", "compiled", "--out", str(out))) == 0
    assert asked == [
        {"compile": False, "rivals": True, "guidance": gpu.GUIDANCE, "small": True},
        {"compile": True, "rivals": False, "guidance": gpu.GUIDANCE, "small": True},
    ]
    found = json.loads(out.read_text())
    assert [row["clips"] for row in found["sd"]["throughput"]] == [1, 2]
    page = capsys.readouterr().out
    assert "say nothing about a GPU" in page
    assert f"## {gpu.PARTS['sd'].title}: Stations at once" in page


def test_a_part_that_fails_or_has_no_time_costs_no_other_part(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(args: argparse.Namespace, **_: Any) -> None:
        raise torch.OutOfMemoryError("no memory for 1.07 billion numbers")

    monkeypatch.setattr(bench_model, "load", fails)
    monkeypatch.setattr(gpu, "_require_gpu", lambda device: None)
    monkeypatch.setattr(
        gpu, "PARTS", gpu.PARTS | {"steers": gpu.Part("Steers", 1, lambda args: {"p50_s": 0.2}, gpu._steers_sections)}
    )
    out = tmp_path / "gpu.json"
    assert gpu.run(arguments("--seconds", "60", "--out", str(out))) == 1
    found = json.loads(out.read_text())
    assert "s were left; it takes about 180 s" in found["sd"]["left_out"]
    assert found["mini"]["failed"] == "OutOfMemoryError: no memory for 1.07 billion numbers"
    assert found["steers"] == {"p50_s": 0.2}
    page = capsys.readouterr().out
    assert "no memory for 1.07 billion" in page
    assert "| 0.2" in page


def test_options_name_their_ranges(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"--seconds.*10 to 36000"):
        gpu.run(arguments("--small", "--seconds", "1"))
    with pytest.raises(ParameterError, match=r"--out.*a file in a folder that exists"):
        gpu.run(arguments("--small", "--out", str(tmp_path / "no" / "gpu.json")))


def test_small_networks_have_the_structure_of_the_large() -> None:
    family = random_sd15(torch.device("cpu"), torch.float32, small=True)
    latents = torch.randn(1, 4, 16, 16)
    text = family.encode_text(["jazz"])
    assert family.denoise(latents, torch.tensor([500.0]), text).shape == latents.shape
    assert sum(parameter.numel() for parameter in family.unet.parameters()) < 2e6
