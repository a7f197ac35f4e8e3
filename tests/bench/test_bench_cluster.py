"""The benchmark of a Ray cluster: its options, and a short run on one."""

from __future__ import annotations

import argparse
import json

import pytest

from riffstream.bench.cluster import Row, add_arguments, run, table
from riffstream.errors import ParameterError


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(words)


@pytest.mark.parametrize(("words", "field"), [(["--clips", "0"], "--clips"), (["--generator", "local"], "--generator")])
def test_bad_options_are_refused_by_name(words: list[str], field: str) -> None:
    with pytest.raises(ParameterError) as caught:
        run(parse(*words))
    assert caught.value.field == field


def test_the_table_names_each_way() -> None:
    assert "| ray:local | 2.0 (3.0)" in table([Row("ray:local", 2.0, 3.0, 4.0, 5.0, 10)])


@pytest.mark.slow
def test_clips_pass_through_both_ways(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed: no run of its benchmark")
    assert run(parse("--clips", "5", "--json")) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [(row["way"], row["clips"]) for row in rows] == [("pipe", 5), ("ray:local", 5)]
    assert all(0 < row["first_ms"] < row["clip_ms"] for row in rows)
