"""The benchmark of joins measures a real server."""

from __future__ import annotations

import json

import pytest

from riffstream.bench import joins
from riffstream.cli import main


def test_a_join_costs_time_and_memory(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(joins, "STEADY_S", 0.5)
    assert main(["bench", "joins", "--listeners", "40", "--json", "--quiet"]) == 0
    found = json.loads(capsys.readouterr().out)["joins"]
    assert found["listeners"] == 40
    assert found["joins_per_s"] > 1
    assert 10 < found["join_us"] < 100_000
    assert main(["bench", "joins", "--listeners", "9"]) == 2
    assert "--listeners" in capsys.readouterr().err
