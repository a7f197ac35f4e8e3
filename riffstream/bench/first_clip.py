"""How long a fresh process takes to its first clip of sound: interpreter, torch, weights, a clip, its audio.

Run as a module it is that process: ``python -m riffstream.bench.first_clip MODEL DEVICE DTYPE``.
"""

from __future__ import annotations

import subprocess
import sys
import time

from riffstream.errors import RiffstreamError

__all__ = ["first_clip"]


def first_clip(model: str, device: str = "auto", dtype: str = "auto", *, runs: int = 3) -> list[float]:
    """Seconds from the start of a process until a clip is audio, ``runs`` times after one that warms the file cache.

    Raises:
        RiffstreamError: the process failed, with what it said.
    """
    command = [sys.executable, "-m", "riffstream.bench.first_clip", model, device, dtype]
    seconds = []
    for _ in range(runs + 1):
        begin = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            # The line, not the end: what a process tears down afterwards is nobody's wait.
            samples = process.stdout.readline()
            seconds.append(time.perf_counter() - begin)
            error = process.communicate()[1]
        if process.returncode or not samples.strip().isdigit():
            raise RiffstreamError(f"the process for the first clip failed: {error.strip()[-500:]}")
    return seconds[1:]


def _make(model: str, device: str, dtype: str) -> int:
    """Samples of a clip, made with what a station uses."""
    from riffstream.diffusion.checkpoint import Checkpoint
    from riffstream.diffusion.clip import ClipRequest
    from riffstream.diffusion.engine import Engine
    from riffstream.journey.journey import Journey
    from riffstream.spectrogram.vocoder import Vocoder

    family = Checkpoint.load(model, device=device, dtype=dtype, progress=False)
    clip = Engine(family).render(ClipRequest(Journey.single("slow jazz piano trio").clip(0)))
    hop = family.params.hop(family.defaults.bpm) if family.beats is not None else family.params.hop()
    return int(Vocoder(family.params)(clip.mel, hop=hop).shape[-1])


if __name__ == "__main__":
    print(_make(*sys.argv[1:]), flush=True)
