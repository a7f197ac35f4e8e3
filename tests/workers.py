"""How ``pytest -n 3`` shares the tests out: whole files; rooms that play in real time apart from those that compute.

What is built once for a file stays built once. Two browsers at once would keep each other's sound from coming in time
on two cores, so that one worker has them all. The last worker has the files that only compute, at a low priority; the
others come to their aid when the rest is done. A plain ``pytest tests/audio/test_fades.py`` needs none of this.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

IN_TIME = {"bench", "bridge", "browser", "client", "generator", "server", "station"}
"""Rooms whose tests start processes that must keep up with a clock."""

SIMULATED = {f"tests/station/test_{name}.py" for name in ("any_faults", "replay", "timeline")}
"""Long files of those rooms whose clock is simulated."""


def room(nodeid: str) -> str:
    return nodeid.split("/")[1] if "/" in nodeid else ""


def in_time(nodeid: str) -> bool:
    return room(nodeid) in IN_TIME and nodeid.partition("::")[0] not in SIMULATED


def computes(worker: str, count: int) -> bool:
    """Whether a worker, ``gw0`` and so on, has only files that compute."""
    return count > 2 and worker == f"gw{count - 1}"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Share out whole files in the order of :func:`pytest_collection_modifyitems`."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "tests/browser/" if room(nodeid) == "browser" else nodeid.partition("::")[0]

        def _assign_work_unit(self, node: Any) -> None:
            if computes(node.gateway.id, self.numnodes):
                file = next((file for file in self.workqueue if not in_time(file)), None)
                if file is None:
                    node.shutdown()
                    return
                self.workqueue.move_to_end(file, last=False)
            super()._assign_work_unit(node)

    config.option.loadscopereorder = False
    return ByFile(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a worker: browsers first, then what plays in time, long files first, so that none is left for the end."""
    worker = getattr(config, "workerinput", None)
    if worker is None:
        return
    if computes(worker["workerid"], worker["workercount"]) and hasattr(os, "nice"):
        os.nice(3)
    long = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (room(item.nodeid) != "browser", not in_time(item.nodeid), item.path not in long))
