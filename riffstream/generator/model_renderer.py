"""The renderer with a model: the engine generates clips, and a stream for each take converts them to audio.

It runs in the generator process, or offline in the caller's process. This module imports torch.

Threading model
  One thread makes every call.
"""

from __future__ import annotations

import contextlib
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import torch
from torch import Tensor

from riffstream.diffusion.checkpoint import Checkpoint
from riffstream.diffusion.clip import Clip, ClipRequest
from riffstream.diffusion.engine import Engine
from riffstream.diffusion.family import Family
from riffstream.diffusion.mini.family import MiniFamily
from riffstream.diffusion.mini.likeness import KnownStyles
from riffstream.diffusion.past import Past
from riffstream.diffusion.seed_clip import SeedClip
from riffstream.errors import CheckpointError, MediaError, RiffstreamError, device_lost, out_of_memory
from riffstream.generator.isolation import failure
from riffstream.generator.messages import Cancelled, Done, Info, Job, Picture, Piece
from riffstream.generator.model_info import describe, runtime
from riffstream.generator.pictures import jpeg
from riffstream.generator.renderer import Report
from riffstream.generator.take_stream import TakeStream, reach
from riffstream.generator.work import Work
from riffstream.journey.journey import ClipSpec
from riffstream.models.seeds import SeedLibrary
from riffstream.models.songs import Songs
from riffstream.models.uploads import INPUT_NAME, INPUTS, SeedSources, UploadedSeeds
from riffstream.protocol import SAMPLE_RATE, Likeness
from riffstream.spectrogram.params import SpectrogramParams
from riffstream.spectrogram.separate import drum_mask
from riffstream.spectrogram.vocoder import Vocoder

__all__ = ["ModelRenderer", "make_renderer"]

KEPT_CLIPS: Final = 12  # per station: clips ahead, and recent clips for tempo and key changes
OVERLAP: Final = 0.25  # part of a clip that repeats the previous one, for models without native continuation

_Take = tuple[str, int]


@dataclass(slots=True)
class _Memory:
    """Recent clips of a station: clip -> (mel, past of the take after it)."""

    clips: OrderedDict[int, tuple[Tensor, Past]] = field(default_factory=OrderedDict)

    def keep(self, clip: int, mel: Tensor, past: Past) -> None:
        self.clips[clip] = (mel, past)
        while len(self.clips) > KEPT_CLIPS:
            self.clips.popitem(last=False)


class ModelRenderer:
    """Renderer that samples clips with an engine and converts them to audio with a vocoder.

    Args:
        engine: engine of the model.
        vocoder: vocoder with the model's spectrogram parameters.
        inputs: images of live inputs; None: there is no live input.
        exact: True fails a clip without the image of its live input; False renders it without the input.
        clock: clock for measuring the cost of work, seconds.
    """

    def __init__(
        self,
        engine: Engine,
        vocoder: Vocoder,
        *,
        inputs: UploadedSeeds | None = None,
        exact: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._inputs, self._exact = inputs, exact
        self._engine, self._vocoder, self._clock = engine, vocoder, clock
        family = engine.family
        self._rate = family.params.sample_rate
        self._skip = 0 if family.continues else _overlap_frames(family)
        self._info = describe(family, family.frames - self._skip)
        self.on_clip: Callable[[Job, np.ndarray], None] | None = None
        self._works: deque[Work] = deque()
        self._streams: dict[_Take, TakeStream] = {}
        self._memory: dict[str, _Memory] = {}
        self._styles = KnownStyles.load() if isinstance(family, MiniFamily) else None
        self._told: dict[str, list[str]] = {}  # texts whose likeness was sent last, by station

    @property
    def info(self) -> Info:
        """Properties of the model; ``runtime`` is that of this moment."""
        now = runtime(self._engine.family)
        if now != self._info.runtime:
            self._info = msgspec.structs.replace(self._info, runtime=now)
        return self._info

    @property
    def params(self) -> SpectrogramParams:
        """Spectrogram parameters of the model."""
        return self._engine.family.params

    @property
    def pending(self) -> int:
        """Jobs in hand."""
        return len(self._works)

    def submit(self, job: Job) -> None:
        """Accept a job; its clip is sampled unless it is known."""
        work = Work(job, job.frames or self.info.frames, received_s=self._clock())
        known = self._clips(job.station).get(job.clip)
        if known is not None:
            work.mel = known[0]
            work.frames = work.mel.shape[-1]
        else:
            work.drafting = 0 < job.draft_end <= work.frames and not self._skip
        self._works.append(work)

    def cancel(self, station: str, take: int, number: int) -> list[Report]:
        """Drop a job without audio so far."""
        for work in self._works:
            if work.take == (station, take) and work.job.number == number and not work.begun:
                self._remove(work)
                return [(Cancelled(station, take, number), None)]
        return []

    def drop(self, station: str, take: int) -> None:
        """Discard a take and its jobs."""
        for work in [work for work in self._works if work.take == (station, take)]:
            self._remove(work)
        self._streams.pop((station, take), None)

    def forget(self, station: str) -> None:
        """Forget a station."""
        for work in [work for work in self._works if work.job.station == station]:
            self._remove(work)
        self._streams = {key: stream for key, stream in self._streams.items() if key[0] != station}
        self._memory.pop(station, None)
        self._told.pop(station, None)

    def step(self) -> list[Report]:
        """Do one evaluation of the network or a beat of audio, by the earlier deadline."""
        reports = self._start()
        sounding = [work for work in self._works if work.sounding]
        sampling = [work for work in self._works if work.ticket is not None]
        if sounding:
            work = min(sounding, key=lambda each: each.urgency)
            if not sampling or work.urgency <= min(each.urgency for each in sampling):
                try:
                    return reports + self._sound(work)
                except Exception as error:
                    if out_of_memory(error) or device_lost(error):
                        raise
                    self._streams.pop(work.take, None)
                    return [*reports, self._fail(work, error)]
        if sampling:
            reports += self._tick(sampling)
        return reports

    # -- sampling -------------------------------------------------------------------------------------------------

    def _start(self) -> list[Report]:
        """Submit the clips that are ready to the engine. A continuation waits for its previous clip."""
        reports: list[Report] = []
        under_way = {(work.job.station, work.job.clip) for work in self._works}
        for work in list(self._works):
            job = work.job
            if work.ticket is not None or work.mel is not None:
                continue
            before = self._clips(job.station).get(job.previous) if job.previous is not None else None
            if job.previous is not None and before is None and (job.station, job.previous) in under_way:
                continue
            try:
                spec, seed_image = self._heard(job)
            except RiffstreamError as error:
                reports.append(self._fail(work, error))
                continue
            try:
                request = ClipRequest(
                    spec,
                    seed_image=seed_image,
                    steps=job.steps,
                    turn=work.turn,
                    guided=job.guided,
                    mask=job.mask,
                    deadline=work.urgency[1],
                    speculative=job.speculative,
                    frames=job.frames,
                    key=job.key,
                    rev=job.rev,
                    station=job.station,
                    **self._continued(job),
                )
                work.ticket = self._engine.submit(work.draft_request(request) if work.drafting else request)
            except Exception as error:  # of this clip's text, seed image, mask or past; other clips continue
                if not isinstance(error, RiffstreamError) and (out_of_memory(error) or device_lost(error)):
                    raise
                reports.append(self._fail(work, error))
        return reports

    def _continued(self, job: Job) -> dict[str, Any]:
        """Fields of a request about the earlier clip that a job continues."""
        before, family = self._past(job), self._engine.family
        if before is None:
            return {}
        return before.opening(job.spec, family) if job.previous is None else before.continuation(job.spec, family)

    def _past(self, job: Job) -> Past | None:
        """The past of the earlier clip that a job continues, if it is known."""
        clips, clip = self._clips(job.station), job.sound if job.previous is None else job.previous
        if clip is None or clip not in clips:
            return None
        clips.move_to_end(clip)  # clips of superseded steers do not displace the sound of the next one
        return clips[clip][1]

    def _heard(self, job: Job) -> tuple[ClipSpec, SeedClip | None]:
        """Parameters of a clip and its live input, turned to the clip's beats; None without input.

        Raises:
            MediaError: ``exact`` is set, and the input's image is missing or damaged.
        """
        image, family = job.input, self._engine.family
        if image is None:
            return job.spec, None
        try:
            heard = None if self._inputs is None else self._inputs.load(image.name, family)
        except MediaError:
            heard = None
        if heard is None:
            if self._exact:
                raise MediaError(f"the live input's image {image.name} is missing; --state-dir is the server's folder")
            return job.spec, None
        width = family.latent_shape(job.frames)[2]
        beats = len(job.hops)
        width = min(width, heard.latents.shape[-1])
        heard = heard.fitted(width).rolled(-round(image.turn * width / beats))
        # Sampling starts at 1 - strength itself: at half of it rests, levels and notes of the performer stay.
        distance = family.distance(1 - image.strength)
        start, end = (replace(each, denoising=distance) for each in (job.spec.start, job.spec.end))
        return replace(job.spec, start=start, end=end), heard

    def _tick(self, sampling: list[Work]) -> list[Report]:
        reports: list[Report] = []
        for clip in self._engine.tick():
            work = next((each for each in sampling if each.ticket is not None and each.ticket.clip is clip), None)
            if work is None:
                continue
            self._receive(work, clip)
            if work.job.single:
                picture = jpeg(clip.mel.numpy(), self._engine.family.params)
                reports.append((Picture(work.job.station, work.job.take, work.job.number, picture), None))
        return reports + [
            self._fail(work, work.ticket.error)
            for work in sampling
            if work.ticket is not None and work.ticket.error is not None
        ]

    def _receive(self, work: Work, clip: Clip) -> None:
        drafting = work.drafting
        work.sampled(clip)
        if drafting:
            return
        work.mel = clip.mel if work.job.single else clip.mel[..., max(self._skip, clip.overlap_frames) :]
        work.frames = work.mel.shape[-1]
        memory = self._memory.setdefault(work.job.station, _Memory())
        job = work.job
        family, steered = self._engine.family, job.previous is None
        past = Past.after(
            self._past(job), job.spec, clip.latents, work.mel, family, steered=steered, opening=clip.opening
        )
        memory.keep(job.clip, work.mel, past)
        if self.on_clip is not None:
            self.on_clip(work.job, work.mel.numpy())

    def _fail(self, work: Work, error: Exception) -> Report:
        self._remove(work)
        return failure(work.job, error), None

    def _remove(self, work: Work) -> None:
        if work in self._works:
            self._works.remove(work)
        if work.ticket is not None and not work.ticket.done:
            self._engine.cancel(work.ticket)

    def _clips(self, station: str) -> OrderedDict[int, tuple[Tensor, Past]]:
        return self._memory.setdefault(station, _Memory()).clips

    # -- audio ----------------------------------------------------------------------------------------------------

    def _sound(self, work: Work) -> list[Report]:
        """The next piece of a clip."""
        begin = self._clock()
        job = work.job
        piece = work.piece()
        hop = piece.hop * self._rate / SAMPLE_RATE
        stream = self._stream(work.take, piece.mel.shape[0], stems=job.stems)
        # Families that repeat the end of the previous clip have its own frames at the join.
        hold = reach(self._vocoder.geometry.window, hop) if work.ended and not job.final and not self._skip else 0
        mask = None
        if job.stems:
            before = self._clips(job.station).get(job.previous) if job.previous is not None else None
            mask = drum_mask(piece.source, piece.first, piece.last, None if before is None else before[0])
        pcm = stream.push(piece.mel, hop, job.key, hold, mask)
        if work.ended and job.final:
            pcm = np.concatenate([pcm, stream.flush()])
        work.vocoder_s += self._clock() - begin
        reports: list[Report] = []
        if len(pcm):
            likeness, stages = self._likeness(job), work.first_stages(self._clock())
            piece_of = Piece(job.station, job.take, job.number, likeness=likeness, stages=stages, trace=job.trace)
            reports.append((piece_of, pcm))
        if work.ended:
            self._works.remove(work)
            done = Done(job.station, job.take, job.number, work.sampling_s, work.vocoder_s, work.evaluations)
            reports.append((done, None))
        return reports

    def _likeness(self, job: Job) -> tuple[Likeness, ...]:
        """Likeness of a job's prompts to known styles, once for each text."""
        if self._styles is None or self._told.get(job.station) == (texts := [part.text for part in job.spec.prompts]):
            return ()
        self._told[job.station] = texts
        found = [(text, self._styles.nearest(self._engine.encoder.encode(text).pooled()[0])) for text in texts]
        return tuple(Likeness(text=text, style=near[0], score=near[1]) for text, near in found if near is not None)

    def _stream(self, take: _Take, channels: int, *, stems: bool = False) -> TakeStream:
        if take not in self._streams:
            self._streams[take] = TakeStream(self._vocoder, channels, stems=stems)
        return self._streams[take]


def _overlap_frames(family: Family) -> int:
    """Number of frames at the beginning of a clip that repeat the previous one (see ``slots.py``)."""
    width = family.latent_shape()[2]
    columns = min(max(1, round(OVERLAP * width)), width - 1)
    return round(columns * family.frames / width)


def make_renderer(options: dict[str, Any], progress: Callable[[str], None], *, files: bool = False) -> ModelRenderer:
    """Load a model and warm it up.

    Args:
        options: the fields of the configuration's ``generator`` section; ``uploads``: folder of uploaded seed images;
            ``songs``: fields of :class:`~riffstream.models.songs.Song` by name.
        progress: called with a description of each activity.
        files: True allows files of this machine as seed images.

    Raises:
        RiffstreamError: the checkpoint cannot be loaded, or an option is not allowed.
    """
    if options.get("threads"):
        torch.set_num_threads(int(options["threads"]))
    progress(f"loading {options['model']}")
    family = Checkpoint.load(
        options["model"],
        revision=options.get("revision") or None,
        device=_device(options.get("device", "auto"), options.get("worker", 0)),
        dtype=options.get("dtype", "auto"),
        lora=tuple(options.get("lora") or ()),
        progress=False,
        runtime=options.get("runtime", "torch"),
    )
    given = {name: options[name] for name in ("guidance", "denoising", "seed_image") if options.get(name) is not None}
    if given:
        family.defaults = replace(family.defaults, **given)
    if options.get("steps"):
        family.defaults = replace(family.defaults, steps=int(options["steps"]))
    engine = Engine(
        family,
        max_batch=options.get("max_batch", 16),
        sampler=options.get("sampler"),
        seeds=_seeds(options.get("model", "mini"), options.get("uploads"), options.get("songs") or {}),
        files=files,
        overlap=OVERLAP,
    )
    vocoder = Vocoder(
        family.params,
        method=options.get("vocoder", "pghi"),
        iterations=options.get("vocoder_iterations"),
        device=family.device if family.device.type == "cuda" else "cpu",
    )
    if isinstance(family, MiniFamily) and family.compiled is not None and files:
        progress("waiting for OpenVINO's network; a first start converts it")
        family.compiled.patient = True
    progress(f"warming up {family.name} on {family.device}")
    engine.warm_up()
    uploads = options.get("uploads")
    inputs = None if uploads is None else UploadedSeeds(Path(uploads) / INPUTS, INPUT_NAME)
    return ModelRenderer(engine, vocoder, inputs=inputs, exact=files)


def _device(device: str, worker: int) -> str:
    """Device of a worker: of several GPUs, the workers take one after the other."""
    gpus = torch.cuda.device_count() if worker and device in ("auto", "cuda") else 0
    return f"cuda:{worker % gpus}" if gpus else device


def _seeds(model: str, uploads: str | None = None, songs: Mapping[str, Any] | None = None) -> SeedSources:
    sources: list[SeedLibrary | UploadedSeeds | Songs] = [Songs.of(songs)] if songs else []
    if uploads is not None:
        sources.append(UploadedSeeds(Path(uploads)))
    with contextlib.suppress(CheckpointError):  # prompts also play without the seed library
        sources.append(SeedLibrary.of(model))
    return SeedSources(*sources)
