"""Estimates of rendering times, and the choice of effort by the time left. No clock of its own."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

import msgspec

from riffstream.generator.messages import Info, Job

__all__ = ["Effort"]

SMOOTHING: Final = 0.3  # weight of the newest measurement
SLOWER: Final = 0.6  # weight of one above the estimate: being late is worse than being early
SHARE: Final = (1.0, 0.65, 0.3)  # cost of a clip at each level
STEPS: Final = (1.0, 0.6, 0.5)


class Effort:
    """Estimates of rendering times, and the current level of effort.

    Attributes:
        first_s: seconds from sending a job to its first audio, at full effort.
        done_s: seconds from sending a job to its last audio, at full effort.
        vocoder_s: seconds to the first audio of a known clip.
        level: 0 full effort, 1 fewer steps, 2 fewer steps without guidance.
        late: number of clips with lowered effort.
        adaptive: False offline, without deadlines.
    """

    def __init__(self, first_s: float = 0.6, done_s: float = 0.9, vocoder_s: float = 0.08) -> None:
        self.first_s, self.done_s, self.vocoder_s = first_s, done_s, vocoder_s
        self.level = self.late = 0
        self.adaptive = True

    def first(self, seconds: float, *, reused: bool, level: int = 0) -> None:
        """Record the time to the first audio of a job at ``level``."""
        if reused:
            self.vocoder_s = _mean(self.vocoder_s, seconds)
        else:
            self.first_s = _mean(self.first_s, seconds / SHARE[level])

    def done(self, seconds: float, *, level: int = 0) -> None:
        """Record the total time of a clip sampled at ``level``."""
        self.done_s = _mean(self.done_s, seconds / SHARE[level])

    def hasty(self, limit_s: float) -> int:
        """Level for the first clip of a steer: lowered if the clip would take longer than ``limit_s``."""
        return max(self.level, 1) if self.adaptive and self.first_s > limit_s else self.level

    def assess(self, margin_s: float) -> int:
        """Choose the level for a clip with ``margin_s`` seconds left."""
        if not self.adaptive:
            return 0
        if margin_s < self.done_s * 0.8:
            self.level = 2
        elif margin_s < self.done_s * 1.2:
            self.level = 1
        elif margin_s > self.done_s * 1.5:
            self.level = 0
        self.late += self.level > 0
        return self.level

    @staticmethod
    def eased(job: Job, info: Info, level: int) -> Job:
        """A job at a level."""
        if level == 0:
            return job
        steps = max(2, math.ceil((job.steps or info.steps) * STEPS[level]))
        spec = job.spec
        if level == 2:
            spec = replace(spec, start=replace(spec.start, guidance=1.0), end=replace(spec.end, guidance=1.0))
        return msgspec.structs.replace(job, steps=min(steps, job.steps or info.steps), spec=spec)


def _mean(old: float, new: float) -> float:
    weight = SLOWER if new > old else SMOOTHING
    return (1 - weight) * old + weight * new
