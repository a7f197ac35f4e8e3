"""The audio of one seed image, between the clips of the stations."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
import torch
from PIL import Image

from riffstream.audio.resample import resample
from riffstream.generator.messages import NO_PCM, Done, DropTake, Failed, Forget, Info, Job, Piece, ToGenerator
from riffstream.generator.model_renderer import make_renderer
from riffstream.generator.renderer import Renderer, ToneRenderer
from riffstream.models.seeds import SeedLibrary
from riffstream.spectrogram.analysis import analyse
from riffstream.spectrogram.params import SpectrogramParams
from riffstream.station.audition import AUDITION, AuditionError, Auditions, seed_job

INFO = Info(model="tone")


def played(renderer: Renderer, job: Job) -> np.ndarray:
    renderer.submit(job)
    pieces = []
    while renderer.pending:
        pieces += [pcm for message, pcm in renderer.step() if isinstance(message, Piece) and pcm is not None]
    return np.concatenate(pieces)


def test_a_seed_has_its_own_tempo_and_metre() -> None:
    assert len(played(ToneRenderer(), seed_job(INFO, "x", bpm=96.0))) == 8 * 30_000
    job = seed_job(INFO, "x", bpm=96.0, beats=6, key=-2.0)
    assert (job.frames, len(job.hops), job.key) == (384, 6, -2.0)
    assert job.speculative  # every clip of a station comes first


def test_a_library_seed_sounds_like_its_picture() -> None:
    """Of all pictures of the library, the seed's own is the nearest to the spectrogram of its audio."""
    renderer = make_renderer({"model": "mini", "threads": 1}, lambda text: None)
    library = SeedLibrary()
    entry = next(each for each in library.entries if each.beats == 8)
    wave = played(renderer, seed_job(renderer.info, entry.name, bpm=entry.bpm, beats=entry.beats))
    assert len(wave) == pytest.approx(entry.beats * 60 / entry.bpm * 48_000, abs=2)
    mono = resample(wave, 48_000, SpectrogramParams.mini().sample_rate).mean(1)
    mel = analyse(torch.from_numpy(mono[None]), SpectrogramParams.mini(), hop=len(mono) / 512, frames=512)[0]
    heard = np.log(mel.numpy() + 1e-3).ravel()

    def likeness(name: str) -> float:
        image = Image.fromarray(library.picture(name)).convert("L").resize((512, 256))
        shade = 255.0 - np.asarray(image, dtype=float)[::-1]
        return float(np.corrcoef(shade.ravel(), heard)[0, 1])

    found = sorted(library.names, key=likeness)
    assert found[-1] == entry.name
    assert likeness(entry.name) > 0.8


async def test_the_generator_forgets_a_seed_after_its_audio() -> None:
    sent: list[ToGenerator] = []
    auditions = Auditions(sent.extend)
    asked = asyncio.create_task(auditions.render(INFO, "x", bpm=120.0, key=0.0, beats=8))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    (job,) = sent
    assert isinstance(job, Job)
    auditions.report(Piece(AUDITION, job.take + 1, 0), np.ones((9, 2), np.float32))  # of an earlier one
    auditions.report(Piece(AUDITION, job.take, 0), np.ones((3, 2), np.float32))
    auditions.report(Done(AUDITION, job.take, 0), NO_PCM)
    assert (await asked).shape == (3, 2)
    assert sent[1:] == [DropTake(AUDITION, job.take), Forget(AUDITION)]


async def test_failures_losses_and_long_waits_are_errors_and_the_next_one_works() -> None:
    sent: list[ToGenerator] = []
    auditions = Auditions(sent.extend, timeout_s=0.3)

    async def ask() -> int:
        return len(await auditions.render(INFO, "x", bpm=120.0, key=0.0, beats=8))

    def job() -> Job:
        return next(each for each in reversed(sent) if isinstance(each, Job))

    for end, words in (
        (
            lambda: auditions.report(Failed(AUDITION, job().take, 0, "parameter", "no such seed"), NO_PCM),
            "no such seed",
        ),
        (lambda: auditions.lost("killed"), "the generator ended: killed"),
        (lambda: None, "busy"),
    ):
        asked = asyncio.create_task(ask())
        waiting = asyncio.create_task(ask())
        await asyncio.sleep(0.01)
        end()
        with pytest.raises(AuditionError, match=words):
            await asked
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    asked = asyncio.create_task(ask())
    await asyncio.sleep(0.01)
    auditions.report(Piece(AUDITION, job().take, 0), np.ones((5, 2), np.float32))
    auditions.report(Done(AUDITION, job().take, 0), NO_PCM)
    assert await asked == 5
