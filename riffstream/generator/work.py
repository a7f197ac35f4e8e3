"""A job on its way through the model renderer, and its division into pieces of audio.

A job may have a draft: the same clip with fewer sampler steps, which provides the first audio while the clip itself is
sampled. Both begin with the same noise and follow the same flow, so that they differ by about a decibel: the change
from one to the other is a slope of ``BLEND`` frames.

Threading model
  One thread makes every call (the renderer's).
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import msgspec
import torch
from torch import Tensor

from riffstream.diffusion.clip import Clip, ClipRequest
from riffstream.diffusion.slots import Ticket
from riffstream.generator.messages import Job, Stages
from riffstream.protocol import SAMPLE_RATE

__all__ = ["BLEND", "Frames", "Work"]

BLEND: Final = 8  # frames from the draft to the clip
QUICK_S: Final = 1.0  # audio of a job that is rendered in halves of beats, because a splice waits for it
QUIET: Final = 1e-5  # added before the logarithm


class Frames(NamedTuple):
    """Frames of a job.

    Attributes:
        mel: [A, M, t] amplitudes.
        hop: samples from frame to frame at 48 kHz.
        source: [A, M, T], the draft or the clip.
        first, last: position of the frames in ``source``.
    """

    mel: Tensor
    hop: float
    source: Tensor
    first: int
    last: int


@dataclass(slots=True, eq=False)
class Work:
    """A job in progress.

    Attributes:
        job: the job.
        frames: T, frames of the clip.
        ticket: ticket in the engine, of the draft or of the clip; None while neither is sampled.
        drafting: True until the draft is sampled.
        mel: [A, M, T] of the clip.
        draft: [A, M, t] of the draft, from frame ``job.start_frame`` on.
        turn: the try that the draft chose; None: there is no draft.
        received_s: time at which the job came, by the renderer's clock, seconds.
        stages: times of the stages so far.
        told: True once the stages were reported.
        frame: first frame without audio.
        sent_s: duration of the audio so far, seconds.
    """

    job: Job
    frames: int
    ticket: Ticket | None = None
    drafting: bool = False
    received_s: float = 0.0
    stages: Stages = field(default_factory=Stages)
    told: bool = False
    mel: Tensor | None = None
    draft: Tensor | None = None
    turn: int | None = None
    frame: int = field(init=False)
    sent_s: float = 0.0
    evaluations: int = 0
    sampling_s: float = 0.0
    vocoder_s: float = 0.0

    def __post_init__(self) -> None:
        self.frame = self.job.start_frame

    @property
    def take(self) -> tuple[str, int]:
        """Station and number of the take."""
        return self.job.station, self.job.take

    @property
    def begun(self) -> bool:
        """Whether the job has audio."""
        return self.frame > self.job.start_frame

    @property
    def ended(self) -> bool:
        """Whether the job has all its audio."""
        return self.frame >= self.frames

    @property
    def urgency(self) -> tuple[bool, float]:
        """Order of jobs: the audio so far defers the rest."""
        return self.job.speculative, self.job.deadline + self.sent_s

    @property
    def sounding(self) -> bool:
        """Whether the next piece can be converted to audio."""
        return self.mel is not None or (self.draft is not None and self.frame < self.job.draft_end)

    def draft_request(self, request: ClipRequest) -> ClipRequest:
        """The request for the draft, from the request for the clip."""
        job = self.job
        end = min(self.frames, job.draft_end + BLEND)
        return replace(request, steps=job.draft_steps, span=(job.start_frame, end))

    def sampled(self, clip: Clip) -> None:
        """Take over a draft, or the clip, and its cost."""
        self.ticket = None
        self.evaluations += clip.evaluations
        self.sampling_s += clip.seconds
        stages = self.stages
        self.stages = Stages(
            text_s=stages.text_s + clip.prepare_s,
            denoise_s=stages.denoise_s + clip.seconds - clip.prepare_s - clip.decode_s,
            decode_s=stages.decode_s + clip.decode_s,
        )
        if self.drafting:
            self.draft, self.turn, self.drafting = clip.mel, clip.turn, False

    def first_stages(self, now: float) -> Stages | None:
        """The stages of the first piece, which is ready at ``now``; None for the others."""
        if self.told:
            return None
        self.told = True
        busy = self.sampling_s + self.vocoder_s
        queue_s = max(0.0, now - self.received_s - busy)
        return msgspec.structs.replace(self.stages, queue_s=queue_s, vocode_s=self.vocoder_s)

    def piece(self) -> Frames:
        """Take the next frames, of one beat or less.

        ``Frames.source`` is the draft or the clip, and the frames are at ``first`` to ``last`` in it.
        """
        job = self.job
        beats = len(job.hops)
        edges = [round(beat * self.frames / beats) for beat in range(beats + 1)]
        beat = bisect_right(edges, self.frame) - 1
        first, last = self.frame, edges[beat + 1]
        if self.sent_s < QUICK_S and job.number == 0:
            half = (edges[beat + 1] - edges[beat] + 1) // 2
            if last - first > half + half // 4:
                last = first + half
        self.frame = last
        if self.draft is not None and first < job.draft_end:
            self.frame = last = min(last, job.draft_end)
            source, offset = self.draft, job.start_frame
        else:
            assert self.mel is not None
            source, offset = self.mel, 0
        mel = source[..., first - offset : last - offset]
        if self.draft is not None and first == job.draft_end:
            mel = self._blended(mel)
        self.sent_s += (last - first) * job.hops[beat] / SAMPLE_RATE
        return Frames(mel, job.hops[beat], source, first - offset, last - offset)

    def _blended(self, mel: Tensor) -> Tensor:
        """The first frames of the clip after the draft, with the slope from the draft, in decibels."""
        assert self.draft is not None
        tail = self.draft[..., self.job.draft_end - self.job.start_frame :][..., : mel.shape[-1]]
        n = tail.shape[-1]
        share = torch.arange(1, n + 1, dtype=mel.dtype) / (n + 1)
        way = torch.lerp((tail + QUIET).log(), (mel[..., :n] + QUIET).log(), share).exp() - QUIET
        self.draft = None
        return torch.cat([way.clamp_min(0), mel[..., n:]], -1)
