"""How ``pytest -n 3`` shares the tests out: whole files, to workers that prefer one kind each and help when it is done.

What is built once for a file stays built once. The first worker has the browsers. It begins with those whose sound is
captured, as one piece of work: two of them at once would keep each other's sound from coming in time on two cores. The
last worker begins with the files that only compute, at a low priority. The others begin with the files that play in
real time. Only two workers take browsers: with three at once on two cores the pages are late. A plain
``pytest tests/audio/test_fades.py`` needs none of this.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Any

import pytest

IN_TIME = {"bench", "bridge", "client", "generator", "relay", "server", "station"}
"""Rooms whose tests start processes that must keep up with a clock, besides the browsers."""

SIMULATED = {
    "tests/relay/test_any_faults.py",
    "tests/station/test_any_faults.py",
    "tests/station/test_replay.py",
    "tests/station/test_timeline.py",
}
"""Long files of those rooms whose clock is simulated."""

CAPTURED = {
    f"tests/browser/test_{name}.py"
    for name in (
        *("at_a_relay", "audio_element", "decoders", "element", "embedded", "firefox"),
        *("panels", "plain_http", "playing", "watching"),
    )
}
"""Files that capture the sound of a browser."""

BROWSING = 2
"""Workers that take browsers, the first ones."""

KINDS = ("captured", "browser", "in time", "computed")


def kind(nodeid: str) -> str:
    """One of ``KINDS``, of a test or a file."""
    file = nodeid.partition("::")[0]
    room = file.split("/")[1] if "/" in file else ""
    if file in CAPTURED:
        return "captured"
    if room == "browser":
        return "browser"
    return "in time" if room in IN_TIME and file not in SIMULATED else "computed"


def unit(nodeid: str) -> str:
    """The piece of work to which a test belongs: its file, or the first file of all that capture sound."""
    return min(CAPTURED) if kind(nodeid) == "captured" else nodeid.partition("::")[0]


def computes(worker: str, count: int) -> bool:
    """Whether a worker, ``gw0`` and so on, begins with the files that only compute."""
    return count > 2 and worker == f"gw{count - 1}"


def choose(units: Collection[str], worker: str, count: int) -> str | None:
    """The next piece of work for a worker, of those that wait; None: nothing is left for it.

    Args:
        units: in the order of :func:`pytest_collection_modifyitems`; at least one.
        worker: its name.
        count: number of workers.
    """
    wanted: tuple[str, ...]
    if worker == "gw0":
        wanted = ("captured", "browser", "in time", "computed")
    elif computes(worker, count):
        wanted = ("computed", "in time")
    else:
        wanted = ("in time", "browser", "computed", "captured")
    if int(worker.removeprefix("gw")) >= BROWSING:
        wanted = tuple(each for each in wanted if each not in ("browser", "captured"))
    for each in wanted:
        for waiting in units:
            if kind(waiting) == each:
                return waiting
    return None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Share out the pieces of work by :func:`choose`."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return unit(nodeid)

        def _assign_work_unit(self, node: Any) -> None:
            if (chosen := choose(self.workqueue, node.gateway.id, self.numnodes)) is None:
                node.shutdown()  # it ends its last test
                return
            self.workqueue.move_to_end(chosen, last=False)
            super()._assign_work_unit(node)

    config.option.loadscopereorder = False
    return ByFile(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a worker: kind by kind, and in each the long files first, so that none is left for the end."""
    worker = getattr(config, "workerinput", None)
    if worker is None:
        return
    if computes(worker["workerid"], worker["workercount"]) and hasattr(os, "nice"):
        os.nice(3)
    long = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (KINDS.index(kind(item.nodeid)), item.path not in long))
