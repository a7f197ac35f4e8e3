"""Single clips: their jobs, what survives the end of a generator, and what does not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import numpy as np
import pytest

from riffstream.config import StationConfig
from riffstream.generator.messages import (
    NO_PCM,
    Cancel,
    Done,
    DropTake,
    Failed,
    Forget,
    Info,
    Job,
    Picture,
    Piece,
    ToGenerator,
    Trial,
)
from riffstream.generator.single_clips import SingleClip, SingleClipError, SingleClips
from riffstream.journey.journey import Journey
from riffstream.station.score import Score

SPEC = Journey.single("jazz").clip(0)


class Generator:
    """What was sent to it."""

    def __init__(self) -> None:
        self.sent: list[ToGenerator] = []
        self.clips = SingleClips(self.take, clock=lambda: 100.0)

    def take(self, messages: Iterable[ToGenerator]) -> None:
        self.sent.extend(messages)

    @property
    def jobs(self) -> list[Job]:
        return [each for each in self.sent if isinstance(each, Job)]

    async def ask(self, **options: object) -> asyncio.Task[SingleClip]:
        task = asyncio.create_task(self.clips.render(SPEC, Info(model="x"), **options))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        return task

    def make(self, job: Job) -> None:
        self.clips.report(Picture(job.station, 0, 0, b"jpeg"), NO_PCM)
        for level in (0.25, 0.5):
            self.clips.report(Piece(job.station, 0, 0), np.full((3, 2), level, np.float32))
        self.clips.report(Done(job.station, 0, 0), NO_PCM)


@pytest.fixture
async def generator() -> Generator:
    made = Generator()
    made.clips.connect()
    return made


async def test_a_request_is_a_job_that_waits_for_music(generator: Generator) -> None:
    asked = await generator.ask(steps=3, mask="top_half", bpm=60.0)
    (job,) = generator.jobs
    assert (job.single, job.final, job.speculative, job.steps, job.mask) == (True, True, True, 3, "top_half")
    assert job.hops == (750.0,) * 8
    assert job.deadline > 100
    generator.make(job)
    clip = await asked
    assert clip.picture == b"jpeg"
    assert clip.pcm[:, 0].tolist() == [0.25] * 3 + [0.5] * 3
    assert generator.sent[-1] == Forget(job.station)
    assert generator.clips.waiting == 0


@pytest.mark.parametrize(("own", "bpm", "hop"), [(96.0, 48.0, 750.0), (None, 60.0, 750.0), (None, 120.0, 375.0)])
async def test_a_clip_has_the_tempo_of_a_station(
    generator: Generator, own: float | None, bpm: float, hop: float
) -> None:
    """Also of a model without a beat grid, whose time a station stretches relative to 120 beats a minute."""
    info = Info(model="x", bpm=own)
    task = asyncio.create_task(generator.clips.render(SPEC, info, bpm=bpm))
    await asyncio.sleep(0)
    (job,) = generator.jobs
    assert job.hops == (hop,) * 8
    score = Score.of(StationConfig(bpm=bpm), info, Journey.single("jazz"))
    assert score.samples_per_beat(score.spec(0, 0.0), 0.0) == hop * info.frames / info.beats
    generator.make(job)
    await task


async def test_a_failure_names_its_kind(generator: Generator) -> None:
    for kind, shown in (("parameter", "parameter"), ("internal", "internal"), ("memory", "internal")):
        asked = await generator.ask()
        generator.clips.report(Failed(generator.jobs[-1].station, 0, 0, kind, "no such seed image"), NO_PCM)
        with pytest.raises(SingleClipError, match="no such seed image") as raised:
            await asked
        assert raised.value.kind == shown


async def test_a_cancelled_request_is_withdrawn(generator: Generator) -> None:
    asked = await generator.ask()
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    name = generator.jobs[0].station
    assert generator.sent[1:] == [Cancel(name, 0, 0), DropTake(name, 0), Forget(name)]
    generator.make(generator.jobs[0])  # it was too late


async def test_the_next_generator_makes_what_the_last_one_did_not(generator: Generator) -> None:
    asked = await generator.ask()
    generator.clips.report(Piece(generator.jobs[0].station, 0, 0), np.ones((3, 2), np.float32))
    generator.clips.disconnect()
    late = await generator.ask()
    assert len(generator.jobs) == 1  # nobody would read it
    generator.clips.connect()
    assert [job.suspect for job in generator.jobs] == [False, True, False]
    for job in generator.jobs[1:]:
        generator.make(job)
    assert len((await asked).pcm) == len((await late).pcm) == 6


async def test_a_move_to_another_generator_is_no_clips_fault(generator: Generator) -> None:
    asked = await generator.ask()
    for _ in range(3):
        generator.clips.report(Trial(generator.jobs[-1].station, 0, 0), NO_PCM)
        generator.clips.disconnect(blame=False)
        generator.clips.connect()
    assert not any(job.suspect for job in generator.jobs)
    generator.make(generator.jobs[-1])
    assert (await asked).picture == b"jpeg"


async def test_a_bystander_of_two_ends_is_tried_again_but_not_their_cause(generator: Generator) -> None:
    cause, bystander = await generator.ask(), await generator.ask()
    generator.clips.disconnect()
    generator.clips.connect()
    generator.clips.report(Trial(generator.jobs[2].station, 0, 0), NO_PCM)
    generator.clips.disconnect()
    with pytest.raises(SingleClipError, match="ended twice"):
        await cause
    generator.clips.connect()
    generator.make(generator.jobs[-1])
    assert (await bystander).picture == b"jpeg"


async def test_closing_fails_what_is_left(generator: Generator) -> None:
    asked = await generator.ask()
    generator.clips.close()
    with pytest.raises(SingleClipError, match="restart"):
        await asked


async def test_reports_about_stations_are_left_alone(generator: Generator) -> None:
    assert not generator.clips.report(Done("main", 0, 0), NO_PCM)
