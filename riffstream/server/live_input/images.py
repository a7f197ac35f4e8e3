"""Images of live inputs on disk, for the generator and for replays: the newest ones, named by their content.

Threading model: any thread, one call at a time for each object.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections import OrderedDict
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import soundfile
from numpy.typing import NDArray

from riffstream.models.uploads import ABOUT, AUDIO, BEATS, INPUTS, RATE, Upload

__all__ = ["InputImages"]

KEPT: Final = 64  # about 100 MB


class InputImages:
    """Writer of the images.

    Args:
        uploads: folder of uploaded seed images; theirs is inside.
        kept: number of images; the oldest is deleted.
    """

    def __init__(self, uploads: Path, kept: int = KEPT) -> None:
        self.folder = uploads / INPUTS
        self._most = kept
        self._kept: OrderedDict[str, None] = OrderedDict()
        self.folder.mkdir(exist_ok=True)
        found = sorted(self.folder.glob("live-*"), key=lambda path: path.stat().st_mtime)
        for path in found:
            self._kept[path.name] = None
        for path in self.folder.glob(".work-*"):
            shutil.rmtree(path, ignore_errors=True)

    def write(self, loop: NDArray[np.float32], bpm: float, key: float) -> str:
        """Write a loop [n, channels] of 8 beats; return its name. Raises OSError."""
        about = f"{loop.shape} {bpm:.2f} {key:g}"
        name = f"live-{hashlib.blake2b(loop.tobytes() + about.encode(), digest_size=6).hexdigest()}"
        if name in self._kept:
            self._kept.move_to_end(name)
            return name
        work = self.folder / f".work-{name}-{os.getpid()}"
        work.mkdir(exist_ok=True)
        try:
            soundfile.write(work / AUDIO, loop, RATE, subtype="PCM_16")
            entry = Upload(
                name=name, title="live input", bpm=round(bpm, 2), seconds=BEATS * 60 / bpm, key=key, kind="audio"
            )
            (work / ABOUT).write_bytes(msgspec.json.encode(entry))
            work.rename(self.folder / name)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
        self._kept[name] = None
        while len(self._kept) > self._most:
            self.delete(next(iter(self._kept)))
        return name

    def delete(self, name: str) -> None:
        """Delete an image that no clip uses."""
        self._kept.pop(name, None)
        with contextlib.suppress(OSError):
            shutil.rmtree(self.folder / name)
