"""The benchmark runs on tiny models, and its figures hang together."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
import torch

from riffstream.bench import model
from riffstream.bench.first_clip import first_clip
from riffstream.bench.model_measure import clip_seconds, evaluation, matmul_rate, percentile, rivals, throughput
from riffstream.diffusion.sd.family import StableDiffusion
from riffstream.errors import ParameterError, RiffstreamError
from tests.diffusion.tiny_family import TinyFamily

# diffusers' schedulers call numpy in a way that numpy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def arguments(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    model.add_arguments(parser)
    return parser.parse_args(list(given))


def test_report_of_a_checkpoint(tiny_sd_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ("--model", str(tiny_sd_folder), "--device", "cpu", "--dtype", "float32", "--steps", "2")
    args = arguments(*given, "--runs", "2", "--stations", "1,3", "--rivals", "--json", "--quiet")
    assert model.run(args) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    report = json.loads(printed.out)
    assert len(report["first_clip_s"]) == 2
    assert min(report["first_clip_s"]) > 0.1, "no interpreter starts faster"
    stages = {stage["name"]: stage["p50_s"] for stage in report["stages"]}
    assert list(stages) == ["text", "denoise", "decode", "vocode", "clip"]
    assert all(value > 0 for value in stages.values())
    assert [row["clips"] for row in report["throughput"]] == [1, 3]
    for row in report["throughput"]:
        assert row["real_time"] == pytest.approx(report["audio_s_per_clip"] / row["seconds_per_clip"])
        assert row["p50_s"] <= row["p95_s"]
    assert [row["batch"] for row in report["rivals"]] == [1, 3, 1]
    assert report["evaluation"]["share_of_matrix_rate"] > 0
    assert any("no GPU" in note for note in report["notes"])
    table = model.render(report)
    assert "| denoise " in table
    assert "Riffusion's way" in table
    assert "to a clip of sound" in table


def test_progress_goes_to_stderr_and_a_random_giant_is_timed_once_on_a_cpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    family = TinyFamily()
    monkeypatch.setattr(model, "load", lambda args: family)
    assert model.run(arguments("--model", "sd15-random")) == 0
    printed = capsys.readouterr()
    assert "measuring one evaluation" in printed.err
    assert "6 steps would take about" in printed.out
    assert len(family.calls) == 2, "one to count its operations, one to time"


def test_rows_that_fail_name_the_option() -> None:
    for given, field in (("--stations=0", "stations"), ("--stations=a", "stations"), ("--steps=0", "steps")):
        with pytest.raises(ParameterError, match=field):
            model.run(arguments(given))
    with pytest.raises(ParameterError, match="runs"):
        model.run(arguments("--runs=0"))


def test_flop_are_counted() -> None:
    family = TinyFamily()
    seconds, flop = evaluation(family, batch=2, runs=1)
    cells = 2 * 4 * 8
    assert flop == 2 * 9 * (8 * 16 + 16 * 4) * cells, "two 3x3 convolutions"
    assert seconds > 0
    assert matmul_rate(torch.device("cpu"), torch.float32, size=64) > 1e6


def test_stations_share_batches() -> None:
    family = TinyFamily(guidance=1.0)
    result = throughput(family, clips=4, steps=3, guidance=None, rounds=2)
    assert max(family.calls) == 4
    assert result.clips_per_second == pytest.approx(1 / result.seconds_per_clip)
    assert clip_seconds(family) == 4.0, "8 beats at 120"
    assert percentile([3.0, 1.0, 2.0], 0.95) == 3.0


def test_rivals_run_the_same_networks(tiny_sd: StableDiffusion) -> None:
    calls = []
    handle = tiny_sd.unet.register_forward_hook(lambda *args: calls.append(args[1][0].shape[0]))
    try:
        found = rivals(tiny_sd, steps=2, guidance=3.0, stations=2, runs=1)
    finally:
        handle.remove()
    assert [rival.steps for rival in found] == [2, 2, 50]
    assert sorted(set(calls)) == [2, 4], "guided pairs, alone and two at a time"


def test_a_process_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(RiffstreamError, match="absent"):
        first_clip(str(tmp_path / "absent"))
