"""Isolation of failures: an exception ends only the job that raised it.

If an exception does not identify its job, all jobs without audio are withdrawn and tried one at a time. The same is
done with the jobs in progress when a generator process ended (``Job.suspect``), so that a job that ends the process
again is identified with certainty.

Threading model
  One thread makes every call (the generator's main thread).
"""

from __future__ import annotations

import traceback
from collections import deque
from typing import Final

import msgspec

from riffstream.errors import ParameterError, RiffstreamError, device_lost, out_of_memory
from riffstream.generator.messages import Cancelled, Done, Failed, Info, Job, Piece, Trial
from riffstream.generator.renderer import Renderer, Report

__all__ = ["BrokenRendererError", "Isolation", "failure"]

BROKEN: Final = 8  # consecutive failed jobs after which the process is replaced
REMEMBERED: Final = 256  # code locations whose traceback was reported already

_Key = tuple[str, int, int]  # station, take, number


class BrokenRendererError(RiffstreamError):
    """Every job fails: the process must be replaced."""


class Isolation:
    """Wrapper of a renderer that raises only exceptions that end the whole process.

    Args:
        renderer: the wrapped renderer.

    Raises (from ``step``, ``cancel``, ``drop`` and ``forget``):
        Exception: memory ran out or the device is lost (see ``errors``).
        BrokenRendererError: ``BROKEN`` jobs in a row failed.
    """

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer
        self._jobs: dict[_Key, Job] = {}  # in the renderer, oldest first
        self._sounding: set[_Key] = set()  # jobs of them with audio
        self._held: deque[Job] = deque()  # not submitted to the renderer yet
        self._announced: _Key | None = None  # suspect whose trial was reported
        self._alone = False  # True during a trial: no other job is submitted to the renderer
        self._samples: dict[tuple[str, int], int] = {}  # samples of each take reported so far
        self._failures = 0
        self._seen: deque[str] = deque(maxlen=REMEMBERED)

    @property
    def info(self) -> Info:
        """What it makes."""
        return self._renderer.info

    @property
    def pending(self) -> int:
        """Jobs in hand."""
        return len(self._jobs) + len(self._held)

    def submit(self, job: Job) -> None:
        """Accept a job; a later step submits it to the renderer."""
        self._held.append(job)

    def cancel(self, station: str, take: int, number: int) -> list[Report]:
        """Drop a job without audio so far; returns :class:`Cancelled` if it was dropped."""
        key = (station, take, number)
        for job in self._held:
            if _key(job) == key:
                self._held.remove(job)
                return [(Cancelled(*key), None)]
        return self._follow(self._renderer.cancel(*key))

    def drop(self, station: str, take: int) -> None:
        """Discard a take and its jobs."""
        self._held = deque(job for job in self._held if (job.station, job.take) != (station, take))
        self._leave([key for key in self._jobs if key[:2] == (station, take)])
        self._samples.pop((station, take), None)
        self._renderer.drop(station, take)

    def forget(self, station: str) -> None:
        """Forget a station."""
        self._held = deque(job for job in self._held if job.station != station)
        self._leave([key for key in self._jobs if key[0] == station])
        self._samples = {take: count for take, count in self._samples.items() if take[0] != station}
        self._renderer.forget(station)

    def step(self) -> list[Report]:
        """Do a piece of work. A step that announces a trial does nothing else, so that the report is sent first."""
        if self._failures >= BROKEN:
            raise BrokenRendererError(f"{self._failures} clips in a row failed")
        reports = self._admit()
        if reports or not self._jobs:
            return reports
        try:
            made = self._renderer.step()
        except Exception as error:
            _raise_if_fatal(error)
            return self._track_down(error)
        return self._follow(made)

    def _admit(self) -> list[Report]:
        """Submit held jobs to the renderer in order: suspects one at a time, after the report of their trial."""
        reports: list[Report] = []
        while self._held and not reports:
            if self._alone and self._jobs:
                break
            self._alone = False
            job = self._held[0]
            key = _key(job)
            if job.suspect and self._jobs:
                break
            if job.suspect and self._announced != key:
                self._announced = key
                return [(Trial(*key), None)]
            self._held.popleft()
            self._announced, self._alone = None, job.suspect
            self._jobs[key] = job
            try:
                self._renderer.submit(job)
            except Exception as error:
                _raise_if_fatal(error)
                reports += self._fail(job, error)
        return reports

    def _track_down(self, error: Exception) -> list[Report]:
        """Find the job that raised: withdraw all jobs without audio for trials, or fail the only candidate."""
        silent = [job for key, job in self._jobs.items() if key not in self._sounding]
        if not silent or len(self._jobs) == 1:
            return self._fail(next(reversed(self._jobs.values())), error)
        suspects = []
        for job in silent:
            key = _key(job)
            if self._renderer.cancel(*key):
                self._leave([key])
                suspects.append(msgspec.structs.replace(job, suspect=True))
            else:  # it has made audio that was not reported
                self._sounding.add(key)
        self._held.extendleft(reversed(suspects))
        return []

    def _fail(self, job: Job, error: Exception) -> list[Report]:
        self._leave([_key(job)])
        self._samples.pop((job.station, job.take), None)
        self._renderer.drop(job.station, job.take)
        failed = failure(job, error)
        self._failures += failed.kind == "internal"
        return [(self._once(failed), None)]

    def _follow(self, reports: list[Report]) -> list[Report]:
        """Record the renderer's reports, and add to each piece its position in its take."""
        followed: list[Report] = []
        for message, pcm in reports:
            if isinstance(message, Piece):
                take = (message.station, message.take)
                at = self._samples.get(take, 0)
                self._samples[take] = at + (0 if pcm is None else len(pcm))
                self._sounding.add((*take, message.number))
                followed.append((msgspec.structs.replace(message, at=at), pcm))
                continue
            if isinstance(message, Done | Failed | Cancelled):
                self._leave([(message.station, message.take, message.number)])
            if isinstance(message, Done):
                self._failures = 0
            elif isinstance(message, Failed):
                self._failures += message.kind == "internal"
                message = self._once(message)
            followed.append((message, pcm))
        return followed

    def _once(self, failed: Failed) -> Failed:
        """The report without its traceback, if one from the same code location was sent before."""
        if failed.detail:
            place = next((line for line in reversed(failed.detail.splitlines()) if line.startswith("  File ")), "")
            if place in self._seen:
                return msgspec.structs.replace(failed, detail="")
            self._seen.append(place)
        return failed

    def _leave(self, keys: list[_Key]) -> None:
        for key in keys:
            self._jobs.pop(key, None)
            self._sounding.discard(key)


def failure(job: Job, error: BaseException) -> Failed:
    """Report of a job that raised; ``detail`` is the traceback of an unexpected exception."""
    key = _key(job)
    if isinstance(error, ParameterError):
        return Failed(*key, "parameter", str(error))
    cause = error.__cause__ if isinstance(error, RiffstreamError) else error
    message = str(error)
    if not isinstance(error, RiffstreamError):
        message = f"the clip could not be made: {type(error).__name__}"
    detail = "" if cause is None else "".join(traceback.format_exception(cause))
    return Failed(*key, "internal", message, detail)


def _raise_if_fatal(error: Exception) -> None:
    if out_of_memory(error) or device_lost(error):
        raise error


def _key(job: Job) -> _Key:
    return job.station, job.take, job.number
