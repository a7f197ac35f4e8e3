"""Listeners at a server with workers and at relays of it: the real commands, few listeners."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from riffstream.bench import crowd
from riffstream.errors import RiffstreamError

needs_proc = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="this system has no /proc")


@needs_proc
def test_every_process_is_measured_with_all_listeners(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    crowd.add_arguments(parser)
    words = ["--listeners", "12", "--workers", "2", "--relays", "1", "--seconds", "1", "--json", "--quiet"]
    assert crowd.run(parser.parse_args(words)) == 0
    found = json.loads(capsys.readouterr().out)["crowd"]
    assert [one["name"] for one in found["processes"]] == ["server", "worker 1", "relay 1"]
    assert all(one["ms_per_s"] > 0 for one in found["processes"])
    report = found["report"]
    assert report["joined"] == 12
    assert report["lost"] == report["gaps"] == 0
    assert report["frames"] > 12


def test_a_listener_that_is_not_admitted_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def few(*args: object, **kwargs: object) -> None:
        """The server takes nobody."""

    monkeypatch.setattr(crowd, "run_sinks", few)
    with pytest.raises(RiffstreamError, match="0 of 5 listeners were admitted"):
        crowd._measured([1], 5, 1.0, {})


@needs_proc
def test_children_are_found_with_their_command_lines() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()  # a child"], stdin=subprocess.PIPE) as child:
        try:
            assert "# a child" in crowd.children(os.getpid())[child.pid]
        finally:
            assert child.stdin is not None
            child.stdin.close()
