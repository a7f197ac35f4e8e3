"""CPU threads: how many cores this process may use, and how its threads wait for each other.

Torch-free. The settings are environment variables. The OpenMP runtime reads them when torch is loaded, so they are set
before that. Child processes inherit them.
"""

from __future__ import annotations

import math
import os
from collections.abc import MutableMapping
from pathlib import Path

__all__ = ["WAITING", "limit_threads", "usable_cores", "wait_passively"]

# Any of these in the environment is the user's own choice of how threads wait (OpenMP's standard, GNU's, LLVM's).
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
_CGROUP_V2 = Path("/sys/fs/cgroup/cpu.max")
_CGROUP_V1 = Path("/sys/fs/cgroup/cpu")


def wait_passively(environment: MutableMapping[str, str] = os.environ) -> None:
    """Have OpenMP threads sleep at barriers, unless the user chose otherwise.

    By default they spin. Beside another busy process, a thread then spins for a core that the other process holds, and
    one image takes seconds in place of a quarter of one (docs/performance.md). ``riffstream`` calls this when it is
    imported; it has no effect where torch was loaded before.
    """
    if not any(name in environment for name in WAITING):
        environment["OMP_WAIT_POLICY"] = "PASSIVE"


def usable_cores() -> int:
    """Cores this process may use, at least 1: its CPU affinity, and a container's CPU quota rounded up."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota()
    return max(1, cores if quota is None else min(cores, math.ceil(quota)))


def limit_threads(threads: int = 0) -> None:
    """Set how many CPU threads torch will use; call it before torch is imported.

    By default all cores but one, unless ``OMP_NUM_THREADS`` is set: the threads of one product wait for each other, so
    a server, an encoder or a browser on the last core delays them all, while a second thread saves little on a network
    as small as the embedded one (docs/performance.md).

    Args:
        threads: 1 or more; 0: the default.
    """
    if threads == 0 and "OMP_NUM_THREADS" in os.environ:
        return
    os.environ["OMP_NUM_THREADS"] = str(threads or max(1, usable_cores() - 1))


def _quota() -> float | None:
    """Cores that the control group of this process grants; None without a limit."""
    try:
        granted, period = _CGROUP_V2.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        try:
            granted = (_CGROUP_V1 / "cpu.cfs_quota_us").read_text(encoding="ascii")
            period = (_CGROUP_V1 / "cpu.cfs_period_us").read_text(encoding="ascii")
        except (OSError, ValueError):
            return None
    try:
        share = float(granted) / float(period)
    except (ValueError, ZeroDivisionError):
        return None  # "max"
    return share if share > 0 else None
