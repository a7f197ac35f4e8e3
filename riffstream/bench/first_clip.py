"""Time from the start of a process to its first clip of audio: interpreter, torch, weights, a clip, its audio.

The measured process is this module: ``python -m riffstream.bench.first_clip MODEL DEVICE DTYPE RUNTIME``.
"""

from __future__ import annotations

import subprocess
import sys
import time

from riffstream.errors import RiffstreamError

__all__ = ["first_clip"]


def first_clip(
    model: str, device: str = "auto", dtype: str = "auto", runtime: str = "torch", *, runs: int = 3
) -> list[float]:
    """Seconds from the start of a process to a clip of audio, for ``runs`` runs after one to warm the file cache.

    Raises:
        RiffstreamError: the process failed; the message has its stderr.
    """
    command = [sys.executable, "-m", "riffstream.bench.first_clip", model, device, dtype, runtime]
    seconds = []
    for _ in range(runs + 1):
        begin = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            # Measure to the output line: the exit of the process does not count.
            samples = process.stdout.readline()
            seconds.append(time.perf_counter() - begin)
            error = process.communicate()[1]
        if process.returncode or not samples.strip().isdigit():
            raise RiffstreamError(f"the process for the first clip failed: {error.strip()[-500:]}")
    return seconds[1:]


def _make(model: str, device: str, dtype: str, runtime: str) -> int:
    """Number of samples of a clip, rendered with the components of a station."""
    from riffstream.diffusion.checkpoint import Checkpoint
    from riffstream.diffusion.clip import ClipRequest
    from riffstream.diffusion.engine import Engine
    from riffstream.journey.journey import Journey
    from riffstream.spectrogram.vocoder import Vocoder

    family = Checkpoint.load(model, device=device, dtype=dtype, progress=False, runtime=runtime)
    clip = Engine(family).render(ClipRequest(Journey.single("slow jazz piano trio").clip(0)))
    hop = family.params.hop(family.defaults.bpm) if family.beats is not None else family.params.hop()
    return int(Vocoder(family.params)(clip.mel, hop=hop).shape[-1])


if __name__ == "__main__":
    print(_make(*sys.argv[1:]), flush=True)
