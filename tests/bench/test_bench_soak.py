"""What the soak makes of its samples, and that it keeps them."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path

import pytest

from riffstream.bench import soak as module
from riffstream.bench.live import serving
from riffstream.bench.soak import Sample, Soak, soak, write_json


def run_of(seconds: float, total: list[float]) -> Soak:
    samples = [Sample(5.0 * n, 100.0, value - 100.0) for n, value in enumerate(total)]
    return Soak(seconds, samples=samples)


def test_growth_counts_from_minute_five() -> None:
    rising = [400 + min(n, 60) for n in range(361)]  # for five minutes, and then no more
    found = run_of(1800, rising)
    assert found.growth_percent == pytest.approx(0, abs=0.7)
    assert abs(found.slope_mb_per_hour) < 0.1
    assert [each.total_mb for each in found.minutes][:2] == [412, 424]
    assert len(found.minutes) == 30


def test_a_leak_is_seen() -> None:
    found = run_of(1800, [500 + 0.05 * n for n in range(361)])  # 36 MB an hour
    assert found.slope_mb_per_hour == pytest.approx(36, rel=0.01)
    assert found.growth_percent == pytest.approx(100 * 14.85 / 503, rel=0.05)


def test_a_spike_does_not_hide_or_make_a_leak() -> None:
    total = [500.0] * 361
    total[60] = total[-1] = 700
    assert run_of(1800, total).growth_percent == 0


def test_looks_without_a_generator_do_not_count() -> None:
    found = run_of(1800, [500.0] * 361)
    found.samples[100] = Sample(500.0, 100.0, 0.0)
    assert found.growth_percent == 0
    assert abs(found.slope_mb_per_hour) < 1e-6


def test_figures_are_json_before_anything_is_known(tmp_path: Path) -> None:
    figures = Soak(1800).to_dict()
    assert figures["p50_s"] is None
    assert math.isnan(Soak(1800).growth_percent)
    write_json(tmp_path / "x.json", figures)
    assert json.loads((tmp_path / "x.json").read_text())["complete"] is False
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_a_soak_of_the_metronome_tells_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVERY_S", 0.5)
    told: list[int] = []

    async def measure() -> Soak:
        async with serving(["--model", "tone"]) as (url, process):
            return await soak(url, process.pid, 6.0, every_s=2.0, told=lambda found: told.append(len(found.samples)))

    found = asyncio.run(measure())
    assert found.complete
    assert found.error == ""
    assert len(found.delays.seconds) == 3
    assert found.delays.played_s > 4
    assert found.samples[-1].server_mb > 20
    assert told == [len(found.samples)]


def test_a_soak_whose_server_dies_keeps_what_it_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVERY_S", 0.5)

    async def measure() -> Soak:
        async with serving(["--model", "tone"]) as (url, process):
            asyncio.get_running_loop().call_later(4.0, process.terminate)
            return await soak(url, process.pid, 12.0, every_s=2.0)

    found = asyncio.run(measure())
    assert found.delays.seconds
    assert found.delays.failed > 0 or found.error
    assert found.blind > 0
    assert found.samples
