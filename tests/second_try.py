"""``make test``: pytest, with a second try for a few tests that failed beside others.

A busy machine may fail a test that waits for a player, a browser or a clock. ``python -m tests.second_try -n 3`` runs
pytest with these words. Up to ``MOST`` failed tests then run again in a new process, one after the other. The output
names those that passed alone; each one is a test to mend. The run fails if a test fails twice, if more failed, and
after an error while tests were collected or the crash of a process, which have no second try.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

MOST = 20
ALONE = "--alone"


class Outcomes:
    """A plugin that notes which tests passed and failed, and whether anything else went wrong."""

    def __init__(self) -> None:
        self.failed: dict[str, None] = {}
        self.passed: set[str] = set()
        self.broken = False
        self.root = Path.cwd()

    def pytest_configure(self, config: pytest.Config) -> None:
        self.root = config.rootpath

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed[report.nodeid] = None
        elif report.passed and report.when == "call":
            self.passed.add(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.broken |= report.failed

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        self.broken |= error is not None


def run(words: list[str]) -> int:
    """Run pytest with these words, and again what failed; return the exit status."""
    first = Outcomes()
    status = int(pytest.main(words, plugins=[first]))
    if status != pytest.ExitCode.TESTS_FAILED or first.broken or not 0 < len(first.failed) <= MOST:
        return status
    print("\nfailed beside others, and tried again alone:", *first.failed, sep="\n  ", flush=True)
    again = [sys.executable, "-m", "tests.second_try", ALONE, *first.failed]
    return subprocess.run(again, cwd=first.root).returncode


def run_alone(tests: list[str]) -> int:
    """Run these tests one after the other, and say how each ended; return 0 if all passed."""
    second = Outcomes()
    status = int(pytest.main(["-p", "no:cacheprovider", *tests], plugins=[second]))
    well = [test for test in tests if test in second.passed and test not in second.failed]
    print()
    for test in tests:
        print("passed alone:" if test in well else "failed twice:", test, flush=True)
    return status or int(len(well) < len(tests))


if __name__ == "__main__":
    words = sys.argv[1:]
    sys.exit(run_alone(words[1:]) if words[:1] == [ALONE] else run(words))
