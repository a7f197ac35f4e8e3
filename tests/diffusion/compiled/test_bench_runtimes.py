"""The benchmark of both runtimes: every figure of both, in one run."""

from __future__ import annotations

import json

import pytest

from riffstream.bench import model
from riffstream.bench.runtimes import RUNTIMES, ready
from riffstream.diffusion.mini.family import MiniFamily
from riffstream.errors import RiffstreamError
from tests.diffusion.test_bench_model import arguments


def test_both_runtimes_are_measured_in_one_run(
    fast: MiniFamily, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(model, "load", lambda args: fast)
    monkeypatch.setattr(model, "first_clip", lambda *given, runs: [1.0] * runs)
    args = arguments("--runtime", "both", "--runs", "1", "--stations", "1,2", "--steps", "2", "--json", "--quiet")
    assert model.run(args) == 0
    report = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in report["runtimes"]] == [
        "evaluation, 1 row",
        "evaluation, 8 rows",
        "clip with its audio",
        "1 station without vocoder",
        "2 stations without vocoder",
    ]
    for each in report["runtimes"]:
        for times in (each["seconds"], each["cpu_s"]):
            assert set(times) == set(RUNTIMES)
            assert min(times.values()) > 0
    assert report["runtimes"][4]["audio_s"] == pytest.approx(5 * report["audio_s_per_clip"])
    assert all(0 < value < 1e-3 for value in report["differences"].values()), "two runtimes, one result"
    assert report["evaluation"]["gflop"] > 0
    assert fast.runtime.name == "openvino", "the model is as before"
    table = model.render(report)
    assert "| 2 stations without vocoder |" in table
    assert "mel of a clip" in table


def test_openvino_alone_has_its_operations_counted(
    fast: MiniFamily, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(model, "load", lambda args: fast)
    given: list[tuple[object, ...]] = []
    monkeypatch.setattr(model, "first_clip", lambda *names, runs: given.append(names) or [1.0])
    assert model.run(arguments("--runtime", "openvino", "--runs", "1", "--stations", "1", "--json", "--quiet")) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["evaluation"]["gflop"] > 0
    assert given == [("mini", "auto", "auto", "openvino")]


def test_a_network_that_cannot_be_used_is_no_measurement(fast: MiniFamily) -> None:
    assert fast.compiled is not None
    fast.compiled._networks[32].give_up("it broke")
    with pytest.raises(RiffstreamError, match="it broke"):
        ready(fast)
