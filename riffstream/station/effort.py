"""Estimates of rendering times, and the choice of effort by the time left. No clock of its own.

``info`` always means the model's properties for the clip in question (``Score.info_of``).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

import msgspec

from riffstream.generator.messages import Info, Job
from riffstream.protocol import SAMPLE_RATE

__all__ = ["Effort", "left_out"]

SMOOTHING: Final = 0.3  # weight of the newest measurement
SLOWER: Final = 0.6  # weight of one above the estimate: being late is worse than being early
SHARE: Final = (1.0, 0.65, 0.3)  # cost of a clip at each level
STEPS: Final = (1.0, 0.6, 0.5)
DRAFT_STEPS: Final = 3  # sampler steps of a draft; a clip needs at least twice as many
DRAFT_OVER_S: Final = 0.12  # time to the first audio of a clip, at full effort, above which a draft is faster
DRAFT_SPARE_S: Final = 0.4  # audio of a draft besides twice the time of the clip itself


class Effort:
    """Estimates of rendering times, and the current level of effort.

    Attributes:
        first_s: seconds from sending a job to its first audio, at full effort.
        done_s: seconds from sending a job to its last audio, at full effort.
        vocoder_s: seconds to the first audio of a known clip.
        draft_s: seconds to the first audio of a draft.
        level: 0 full effort, 1 fewer steps, 2 fewer steps without guidance. For models that can do without guidance
            (``Info.spare``): 0 with guidance, 1 without, 2 fewer steps as well.
        late: number of clips with lowered effort; guidance that a model can do without does not count.
        adaptive: False offline, without deadlines.
    """

    def __init__(
        self, first_s: float = 0.6, done_s: float = 0.9, vocoder_s: float = 0.08, draft_s: float = 0.3
    ) -> None:
        self.first_s, self.done_s, self.vocoder_s, self.draft_s = first_s, done_s, vocoder_s, draft_s
        self.level = self.late = 0
        self.adaptive = True

    def first(self, seconds: float, *, reused: bool, level: int = 0, drafted: bool = False) -> None:
        """Record the time to the first audio of a job at ``level``."""
        if reused:
            self.vocoder_s = _mean(self.vocoder_s, seconds)
        elif drafted:
            self.draft_s = _mean(self.draft_s, seconds)
        else:
            self.first_s = _mean(self.first_s, seconds / SHARE[level])

    def done(self, seconds: float, *, level: int = 0) -> None:
        """Record the total time of a clip sampled at ``level``."""
        self.done_s = _mean(self.done_s, seconds / SHARE[level])

    def drafts(self, info: Info, steps: int | None = None) -> bool:
        """Whether the first clip of a change gets a draft, with ``steps`` sampler steps of the clip itself."""
        slow = self.adaptive and not left_out(info, self.level) and self.first_s > DRAFT_OVER_S
        return slow and info.drafts and (steps or info.steps) >= 2 * DRAFT_STEPS

    def opening_s(self, info: Info, steps: int | None = None) -> float:
        """Seconds to the first audio of a change; without guidance where the model can."""
        if self.drafts(info, steps):
            return self.draft_s
        return self.first_s * (SHARE[1] if info.spare and self.adaptive else 1)

    def drafted(self, job: Job, info: Info) -> Job:
        """The first job of a change, with a draft if it gets one.

        The draft lasts to a beat, for twice as long as the clip itself needs at least, so that it never runs out.
        """
        if not self.drafts(info, job.steps):
            return job
        per_beat = info.frames / info.beats
        need = (2 * self.first_s * (SHARE[1] if info.spare else 1) + DRAFT_SPARE_S) * SAMPLE_RATE
        end, beat = job.start_frame, math.floor(job.start_frame / per_beat)
        while need > 0 and beat < info.beats:
            following = round((beat + 1) * per_beat)
            need -= (following - end) * job.hops[beat]
            end, beat = following, beat + 1
        return msgspec.structs.replace(job, draft_steps=DRAFT_STEPS, draft_end=end)

    def hasty(self, limit_s: float, info: Info, steps: int | None = None) -> int:
        """Level for the first clip of a steer: lowered if its audio would take longer than ``limit_s``."""
        late = self.adaptive and self.opening_s(info, steps) > limit_s
        return max(self.level, 2 if info.spare else 1) if late else self.level

    def opening(self, job: Job, info: Info) -> Job:
        """The first job of a take, for which somebody waits: without guidance where the model can."""
        return job if self.keeps_guidance(info) else msgspec.structs.replace(job, guided=False)

    def keeps_guidance(self, info: Info) -> bool:
        """Whether the first clip of a take has guidance."""
        return not (self.adaptive and info.spare)

    def assess(self, margin_s: float, info: Info) -> int:
        """Choose the level for a clip with ``margin_s`` seconds left."""
        if not self.adaptive:
            return 0
        # Fewer steps only where a clip without guidance would be late, too.
        least = SHARE[1] if info.spare else 0.8
        if margin_s < self.done_s * least:
            self.level = 2
        elif margin_s < self.done_s * 1.2:
            self.level = 1
        elif margin_s > self.done_s * 1.5:
            self.level = 0
        self.late += left_out(info, self.level) != ""
        return self.level

    @staticmethod
    def eased(job: Job, info: Info, level: int) -> Job:
        """A job at a level."""
        if level == 0:
            return job
        spec = job.spec
        if info.spare:
            job = msgspec.structs.replace(job, guided=False)
            if level == 1:
                return job
        steps = max(2, math.ceil((job.steps or info.steps) * STEPS[level]))
        if level == 2:
            spec = replace(spec, start=replace(spec.start, guidance=1.0), end=replace(spec.end, guidance=1.0))
        return msgspec.structs.replace(job, steps=min(steps, job.steps or info.steps), spec=spec)


def left_out(info: Info, level: int) -> str:
    """What a level leaves out, in words; "" for nothing that the model needs."""
    return (("", "", "fewer steps") if info.spare else ("", "fewer steps", "no guidance"))[level]


def _mean(old: float, new: float) -> float:
    weight = SLOWER if new > old else SMOOTHING
    return (1 - weight) * old + weight * new
