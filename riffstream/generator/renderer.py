"""The interface of renderers, and a test tone that needs no model.

``model_renderer.py`` has the renderer with a model (torch). This module does not import torch.

Threading model
  One thread (the generator's main thread; the caller's own offline) makes every call of a renderer.
"""

from __future__ import annotations

import time
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from riffstream.generator.messages import Cancelled, Done, FromGenerator, Info, Job, Pcm, Picture, Piece
from riffstream.generator.pictures import jpeg
from riffstream.spectrogram.params import SpectrogramParams

__all__ = ["DrawingRenderer", "Renderer", "Report", "ToneRenderer", "make_tone"]

Report = tuple[FromGenerator, Pcm | None]


class Renderer(Protocol):
    """Interface of a renderer: it converts jobs to audio in bounded pieces of work."""

    @property
    def info(self) -> Info:
        """What it makes."""

    @property
    def pending(self) -> int:
        """Jobs in hand."""

    def submit(self, job: Job) -> None:
        """Accept a job. Jobs of a take must come in order."""

    def cancel(self, station: str, take: int, number: int) -> list[Report]:
        """Drop a job without audio so far; returns :class:`Cancelled` if it was dropped."""

    def drop(self, station: str, take: int) -> None:
        """Discard a take and its jobs."""

    def forget(self, station: str) -> None:
        """Forget a station."""

    def step(self) -> list[Report]:
        """Do a piece of the most urgent work. A job's pieces come in order, followed by :class:`Done`."""


class DrawingRenderer(Renderer, Protocol):
    """A renderer whose clips can be seen.

    Attributes:
        on_clip: called with each new clip's job and mel amplitudes [A, M, T]; None: nothing is called.
    """

    on_clip: Callable[[Job, np.ndarray], None] | None

    @property
    def params(self) -> SpectrogramParams:
        """Spectrogram parameters of the clips."""


@dataclass(slots=True)
class _Tone:
    """A job in progress of the test renderer."""

    job: Job
    waits: int
    beat: int


class ToneRenderer:
    """Test renderer: a tone with a pitch derived from the prompts and a metronome, identical on every machine.

    For timing tests and for load tests of the server (``generator.model = "tone"``). A take is one continuous tone.
    Every beat has a click of 5 ms, an octave higher on the first beat of a bar. The clicks are its drums.

    Args:
        waits: number of steps before the first audio of a clip.
        step_s: sleep per step in seconds, to simulate work.
        sleep: sleep function, replaced in tests.
        clicks: True adds the clicks.
        level: amplitude of the tone, 0 to 1.
    """

    def __init__(
        self,
        *,
        waits: int = 1,
        step_s: float = 0.0,
        sleep: Callable[[float], None] = time.sleep,
        clicks: bool = True,
        level: float = 0.1,
    ) -> None:
        self.info = Info(model="tone", steps=4, guidance=2.0)
        self.params = SpectrogramParams()
        self.on_clip: Callable[[Job, np.ndarray], None] | None = None
        self._waits, self._step_s, self._sleep, self._clicks = waits, step_s, sleep, clicks
        self._level = level
        self._jobs: deque[_Tone] = deque()
        self._ends: dict[tuple[str, int], float] = {}  # exact end of each take's audio in samples of the take
        self._known: set[tuple[str, int]] = set()

    @property
    def pending(self) -> int:
        return len(self._jobs)

    def submit(self, job: Job) -> None:
        known = (job.station, job.clip) in self._known
        self._jobs.append(_Tone(job, 0 if known else self._waits, 0))

    def cancel(self, station: str, take: int, number: int) -> list[Report]:
        for tone in self._jobs:
            job = tone.job
            if (job.station, job.take, job.number) == (station, take, number) and tone.beat == 0:
                self._jobs.remove(tone)
                return [(Cancelled(station, take, number), None)]
        return []

    def drop(self, station: str, take: int) -> None:
        self._jobs = deque(tone for tone in self._jobs if (tone.job.station, tone.job.take) != (station, take))
        self._ends.pop((station, take), None)

    def forget(self, station: str) -> None:
        self._jobs = deque(tone for tone in self._jobs if tone.job.station != station)
        self._ends = {key: end for key, end in self._ends.items() if key[0] != station}
        self._known = {key for key in self._known if key[0] != station}

    def step(self) -> list[Report]:
        if not self._jobs:
            return []
        if self._step_s:
            self._sleep(self._step_s)
        tone = min(self._jobs, key=lambda each: (each.job.speculative, each.job.deadline))
        if tone.waits > 0:
            tone.waits -= 1
            return []
        job = tone.job
        reports: list[Report] = []
        if tone.beat == 0 and (job.single or self.on_clip is not None):
            mel = _mel(job)
            if job.single:
                reports.append((Picture(job.station, job.take, job.number, jpeg(mel, self.params)), None))
            if self.on_clip is not None:
                self.on_clip(job, mel)
        if (pcm := self._piece(tone)) is not None:
            reports.append((Piece(job.station, job.take, job.number, trace=job.trace), pcm))
        tone.beat += 1
        if tone.beat == len(job.hops):
            self._jobs.remove(tone)
            new = (job.station, job.clip) not in self._known
            self._known.add((job.station, job.clip))
            reports.append((Done(job.station, job.take, job.number, evaluations=int(new)), None))
        return reports

    def _piece(self, tone: _Tone) -> Pcm | None:
        """One beat of a job's audio; None before the job's first frame."""
        job = tone.job
        per_beat = self.info.frames // self.info.beats
        skip = max(0, job.start_frame - tone.beat * per_beat)
        if skip >= per_beat:
            return None
        key = (job.station, job.take)
        begin = self._ends.get(key, 0.0)
        hop = job.hops[tone.beat]
        end = begin + (per_beat - skip) * hop
        self._ends[key] = end
        n = np.arange(round(begin), round(end))
        pitch = pitch_of(job) * 2 ** (job.key / 12)
        sound = self._level * np.sin(2 * np.pi * pitch * n / 48_000)
        drums = np.zeros(len(n))
        if self._clicks and skip == 0:
            m = min(240, len(n))
            strong = 2 if tone.beat % (len(job.hops) // 2) == 0 else 1  # a clip is two bars
            drums[:m] = 0.3 * np.sin(2 * np.pi * 1000 * strong * np.arange(m) / 48_000) * np.hanning(m)
            sound += drums
        columns = [sound, sound, drums, drums] if job.stems else [sound, sound]
        return np.stack(columns, axis=1).astype(np.float32)


def pitch_of(job: Job) -> float:
    """Pitch of a job's tone in Hz, 200 to 800, interpolated like the prompts."""
    total = sum(part.weight for part in job.spec.prompts)
    mean = sum((zlib.crc32(part.text.encode()) % 601) * part.weight for part in job.spec.prompts) / total
    return 200.0 + mean


def _mel(job: Job) -> np.ndarray:
    """Spectrogram of a job's tone, [1, 512, 512]: one line, 16 rows above the lowest for each 100 Hz."""
    mel = np.zeros((1, 512, 512), np.float32)
    mel[:, round(pitch_of(job) * 16 / 100)] = 30e6
    return mel


def make_tone(options: dict[str, Any], progress: Callable[[str], None]) -> ToneRenderer:
    """Factory of :class:`ToneRenderer` for the generator process; ``options`` are its arguments."""
    progress("tone")
    return ToneRenderer(**options)
