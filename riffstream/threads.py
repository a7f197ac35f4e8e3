"""CPU threads: the number of usable cores, and the way threads wait for each other.

No torch here. The settings are environment variables. The OpenMP runtime reads them when torch is loaded, so they are
set before. Child processes inherit them.
"""

from __future__ import annotations

import math
import os
from collections.abc import MutableMapping
from pathlib import Path

__all__ = ["WAITING", "limit_threads", "usable_cores", "wait_passively"]

# Any of these in the environment is the user's own choice (OpenMP's standard, GNU's, LLVM's).
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
_CGROUP_V2 = Path("/sys/fs/cgroup/cpu.max")
_CGROUP_V1 = Path("/sys/fs/cgroup/cpu")


def wait_passively(environment: MutableMapping[str, str] = os.environ) -> None:
    """Make OpenMP threads sleep at barriers, unless the user chose otherwise.

    By default they spin. Beside another busy process a thread then spins while it waits for a core, and one image takes
    seconds instead of a quarter of a second (docs/performance.md). ``import riffstream`` calls this; it has no effect
    if torch was loaded before.
    """
    if not any(name in environment for name in WAITING):
        environment["OMP_WAIT_POLICY"] = "PASSIVE"


def usable_cores() -> int:
    """Number of cores for this process, at least 1: its CPU affinity, limited by the CPU quota rounded up."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota()
    return max(1, cores if quota is None else min(cores, math.ceil(quota)))


def limit_threads(threads: int = 0) -> None:
    """Set the number of CPU threads for torch. Call it before torch is imported.

    The default is all cores but one, unless ``OMP_NUM_THREADS`` is set. The threads of one matrix product wait for each
    other, so a server, an encoder or a browser on the last core delays them all, and one more thread gains little on a
    small network (docs/performance.md).

    Args:
        threads: 1 or more; 0: the default.
    """
    if threads == 0 and "OMP_NUM_THREADS" in os.environ:
        return
    os.environ["OMP_NUM_THREADS"] = str(threads or max(1, usable_cores() - 1))


def _quota() -> float | None:
    """CPU quota of this process's control group in cores; None without a limit."""
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
