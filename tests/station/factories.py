"""Renderers for generator processes that misbehave on purpose."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from riffstream.errors import CheckpointError
from riffstream.generator.messages import Failed, Job
from riffstream.generator.renderer import Report, ToneRenderer


class Hostile(ToneRenderer):
    """A metronome that goes wrong once, ``after`` jobs into its life; ``flag`` is a file that remembers it did."""

    def __init__(self, how: str, flag: str, after: int = 3) -> None:
        super().__init__(clicks=False)
        self._how, self._flag, self._after = how, Path(flag), after
        self._jobs_seen = 0

    def submit(self, job: Job) -> None:
        self._jobs_seen += 1
        super().submit(job)

    def step(self) -> list[Report]:
        if self._jobs_seen > self._after and not self._flag.exists():
            self._flag.touch()
            match self._how:
                case "crash":
                    raise ValueError("broken on purpose")
                case "exit":
                    os._exit(1)
                case "stall":
                    time.sleep(60)
                case "memory":
                    raise MemoryError("not enough")
                case "print":
                    print("a library that prints", flush=True)
                    os.write(1, b"and one that writes to the descriptor\n")
        return super().step()


def hostile(options: dict[str, Any], progress: Callable[[str], None]) -> Hostile:
    progress("hostile")
    options = {key: value for key, value in options.items() if key != "max_batch"}
    return Hostile(**options)


class OutOfMemoryError(RuntimeError):
    """Named as torch's, which this process need not import."""


class Poisoned(ToneRenderer):
    """A metronome that does what a prompt says: raise, exit, segfault, stall, or run out of memory."""

    def step(self) -> list[Report]:
        for tone in self._jobs:
            match tone.job.spec.prompts[0].text:
                case "raise":
                    raise ValueError("broken on purpose")
                case "exit":
                    os._exit(1)
                case "segfault":
                    signal.signal(signal.SIGSEGV, signal.SIG_DFL)
                    os.kill(os.getpid(), signal.SIGSEGV)
                case "stall":
                    time.sleep(60)
                case "memory":
                    raise OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().step()


def poisoned(options: dict[str, Any], progress: Callable[[str], None]) -> Poisoned:
    return Poisoned(clicks=False)


LOAD_FAULTS: dict[str, Callable[[], object]] = {
    "memory": lambda: _raised(MemoryError()),
    "cuda": lambda: _raised(OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")),
    "cpu": lambda: _raised(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.")),
    "import": lambda: _raised(ImportError("libcudart.so.12: cannot open shared object file")),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
}


def _raised(error: Exception) -> None:
    raise error


def faulty_start(options: dict[str, Any], progress: Callable[[str], None]) -> ToneRenderer:
    """Fails to load in a given way, ``times`` times (all files in ``folder`` count); every start's options are kept."""
    folder = Path(options["folder"])
    number = len(list(folder.iterdir()))
    (folder / f"{number}").write_text(str(options.get("max_batch", "")))
    if number < options["times"]:
        LOAD_FAULTS[options["how"]]()
    return ToneRenderer(clicks=False)


def unloadable(options: dict[str, Any], progress: Callable[[str], None]) -> ToneRenderer:
    raise CheckpointError(f"there is no checkpoint {options['model']}")


def slow_to_load(options: dict[str, Any], progress: Callable[[str], None]) -> ToneRenderer:
    time.sleep(60)
    return ToneRenderer()


class Choosy(ToneRenderer):
    """A metronome that knows one seed image."""

    def step(self) -> list[Report]:
        for tone in self._jobs:
            job, image = tone.job, tone.job.spec.start.seed_image
            if image not in (None, "known"):
                self._jobs.remove(tone)
                return [(Failed(job.station, job.take, job.number, "parameter", f"seed_image is {image!r}"), None)]
        return super().step()


def choosy(options: dict[str, Any], progress: Callable[[str], None]) -> ToneRenderer:
    return Choosy()
