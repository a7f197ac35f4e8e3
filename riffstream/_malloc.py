"""Fixed thresholds for glibc's allocator, so that a process that runs for weeks does not grow.

By default glibc raises its mmap threshold each time a large buffer is freed, up to 32 MB. Audio and spectrograms then
share one heap with small objects, and one small object behind a large buffer keeps all of its memory: a server with
60 MB of live data grew to 120 MB of heap within three minutes.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from typing import Final

__all__ = ["fix_thresholds"]

_TRIM_THRESHOLD: Final = -1  # names of mallopt(3)
_MMAP_THRESHOLD: Final = -3
_ARENA_MAX: Final = -8


def fix_thresholds(*, own_pages_kb: int, keep_kb: int) -> None:
    """Fix the thresholds that glibc adapts by default. It has no effect with another C library. Call it at the start.

    Args:
        own_pages_kb: buffers of this size or more are mapped separately and returned to the system when freed. Each
            costs a page fault for every 4 kB: too low a value slows networks down.
        keep_kb: free memory at the end of the heap that is not returned to the system.
    """
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError, AttributeError):  # musl has no mallopt
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, own_pages_kb * 1024)
        mallopt(_TRIM_THRESHOLD, keep_kb * 1024)
        mallopt(_ARENA_MAX, 2)
