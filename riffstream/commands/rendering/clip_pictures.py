"""Pictures of the clips of renderings, beside their audio files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from riffstream.commands._reports import save_image
from riffstream.generator.messages import Job
from riffstream.generator.pictures import picture
from riffstream.generator.renderer import DrawingRenderer

__all__ = ["ClipPictures"]


class ClipPictures:
    """Writer of each clip's picture as ``STEM-01.png``, ``STEM-02.png`` and so on, with parameters as EXIF.

    Args:
        renderer: source of the clips.
        stem: function from the name of a rendering to the path of its files without extension.
    """

    def __init__(self, renderer: DrawingRenderer, stem: Callable[[str], Path]) -> None:
        self._params, self._stem = renderer.params, stem
        self._files: dict[str, dict[int, Path]] = {}
        renderer.on_clip = self._write

    def _write(self, job: Job, mel: np.ndarray) -> None:
        stem = self._stem(job.station)
        path = stem.with_name(f"{stem.name}-{job.spec.index + 1:02}.png")
        save_image(picture(mel, self._params), path)
        self._files.setdefault(job.station, {})[job.spec.index] = path

    def finish(self, name: str, clips: int) -> list[Path]:
        """Keep the pictures of the first ``clips`` clips of a rendering, and return them in order."""
        written = self._files.pop(name, {})
        for index in [index for index in written if index >= clips]:
            written.pop(index).unlink(missing_ok=True)
        return [written[index] for index in sorted(written)]
