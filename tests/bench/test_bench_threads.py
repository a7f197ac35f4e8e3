"""The benchmark of busy machines: its rows are measured in processes of their own, and its table names each of them."""

from __future__ import annotations

import argparse
import json

import pytest

from riffstream.bench import threads
from riffstream.bench.threads import Row, add_arguments, run, table
from riffstream.errors import ParameterError, RiffstreamError


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args([*words, "--quiet"])


@pytest.mark.parametrize(
    ("words", "field"),
    [(["--jobs", "image,dance"], "--jobs"), (["--busy", "two"], "--busy"), (["--busy", "0,65"], "--busy")],
)
def test_bad_options_are_refused_by_name(words: list[str], field: str) -> None:
    with pytest.raises(ParameterError) as caught:
        run(parse(*words))
    assert caught.value.field == field


def test_a_measurement_beside_a_busy_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(threads, "usable_cores", lambda: 1)  # threads that spin take ten seconds each
    assert run(parse("--jobs", "image", "--busy", "1", "--seconds", "0.1", "--json")) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert rows
    for row in rows:
        assert row["busy"] == 1
        assert row["runs"] >= 3
        assert 0 < row["median_s"] <= row["worst_s"]


def test_a_job_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RiffstreamError, match="KeyError"):
        threads._measure("dance", 1, "sleep", 0, 0.1)


def test_the_table_has_a_line_for_each_way() -> None:
    rows = [
        Row(job, count, wait, busy, 0.1 + busy, 0.2 + busy, 3)
        for busy in (0, 2)
        for job, count, wait in (("image", 1, "sleep"), ("image", 2, "spin"), ("image", 2, "sleep"))
    ]
    lines = table(rows).splitlines()
    assert len(lines) == 2 + 3
    assert "2 busy" in lines[0]
    assert "2.1 (2.2)" in lines[4]
    assert "spin" in lines[3]
