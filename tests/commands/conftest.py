from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from riffstream.audio.files import write_audio
from riffstream.cli import main

RunResult = tuple[int, str, str]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., RunResult]:
    """``run("print-exif", "--image", path)`` gives the exit code, stdout and stderr, as a shell would see them."""

    def call(*arguments: object) -> RunResult:
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as error:  # argparse's way out
            code = int(error.code or 0)
        out = capsys.readouterr()
        return code, out.out, out.err

    return call


@pytest.fixture
def song(tmp_path: Path) -> Path:
    """A three-second stereo file: 440 Hz on the left, 1 kHz on the right."""
    return make_song(tmp_path / "song.wav")


def make_song(path: Path, *, seconds: float = 3, rate: int = 44_100, channels: int = 2, hz: float = 440) -> Path:
    """Write a file of sines, another pitch on each channel."""
    time = np.arange(round(seconds * rate)) / rate
    columns = [0.3 * np.sin(2 * np.pi * pitch * time) for pitch in (hz, 1_000, 250, 500, 660, 880)[:channels]]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_audio(path, np.stack(columns, axis=1).astype(np.float32), rate)
    return path


def picture(path: Path) -> NDArray[np.uint8]:
    """An image's pixels, [height, width, 3]."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))
