"""How a process that runs for weeks gets its memory: glibc's allocator with fixed thresholds.

By default glibc raises the size from which a buffer gets pages of its own each time such a buffer is freed, up to
32 MB. Audio and spectrograms then share one heap with everything small, and one small survivor behind a large buffer
keeps the room of all of it: a server with 60 MB of live data grew to 120 MB of heap within three minutes.
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
    """Fix what glibc would adapt; nothing happens with another C library. Call it before the memory is used.

    Args:
        own_pages_kb: a buffer from this size on gets pages of its own, which go back to the system when it is freed.
            Each costs a page fault for every 4 kB: too low a value slows networks down.
        keep_kb: so much free memory at the heap's end is kept rather than given back.
    """
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError, AttributeError):  # musl has no mallopt
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, own_pages_kb * 1024)
        mallopt(_TRIM_THRESHOLD, keep_kb * 1024)
        mallopt(_ARENA_MAX, 2)
