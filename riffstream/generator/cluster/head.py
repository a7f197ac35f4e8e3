"""A Ray cluster of this machine alone, for ``ray:local``: it begins and ends with its server.

It writes its address into a file. It ends when its standard input ends, and Ray's processes end with it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Final

from riffstream.generator.cluster.bridge import connect
from riffstream.generator.process import ignore_signals

__all__ = ["main"]

STORE_BYTES: Final = 128 * 2**20  # a beat of audio has 0.4 MB at most, and a few are on their way


def main() -> None:
    """Entry point (``python -m riffstream.generator.cluster.head FILE``)."""
    file = Path(sys.argv[1])
    ignore_signals()
    connect(None, include_dashboard=False, object_store_memory=STORE_BYTES)
    ignore_signals()  # Ray has set its own
    import ray

    new = file.with_suffix(".new")
    new.write_text(ray.get_runtime_context().gcs_address)
    new.replace(file)
    with contextlib.suppress(OSError):
        while os.read(0, 1):
            pass
    ray.shutdown()


if __name__ == "__main__":
    main()
