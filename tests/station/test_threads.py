"""How many CPU threads the generator takes."""

from __future__ import annotations

import os

import pytest

from riffstream.station.rendering import limit_threads


@pytest.mark.parametrize(
    ("cores", "threads", "expected"), [(1, 0, "1"), (2, 0, "1"), (8, 0, "7"), (8, 3, "3"), (2, 16, "16")]
)
def test_one_core_is_left_to_the_server_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, cores: int, threads: int, expected: str
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    limit_threads(threads)
    assert os.environ["OMP_NUM_THREADS"] == expected


def test_the_environment_wins_over_the_default_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    limit_threads()
    assert os.environ["OMP_NUM_THREADS"] == "5"
    limit_threads(2)
    assert os.environ["OMP_NUM_THREADS"] == "2"
